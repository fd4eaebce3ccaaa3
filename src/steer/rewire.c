/* The policy "rewire": what it adds, and when it is fitted. */
#include "steer/rewire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/parameters.h"
#include "run/session.h"

/* ---- hooks ---- */

static void add_delta(void *self, const jt_route_site *site, float *logits,
                      int n_tokens, int n_experts)
{
    const jt_rewire *w = self;
    const float *delta = w->delta + (size_t)site->layer * w->n_rows;
    for (int t = 0; t < n_tokens; t++) {
        float *row = logits + (size_t)t * (size_t)n_experts;
        for (int e = 0; e < n_experts; e++)
            row[e] += delta[e];
    }
}

/* -1/k sum log p of a token's experts. */
static double confidence_of(const jt_route *route, size_t t)
{
    size_t k = (size_t)route->k, rows = (size_t)route->n_rows;
    const float *scores = route->scores + t * rows;
    double sum = 0.0, all = 0.0;
    int used = 0;
    for (size_t e = 0; e < rows; e++)
        all += (double)scores[e];
    for (size_t j = 0; j < k; j++) {
        int32_t e = route->expert[t * k + j];
        if (e < 0 || !(scores[e] > 0.0f))
            continue;
        sum -= log((double)scores[e] / all);
        used++;
    }
    return used ? sum / used : 0.0;
}

static void hear_route(void *self, const jt_route_site *site, jt_route *route)
{
    jt_rewire *w = self;
    for (size_t t = 0; w->listens && t < (size_t)route->n_tokens; t++)
        w->confidence[site->layer] += confidence_of(route, t);
}

/* ---- when ---- */

/* A text that is not the one that was fitted to. */
static void forget(jt_rewire *w, jt_session *s)
{
    size_t bytes = w->n_layers * w->n_rows * sizeof(float);
    memset(w->delta, 0, bytes);
    memset(w->mean, 0, bytes);
    memset(w->square, 0, bytes);
    w->updates = 0;
    w->fitted = 0;
    if (!w->stale)
        jt_session_rewind(s, 0);
}

/* The tokens that the next fit is to see: those before `passed` have no use for one of
 * their own any more. */
static size_t next_fit(const jt_rewire *w, size_t known, size_t passed)
{
    size_t every = (size_t)w->every;
    size_t next = w->fitted ? w->fitted + every : (size_t)w->prompt;
    if (next == 0)
        next = known; /* the prompt is what comes first */
    if (next < 2)
        next = 2;
    while (next + every <= passed)
        next += every;
    return next;
}

/* A fit to the first n tokens comes just before the last of them is run: what that one
 * says is the first that nobody has seen. Where nobody hears what earlier tokens say,
 * it comes before they are run, too. */
static jt_status before(void *self, jt_session *s, size_t known, bool heard,
                        size_t *until, jt_err *err)
{
    jt_rewire *w = self;
    size_t length = (size_t)s->length;
    if (length < w->fitted)
        forget(w, s);
    size_t next = next_fit(w, known, heard ? length + 1 : known);
    *until = known;
    if (next > known)
        return JT_OK;
    if (heard && length + 1 < next) {
        *until = next - 1;
        return JT_OK;
    }
    JT_TRY(jt_rewire_fit(w, s, next, err));
    w->fitted = next;
    if (next + (size_t)w->every - 1 < known)
        *until = next + (size_t)w->every - 1;
    if (!w->stale)
        jt_session_rewind(s, 0);
    return JT_OK;
}

static jt_status attach(void *self, jt_session *session, const jt_hooks *all,
                        jt_err *err)
{
    (void)all;
    if (session->attendant.before)
        return jt_fail(err, JT_E_ARG, "policy 'rewire' is there twice");
    session->attendant = (jt_attendant){self, before};
    return JT_OK;
}

/* ---- memory ---- */

static void measure_rows(jt_rewire *w, const jt_scope *scope)
{
    w->n_layers = (size_t)scope->model->params.n_layers;
    for (size_t i = 0; i < w->n_layers; i++) {
        const jt_layer *layer = &scope->model->layers[i];
        size_t rows =
            layer->is_mixture ? (size_t)jt_router_rows(&layer->mixture.router) : 0;
        w->n_rows = rows > w->n_rows ? rows : w->n_rows;
    }
}

