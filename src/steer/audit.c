#include "junto/audit.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "run/likelihood.h"
#include "run/session.h"
#include "steer/audit_impl.h"
#include "steer/mask.h"
#include "steer/policy.h"

enum { LEAST_WINDOWS = 8 };

/* ---- masks and counts ---- */

static int experts_of(const jt_auditing *a, int layer)
{
    return jt_scope_router(a->model, layer)->n_experts;
}

static void mask_logits(void *self, const jt_route_site *site, float *logits,
                        int n_tokens, int n_rows)
{
    const jt_auditing *a = self;
    if (!a->how.zero)
        jt_mask_logits(a->is_out + a->offset[site->layer], experts_of(a, site->layer),
                       logits, n_tokens, n_rows);
}

static void mask_route(void *self, const jt_route_site *site, jt_route *route)
{
    const jt_auditing *a = self;
    if (a->how.zero)
        jt_mask_route(a->is_out + a->offset[site->layer], experts_of(a, site->layer),
                      route);
}

static void count(void *self, const jt_route_site *site, const jt_route *route)
{
    jt_auditing *a = self;
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    size_t first = a->offset[site->layer];
    if (!a->rate)
        return;
    a->seen += first == 0 ? (size_t)route->n_tokens : 0;
    for (size_t s = 0; s < slots; s++) {
        if (route->expert[s] < 0)
            continue;
        a->rate[first + (size_t)route->expert[s]]++;
        a->mass[first + (size_t)route->expert[s]] += (double)route->weight[s];
    }
}

jt_status jt_audit_window(jt_auditing *a, const jt_audit_side *side, size_t i,
                          double *nll, size_t *scored, jt_err *err)
{
    size_t window = (size_t)a->how.window;
    const int32_t *tokens = side->tokens + i * side->there / side->count * window;
    jt_likelihood sums = {0};
    JT_TRY(jt_progress_report(&a->how.progress, "windows", a->done++, a->total, err));
    jt_session_truncate(a->session, 0);
    if (!nll)
        return jt_session_eval(a->session, tokens, window, NULL, err);
    JT_TRY(jt_likelihood_add(&sums, a->session, tokens, window, 1, err));
    *nll += sums.nll;
    *scored += sums.scored;
    return JT_OK;
}

/* ---- setting out ---- */

static jt_status settle(jt_auditing *a, const jt_audit_options *options, jt_err *err)
{
    static const float usual[] = {0.01f, 0.02f, 0.05f, 0.1f, 0.2f};
    jt_audit_options *how = &a->how;
    *how = options ? *options : (jt_audit_options){0};
    how->window = how->window ? how->window : 128;
    how->windows = how->windows ? how->windows : 64;
    how->draws = how->draws ? how->draws : 8;
    how->targets = how->targets != 0.0f ? how->targets : 0.1f;
    if (!how->n_shares) {
        how->shares = usual;
        how->n_shares = sizeof usual / sizeof *usual;
    }
    if (how->window < 2 || how->draws < 2 || how->windows < LEAST_WINDOWS)
        return jt_fail(err, JT_E_ARG,
                       "an audit takes windows of 2 tokens or more, %d windows of each "
                       "text or more, and 2 random masks or more",
                       LEAST_WINDOWS);
    for (size_t i = 0; i < how->n_shares; i++) {
        float before = i ? how->shares[i - 1] : 0.0f;
        if (!(how->shares[i] > before && how->shares[i] < 1.0f))
            return jt_fail(err, JT_E_ARG,
                           "shares of experts rise, and are above 0 and below 1");
    }
    if (!(how->targets <= 1.0f))
        return jt_fail(err, JT_E_ARG, "a share of experts above 1");
    how->session.n_ctx = how->window;
    return JT_OK;
}

static jt_status open_side(jt_auditing *a, int which, const int32_t *tokens,
                           size_t count_of, jt_err *err)
{
    jt_audit_side *side = &a->side[which];
    side->tokens = tokens;
    side->there = count_of / (size_t)a->how.window;
    side->count = side->there < a->how.windows ? side->there : a->how.windows;
    if (side->count < LEAST_WINDOWS)
        return jt_fail(err, JT_E_ARG,
                       "text %c has %zu tokens: %d windows of %d are needed",
                       "AB"[which], count_of, LEAST_WINDOWS, a -> how.window);
    side->rate = jt_calloc(side->count * a->n, sizeof *side->rate);
    side->mass = jt_calloc(side->count * a->n, sizeof *side->mass);
    return side->rate && side->mass ? JT_OK : jt_fail_memory(err, "auditing a model");
}

