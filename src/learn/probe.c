/* The probes by name, and those that take parts of the model away. */
#include "learn/probe.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "learn/probe_impl.h"

jt_status jt_probe_loss(const jt_probe_call *call, const jt_hooks *hooks,
                        const char *name)
{
    jt_evaluation e;
    jt_evaluation_options how = {.hooks = hooks};
    JT_TRY(jt_trainer_evaluate(call->trainer, &how, &e, call->err));
    double loss = e.loss;
    jt_evaluation_free(&e);
    return jt_metrics_set(call->metrics, call->err, loss, "loss@%s", name);
}

/* ---- the number of experts ---- */

/* Add `change` to the experts that each token uses, or set it (`change` 0). JT_E_ARG
 * when a layer cannot. */
static jt_status set_k(const jt_probe_call *call, int k, int change)
{
    jt_model *model = call->trainer->model;
    for (int i = 0; i < model->params.n_layers; i++) {
        jt_router *r = &model->layers[i].mixture.router;
        int wanted = change ? r->k + change : k;
        if (!model->layers[i].is_mixture)
            continue;
        if (wanted < 1 || wanted > jt_router_rows(r))
            return jt_fail(call->err, JT_E_ARG, "%d of %d experts per token", wanted,
                           jt_router_rows(r));
        r->k = wanted;
    }
    return JT_OK;
}

static jt_status probe_k(const jt_probe_call *call)
{
    static const jt_hooks none;
    char name[32];
    int usual = call->trainer->model->params.router.k;
    snprintf(name, sizeof name, "k=%s", call->text);
    jt_status status = set_k(call, (int)call->value, 0);
    if (status == JT_OK)
        status = jt_probe_loss(call, &none, name);
    set_k(call, usual, 0);
    return status;
}

/* ---- without the shared expert ---- */

/* Take the shared experts out of the layers, or put `kept` [layers] back. */
static void swap_shared(jt_model *model, int *kept)
{
    for (int i = 0; i < model->params.n_layers; i++) {
        int *n = &model->layers[i].mixture.shared.n_experts;
        int other = kept[i];
        kept[i] = *n;
        *n = other;
    }
}

static jt_status probe_no_shared(const jt_probe_call *call)
{
    static const jt_hooks none;
    jt_model *model = call->trainer->model;
    if (!model->layers[model->params.n_layers - 1].mixture.shared.n_experts)
        return jt_fail(call->err, JT_E_ARG, "there is no shared expert");
    int *kept = jt_calloc((size_t)model->params.n_layers, sizeof *kept);
    if (!kept)
        return jt_fail_memory(call->err, "probing a model");
    swap_shared(model, kept);
    jt_status status = set_k(call, 0, 1);
    if (status == JT_OK)
        status = jt_probe_loss(call, &none, "no_shared");
    set_k(call, model->params.router.k, 0);
    swap_shared(model, kept);
    free(kept);
    return status;
}

/* ---- without experts that tokens like ---- */

typedef struct mask {
    int out;  /* so many of the best */
    int pick; /* > 0: one at random of the `pick` best instead */
    jt_rng rng;
} mask;

/* The place in `row` [n] of the best that is not out; n when all are. */
static int best_left(const float *row, int n)
{
    int best = n;
    for (int e = 0; e < n; e++) {
        if (row[e] != -INFINITY && (best == n || row[e] > row[best]))
            best = e;
    }
    return best;
}

static void mask_row(mask *m, float *row, int n)
{
    float kept[64];
    int place[64],
        skipped = m->pick ? (int)jt_rng_below(&m->rng, (uint32_t)m->pick) : 0;
    for (int i = 0; i < skipped; i++) {
        place[i] = best_left(row, n);
        kept[i] = row[place[i]];
        row[place[i]] = -INFINITY;
    }
    for (int i = 0; i < m->out; i++)
        row[best_left(row, n)] = -INFINITY;
    for (int i = 0; i < skipped; i++)
        row[place[i]] = kept[i];
}

static void mask_logits(void *self, const jt_route_site *site, float *logits,
                        int n_tokens, int n_experts)
{
    (void)site;
    for (int t = 0; t < n_tokens; t++)
        mask_row(self, logits + (size_t)t * (size_t)n_experts, n_experts);
}

