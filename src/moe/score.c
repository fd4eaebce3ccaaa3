#include "moe/score.h"

#include <math.h>

#include "base/random.h"

/* ---- linear: logits = W x + b ---- */

static void score_linear(jt_context *ctx, const jt_router *router,
                         const jt_route_site *site, jt_input *x, jt_tensor *logits)
{
    (void)site;
    *logits = jt_linear(ctx, x, &router->weight, &router->bias);
}

const jt_scorer jt_score_linear = {"linear", false, NULL, score_linear};

/* ---- cosine: logits = cos(x, w) / temperature + b ---- */

/* Rows of x, stretched or shrunk to `length`. */
static jt_tensor rows_of_length(jt_context *ctx, const jt_tensor *x, float length)
{
    const float eps = 1e-12f; /* rows of zeros stay zeros */
    size_t n = jt_cols(x);
    jt_tensor factor = jt_new(ctx, 1, n);
    if (jt_failed(ctx))
        return factor;
    for (size_t i = 0; i < n; i++)
        jt_row(&factor, 0)[i] = length / sqrtf((float)n);
    factor.grad = NULL;
    return jt_rms_norm(ctx, x, &factor, eps);
}

static void score_cosine(jt_context *ctx, const jt_router *router,
                         const jt_route_site *site, jt_input *x, jt_tensor *logits)
{
    (void)site;
    jt_input tokens = jt_input_of(rows_of_length(ctx, &x->x, 1.0f));
    jt_tensor experts =
        rows_of_length(ctx, &router->weight, 1.0f / router->temperature);
    *logits = jt_linear(ctx, &tokens, &experts, &router->bias);
}

static jt_status check_cosine(const jt_router *router, jt_err *err)
{
    if (router->temperature > 0.0f && isfinite(1.0f / router->temperature))
        return JT_OK;
    return jt_fail(err, JT_E_ARG,
                   "scorer 'cosine': temperature is %g, expected above 0",
                   (double)router->temperature);
}

const jt_scorer jt_score_cosine = {"cosine", true, check_cosine, score_cosine};

/* ---- what training adds ---- */

/* Random numbers of a router: apart for layers and uses, a function of the place, so a
 * pass that is run again draws the same. */
typedef struct draw_args {
    jt_rng rng;
    float *out;
    size_t n;
    float size;
} draw_args;

enum { DRAW_JITTER = 'j' << 8, DRAW_NOISE = 'n' << 8 };

static draw_args draws(const jt_route_site *site, uint64_t use, jt_tensor *t,
                       float size)
{
    jt_rng rng = {.seed = site->draw, .stream = (uint64_t)site->layer << 32 | use};
    return (draw_args){rng, t->data, jt_cols(t), size};
}

static void jitter_row(void *arg, size_t i)
{
    const draw_args *a = arg;
    jt_rng rng = a->rng;
    rng.counter = i * a->n;
    for (size_t j = i * a->n; j < (i + 1) * a->n; j++)
        a->out[j] = 1.0f + a->size * (2.0f * jt_rng_float(&rng) - 1.0f);
}

static void noise_row(void *arg, size_t i)
{
    const draw_args *a = arg;
    jt_rng rng = a->rng;
    rng.counter = 2 * i * a->n; /* a normal takes two numbers */
    for (size_t j = i * a->n; j < (i + 1) * a->n; j++)
        a->out[j] += a->size * jt_rng_normal(&rng);
}

static jt_tensor jittered(jt_context *ctx, const jt_route_site *site,
                          const jt_tensor *x, float size)
{
    size_t rows = jt_rows(x), n = jt_cols(x);
    jt_tensor factor = {.data = jt_scratch(ctx, rows * n, sizeof(float)),
                        .dtype = JT_F32,
                        .n_dims = 2,
                        .shape = {rows, n}};
    if (jt_failed(ctx))
        return factor;
    draw_args args = draws(site, DRAW_JITTER, &factor, size);
    jt_for_rows(ctx, rows, 16 * rows * n, jitter_row, &args);
    return jt_times(ctx, x, factor.data);
}

void jt_router_score(jt_context *ctx, const jt_router *router,
                     const jt_route_site *site, jt_input *x, jt_tensor *logits)
{
    jt_input moved;
    if (site->draw && router->jitter > 0.0f) {
        moved = jt_input_of(jittered(ctx, site, &x->x, router->jitter));
        x = &moved;
    }
    router->scorer->score(ctx, router, site, x, logits);
    jt_softcap(ctx, logits, router->softcap);
    if (!site->draw || !(router->noise > 0.0f) || jt_failed(ctx))
        return;
    draw_args args = draws(site, DRAW_NOISE, logits, router->noise);
    size_t rows = jt_rows(logits);
    jt_for_rows(ctx, rows, 64 * rows * jt_cols(logits), noise_row, &args);
}