/* Number the experts. */
static jt_status lay_out(jt_auditing *a, jt_audit *out, jt_err *err)
{
    int n_layers = a->model->params.n_layers;
    a->offset = jt_calloc((size_t)n_layers, sizeof *a->offset);
    out->layers = jt_calloc((size_t)n_layers, sizeof *out->layers);
    if (!a->offset || !out->layers)
        return jt_fail_memory(err, "auditing a model");
    for (int i = 0; i < n_layers; i++) {
        if (!a->model->layers[i].is_mixture)
            continue;
        int n = experts_of(a, i);
        out->layers[out->n_layers++] = (jt_audit_layer){.layer = i, .n_experts = n};
        a->offset[i] = a->n;
        a->n += (size_t)n;
    }
    if (!a->n)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "the model has no experts: there is nothing to audit");
    out->n_experts = a->n;
    out->n_points = a->how.n_shares;
    out->experts = jt_calloc(a->n, sizeof *out->experts);
    out->points = jt_calloc(out->n_points, sizeof *out->points);
    a->is_out = jt_calloc(a->n, sizeof *a->is_out);
    return out->experts && out->points && a->is_out
               ? JT_OK
               : jt_fail_memory(err, "auditing a model");
}

/* The related model has the same experts: its ranking names those that are here. */
static jt_status check_related(const jt_auditing *a, const jt_audit *out, jt_err *err)
{
    const jt_audit *r = a->how.related;
    bool same = !r || (r->n_layers == out->n_layers && r->n_experts == out->n_experts);
    for (size_t l = 0; r && same && l < r->n_layers; l++)
        same = r->layers[l].layer == out->layers[l].layer &&
               r->layers[l].n_experts == out->layers[l].n_experts;
    return same ? JT_OK
                : jt_fail(err, JT_E_ARG,
                          "the related model has other layers or experts");
}

static jt_status open_session(jt_auditing *a, jt_err *err)
{
    jt_policy policy = {
        .name = "audit", .self = a, .on_logits = mask_logits, .on_route = mask_route};
    jt_watcher watcher = {.name = "audit", .self = a, .on_route = count};
    JT_TRY(jt_session_new(&a->session, a->model, &a->how.session, err));
    JT_TRY(jt_session_add_policy(a->session, &policy, err));
    return jt_session_add_watcher(a->session, &watcher, err);
}

static jt_status run(jt_auditing *a, jt_audit *out, const jt_audit_texts *texts,
                     const jt_audit_options *options, jt_err *err)
{
    JT_TRY(settle(a, options, err));
    JT_TRY(lay_out(a, out, err));
    JT_TRY(check_related(a, out, err));
    JT_TRY(open_side(a, 0, texts->a, texts->n_a, err));
    JT_TRY(open_side(a, 1, texts->b, texts->n_b, err));
    JT_TRY(open_session(a, err));
    out->windows_a = a->side[0].count;
    out->windows_b = a->side[1].count;
    out->window = a->how.window;
    size_t held_out = out->windows_a / 2 + out->windows_b / 2;
    size_t windows = out->windows_a + out->windows_b;
    size_t masks = out->n_points * (size_t)(2 + a->how.draws);
    a->total = windows + masks * held_out;
    if (a->how.related)
        a->total += out->n_points * held_out;
    if (jt_audit_count_targets(a))
        a->total += windows - held_out + masks * held_out;
    JT_TRY(jt_audit_profile(a, out, err));
    JT_TRY(jt_audit_experts(a, out, err));
    JT_TRY(jt_audit_look_inside(a, out, err));
    return jt_progress_report(&a->how.progress, "windows", a->total, a->total, err);
}

jt_status jt_audit_run(jt_audit *out, const jt_model *model,
                       const jt_audit_texts *texts, const jt_audit_options *options,
                       jt_err *err)
{
    jt_auditing a = {.model = model};
    *out = (jt_audit){0};
    jt_status status = run(&a, out, texts, options, err);
    for (int i = 0; i < 2; i++) {
        free(a.side[i].rate);
        free(a.side[i].mass);
    }
    jt_session_free(a.session);
    jt_audit_neurons_free(&a.neurons);
    free(a.offset);
    free(a.is_out);
    if (status != JT_OK)
        jt_audit_free(out);
    return status;
}

void jt_audit_free(jt_audit *audit)
{
    free(audit->experts);
    free(audit->layers);
    free(audit->points);
    free(audit->neurons);
    free(audit->neuron_points);
    *audit = (jt_audit){0};
}