static jt_status allocate(jt_rewire *w, jt_err *err)
{
    size_t n = w->n_layers * w->n_rows;
    float **const parts[] = {&w->delta, &w->grad, &w->mean, &w->square, &w->bias};
    bool all = true;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        all = (*parts[i] = jt_calloc(n, sizeof(float))) && all;
    w->confidence = jt_calloc(w->n_layers, sizeof *w->confidence);
    w->rate = jt_calloc(w->n_layers, sizeof *w->rate);
    w->layers = jt_alloc(w->n_layers, sizeof *w->layers);
    return all && w->confidence && w->rate && w->layers
               ? JT_OK
               : jt_fail_memory(err, "preparing to rewire");
}

/* The model as it is, but with a bias that has a gradient in the routers. */
static void make_view(jt_rewire *w, const jt_model *model)
{
    w->view = *model;
    w->view.layers = w->layers;
    memcpy(w->layers, model->layers, w->n_layers * sizeof *w->layers);
    for (size_t i = 0; i < w->n_layers; i++) {
        jt_router *r = &w->layers[i].mixture.router;
        float *bias = w->bias + i * w->n_rows;
        if (!w->in[i])
            continue;
        size_t rows = (size_t)jt_router_rows(r);
        if (jt_has(&r->bias))
            memcpy(bias, r->bias.data, rows * sizeof *bias);
        r->bias = (jt_tensor){.data = bias,
                              .dtype = JT_F32,
                              .n_dims = 1,
                              .shape = {rows},
                              .grad = w->grad + i * w->n_rows};
    }
}

static jt_status open_rewire(void *self, const jt_scope *scope, jt_err *err)
{
    jt_rewire *w = self;
    const jt_model *model = scope->model;
    JT_TRY(jt_model_trains(model, err));
    for (int i = 0; i < model->params.n_layers; i++) {
        if (scope->layer[i] && jt_scope_router(model, i)->softcap > 0.0f)
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "the router of layer %d has a softcap, by which no gradient "
                           "of what is added after it goes",
                           i);
    }
    w->in = scope->layer;
    measure_rows(w, scope);
    JT_TRY(allocate(w, err));
    make_view(w, model);
    return JT_OK;
}

static void close_rewire(void *self)
{
    jt_rewire *w = self;
    free(w->delta);
    free(w->grad);
    free(w->mean);
    free(w->square);
    free(w->bias);
    free(w->confidence);
    free(w->rate);
    free(w->layers);
}

static const jt_key keys[] = {
    {"steps", JT_KEY_INT, "N", "1", 1, 1000, offsetof(jt_rewire, steps),
     "gradient steps of a fit"},
    {"every", JT_KEY_INT, "N", "128", 1, 1 << 24, offsetof(jt_rewire, every),
     "tokens from one fit to the next"},
    {"prompt", JT_KEY_INT, "N", "0", 0, 1 << 24, offsetof(jt_rewire, prompt),
     "tokens before the first fit; 0: as many as come first"},
    {"window", JT_KEY_INT, "N", "128", 0, 1 << 24, offsetof(jt_rewire, window),
     "a fit looks at so many of the last tokens; 0: at all"},
    {"lr", JT_KEY_NUMBER, "X", "0.05", 0, 10, offsetof(jt_rewire, lr),
     "length of a step (Adam)"},
    {"choose", JT_KEY_WORD, "hard|soft", "hard", 0, 0, offsetof(jt_rewire, soft),
     "hard: a share of the layers; soft: all, by their confidence"},
    {"share", JT_KEY_NUMBER, "R", "0.5", 0, 1, offsetof(jt_rewire, share),
     "the share of the layers that hard takes"},
    {"confidence", JT_KEY_WORD, "high|low", "high", 0, 0, offsetof(jt_rewire, low),
     "high: the layers with the largest -log p, as the paper's formula has it; low: "
     "the "
     "others"},
    {"stale", JT_KEY_WORD, "no|yes", "no", 0, 0, offsetof(jt_rewire, stale),
     "yes: after a fit, what layers remember of earlier tokens stays as it was; no: it "
     "is computed again"},
    {"precision", JT_KEY_WORD, "bf16|f32", "bf16", 0, 0, offsetof(jt_rewire, exact),
     "of the products of a fit"},
    {0}};

const jt_policy_kind jt_policy_rewire = {
    .name = "rewire",
    .summary = "fit the routers to the text while it goes on",
    .source = "Su et al. 2025, Rewiring Experts on the Fly",
    .keys = keys,
    .size = sizeof(jt_rewire),
    .by_layer = true,
    .hooks = {.on_logits = add_delta, .on_route = hear_route},
    .open = open_rewire,
    .close = close_rewire,
    .attach = attach,
};
