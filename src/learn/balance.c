/* The object: layers, steps, the bias after a step, the report. */
#include "learn/balance.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "learn/balance_impl.h"

bool jt_balance_scope_named(const char *name, jt_balance_scope *scope)
{
    static const char *const names[] = {"sequence", "micro", "global"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            *scope = (jt_balance_scope)i;
            return true;
        }
    }
    return false;
}

static jt_status check_options(const jt_balance_options *o, jt_err *err)
{
    if (o->bias_rate != 0.0f && o->bip_rounds != 0)
        return jt_fail(err, JT_E_ARG,
                       "balance by bias and by BIP at once: both set the selection "
                       "bias, choose one");
    if (o->bip_rounds < 0)
        return jt_fail(err, JT_E_ARG, "BIP cannot run %d rounds", o->bip_rounds);
    if (o->loss != 0.0f && o->scope == JT_SCOPE_SEQUENCE && o->seq_len == 0)
        return jt_fail(err, JT_E_ARG,
                       "a balance loss of scope \"sequence\" needs their length");
    return JT_OK;
}

static jt_status check_router(const jt_router *r, int layer,
                              const jt_balance_options *o, jt_err *err)
{
    const jt_tensor *bias = &r->selection_bias;
    bool wanted = o->bias_rate != 0.0f || o->bip_rounds > 0;
    if (wanted && (!jt_has(bias) || bias->dtype != JT_F32 ||
                   jt_cols(bias) != (size_t)jt_router_rows(r)))
        return jt_fail(err, JT_E_ARG, "layer %d has no selection bias to balance with",
                       layer);
    if (o->bip_rounds > 0 && r->gate_after)
        return jt_fail(err, JT_E_ARG,
                       "BIP balances scores, but layer %d chooses by its logits (the "
                       "gate comes after the choice)",
                       layer);
    return JT_OK;
}

static jt_status add_layers(jt_balance *b, jt_model *model, jt_err *err)
{
    for (int i = 0; i < b->n_layers; i++) {
        const jt_mixture *instead = b->options.instead ? b->options.instead[i] : NULL;
        if (!model->layers[i].is_mixture && !instead)
            continue;
        jt_balance_layer *layer = &b->layer[i];
        layer->router = instead ? &instead->router : &model->layers[i].mixture.router;
        JT_TRY(check_router(layer->router, i, &b->options, err));
        size_t rows = (size_t)jt_router_rows(layer->router);
        layer->picks = jt_calloc(rows, sizeof *layer->picks);
        layer->f = jt_calloc(rows, sizeof *layer->f);
        if (!layer->picks || !layer->f)
            return jt_fail_memory(err, "preparing the balance of experts");
    }
    return JT_OK;
}

jt_status jt_balance_new(jt_balance **out, jt_model *model,
                         const jt_balance_options *options, jt_err *err)
{
    JT_TRY(check_options(options, err));
    jt_balance *b = jt_calloc(1, sizeof *b);
    if (!b)
        return jt_fail_memory(err, "preparing the balance of experts");
    b->options = *options;
    b->n_layers = model->params.n_layers;
    b->layer = jt_calloc((size_t)b->n_layers, sizeof *b->layer);
    jt_status status = b->layer
                           ? add_layers(b, model, err)
                           : jt_fail_memory(err, "preparing the balance of experts");
    if (status == JT_OK)
        *out = b;
    else
        jt_balance_free(b);
    return status;
}

void jt_balance_free(jt_balance *b)
{
    if (!b)
        return;
    for (int i = 0; b->layer && i < b->n_layers; i++) {
        free(b->layer[i].picks);
        free(b->layer[i].f);
    }
    free(b->layer);
    free(b->room);
    free(b);
}

jt_status jt_balance_attach(jt_balance *b, jt_hooks *hooks, jt_err *err)
{
    bool bip = b->options.bip_rounds > 0;
    if (hooks->n_terms == JT_MAX_HOOKS || (bip && hooks->n_policies == JT_MAX_HOOKS))
        return jt_fail(err, JT_E_LIMIT, "no more than %d hooks of a kind",
                       JT_MAX_HOOKS);
    hooks->term[hooks->n_terms++] = (jt_route_term){b, jt_balance_add};
    if (bip)
        hooks->policy[hooks->n_policies++] =
            (jt_policy){.name = "bip", .self = b, .on_scores = jt_balance_price};
    return JT_OK;
}

void jt_balance_begin(jt_balance *b)
{
    for (int i = 0; i < b->n_layers; i++) {
        jt_balance_layer *layer = &b->layer[i];
        if (!layer->router)
            continue;
        size_t rows = (size_t)jt_router_rows(layer->router);
        memset(layer->picks, 0, rows * sizeof *layer->picks);
        layer->tokens = layer->used = 0;
        layer->loss = layer->z_loss = 0.0;
        layer->passes = 0;
    }
}

void jt_balance_micro(jt_balance *b, float scale)
{
    b->scale = scale;
}

static void step_bias(const jt_balance *b, const jt_balance_layer *layer)
{
    int n = jt_router_rows(layer->router);
    float *bias = layer->router->selection_bias.data, rate = b->options.bias_rate;
    double even = 1.0 / n;
    jt_balance_shares(layer->f, layer->picks, layer->router, b->options.null_mean);
    for (int i = 0; i < n; i++)
        bias[i] += rate * (float)((layer->f[i] < even) - (layer->f[i] > even));
}

/* Most picks of a true expert over their mean, less 1. */
static double violation(const jt_balance_layer *layer)
{
    int n = layer->router->n_experts;
    uint64_t most = 0, total = 0;
    for (int i = 0; i < n; i++) {
        most = layer->picks[i] > most ? layer->picks[i] : most;
        total += layer->picks[i];
    }
    return total ? (double)most * n / (double)total - 1.0 : 0.0;
}

static uint64_t true_picks(const jt_balance_layer *layer)
{
    uint64_t total = 0;
    for (int i = 0; i < layer->router->n_experts; i++)
        total += layer->picks[i];
    return total;
}

void jt_balance_end(jt_balance *b)
{
    jt_balance_report r = {0};
    uint64_t tokens = 0, used = 0, picks = 0;
    int passes = 0, layers = 0;
    for (int i = 0; i < b->n_layers; i++) {
        const jt_balance_layer *layer = &b->layer[i];
        if (!layer->router || !layer->passes)
            continue;
        if (b->options.bias_rate != 0.0f)
            step_bias(b, layer);
        double v = violation(layer);
        r.worst_violation = v > r.worst_violation ? v : r.worst_violation;
        r.max_violation += v;
        r.loss += layer->loss;
        r.z_loss += layer->z_loss;
        tokens += layer->tokens;
        used += layer->used;
        picks += true_picks(layer);
        passes += layer->passes;
        layers++;
    }
    if (layers) {
        r.max_violation /= layers;
        r.loss /= passes;
        r.z_loss /= passes;
        r.experts_used = tokens ? (double)used / (double)tokens : 0.0;
        r.dropped = picks ? ((double)picks - (double)used) / (double)picks : 0.0;
    }
    b->last = r;
}

jt_balance_report jt_balance_last(const jt_balance *b)
{
    return b->last;
}