static jt_status probe_mask(const jt_probe_call *call, mask *m, const char *name)
{
    const jt_router *r = &call->trainer->model->params.router;
    if (m->pick > 64 || m->out < 1 || m->out + r->k > jt_router_rows(r))
        return jt_fail(call->err, JT_E_ARG, "cannot take %d of %d experts out", m->out,
                       jt_router_rows(r));
    jt_hooks hooks = {.n_policies = 1};
    hooks.policy[0] = (jt_policy){.name = "mask", .self = m, .on_logits = mask_logits};
    return jt_probe_loss(call, &hooks, name);
}

static jt_status probe_mask_top(const jt_probe_call *call)
{
    char name[40];
    int n = jt_router_rows(&call->trainer->model->params.router);
    mask m = {.out = (int)lround(call->value * n)};
    snprintf(name, sizeof name, "mask_top=%s", call->text);
    return probe_mask(call, &m, name);
}

static jt_status probe_mask_pick(const jt_probe_call *call)
{
    mask m = {
        .out = 1, .pick = call->trainer->model->params.router.k, .rng = {.seed = 1}};
    return probe_mask(call, &m, "mask_pick");
}

/* ---- by name ---- */

static const struct {
    const char *name;
    bool arguments;
    jt_probe_fn *fn;
} probes[] = {
    {"k", true, probe_k},
    {"mask_top", true, probe_mask_top},
    {"mask_pick", false, probe_mask_pick},
    {"no_shared", false, probe_no_shared},
    {"groups", true, jt_probe_groups},
    {"experts_per_token", false, jt_probe_experts_per_token},
    {"locality", true, jt_probe_locality},
    {"caches", true, jt_probe_caches},
    {"hybrid", true, jt_probe_hybrid},
    {"ring", true, jt_probe_ring},
    {"nested", true, jt_probe_nested},
    {"widths", true, jt_probe_widths},
    {"paths", false, jt_probe_paths},
    {"modes", true, jt_probe_modes},
    {"scmoe", false, jt_probe_scmoe},
    {"rewire", true, jt_probe_rewire},
    {"audit", true, jt_probe_audit},
    {"random_load", true, jt_probe_random_load},
    {"recover_gamma", true, jt_probe_recover_gamma},
    {"sources", false, jt_probe_sources},
    {"gates", false, jt_probe_gates},
};
enum { PROBES = sizeof probes / sizeof *probes, ARGUMENT = 24 };

static jt_status find(const char *probe, size_t *out, jt_err *err)
{
    size_t len = strcspn(probe, ":");
    for (size_t i = 0; i < PROBES; i++) {
        if (strlen(probes[i].name) != len || memcmp(probes[i].name, probe, len) != 0)
            continue;
        if (probes[i].arguments != (probe[len] == ':'))
            return jt_fail(err, JT_E_ARG, "probe '%.40s' %s arguments", probe,
                           probes[i].arguments ? "needs" : "takes no");
        *out = i;
        return JT_OK;
    }
    return jt_fail(err, JT_E_ARG, "unknown probe '%.40s'", probe);
}

/* The next argument into `text`; false at the end. */
static bool next_argument(const char **rest, char text[ARGUMENT])
{
    size_t len = strcspn(*rest, ",");
    if (!len)
        return false;
    snprintf(text, ARGUMENT, "%.*s", (int)len, *rest);
    *rest += len + ((*rest)[len] == ',');
    return true;
}

jt_status jt_probe_check(const char *probe, jt_err *err)
{
    size_t i;
    char text[ARGUMENT], *end;
    JT_TRY(find(probe, &i, err));
    const char *rest = probe + strcspn(probe, ":");
    rest += *rest == ':';
    while (next_argument(&rest, text)) {
        double value = strtod(text, &end);
        if (*end || !(value > 0.0 && value < 1e6))
            return jt_fail(err, JT_E_ARG, "probe '%.40s': '%s' is no positive number",
                           probe, text);
    }
    return JT_OK;
}

jt_status jt_probe_run(const char *probe, jt_trainer *trainer, jt_metrics *metrics,
                       jt_err *err)
{
    size_t i;
    char text[ARGUMENT] = "";
    JT_TRY(find(probe, &i, err));
    const char *rest = strchr(probe, ':');
    jt_probe_call call = {trainer, metrics, text, 0.0, err};
    if (!rest)
        return probes[i].fn(&call);
    for (rest++; next_argument(&rest, text);) {
        call.value = strtod(text, NULL);
        jt_status status = probes[i].fn(&call);
        if (status != JT_OK)
            return jt_fail_within(err, status, "probe '%s'", probe);
    }
    return JT_OK;
}
