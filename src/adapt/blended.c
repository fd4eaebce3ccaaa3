/* Attaching blends. */
#include "adapt/blended.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/bind.h"

static jt_status no_memory(jt_err *err)
{
    return jt_fail_memory(err, "attaching a mixture of adapters");
}

/* ---- how it is decided ---- */

static jt_router router_of(const jt_blend *b, const jt_tensor *gate)
{
    return (jt_router){.scorer = jt_scorer_find("linear"),
                       .selector = jt_selector_find("topk"),
                       .n_experts = (int)b->n,
                       .k = b->k,
                       .weight = *gate,
                       .gate_after = b->gate_after,
                       .renormalise = b->method->renormalise,
                       .scale = 1.0f};
}

/* One of each bank, and one without a gate. */
static jt_status make_routers(jt_blended *m, jt_err *err)
{
    static const jt_tensor none;
    const jt_blend *b = m->blend;
    m->router = jt_calloc(b->n_banks + 1, sizeof *m->router);
    if (!m->router)
        return no_memory(err);
    for (size_t i = 0; i <= b->n_banks; i++)
        m->router[i] = router_of(b, i < b->n_banks ? &b->bank[i].gate : &none);
    return jt_router_check(&m->router[b->n_banks], err);
}

/* ---- FFNs with experts ---- */

static const jt_adapter_bank *bank_of_part(const jt_blend *b, int layer,
                                           const char *part)
{
    char name[96];
    int n = snprintf(name, sizeof name, "blk.%d.%s.weight", layer, part);
    return jt_blend_find(b, (jt_str){name, (size_t)n});
}

/* A fused weight of gate and up is "ffn_up" in files; its part is that of the gate. */
static void find_parts(jt_lora_ffn *f, const jt_blend *b, int layer)
{
    bool fused = f->base->fused;
    f->part[fused ? JT_PART_GATE : JT_PART_UP] = bank_of_part(b, layer, "ffn_up");
    f->part[JT_PART_DOWN] = bank_of_part(b, layer, "ffn_down");
    if (!fused)
        f->part[JT_PART_GATE] = bank_of_part(b, layer, "ffn_gate");
}

static jt_status make_layer(jt_blended *m, int i, jt_err *err)
{
    const jt_layer *layer = &m->model->layers[i];
    const jt_blend *b = m->blend;
    jt_lora_ffn *f = &m->ffn[i];
    const jt_adapter_bank *up = bank_of_part(b, i, "ffn_up");
    if (!up)
        return JT_OK;
    if (layer->is_mixture || layer->mixer == JT_MIX_NONE || !layer->dense.n_experts)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "%s: only layers with one dense FFN become mixtures",
                       up->target);
    f->base = &layer->dense;
    f->gate = up;
    find_parts(f, b, i);
    f->scale = m->scale * b->scale;
    f->mixture = (jt_mixture){.router = router_of(b, &up->gate),
                              .experts = {.kind = &jt_expert_lora_ffn,
                                          .layer = i,
                                          .n_experts = (int)b->n,
                                          .d = layer->dense.d,
                                          .width = layer->dense.width}};
    m->instead[i] = &f->mixture;
    return JT_OK;
}

static jt_status make_layers(jt_blended *m, jt_err *err)
{
    size_t layers = (size_t)m->model->params.n_layers;
    m->ffn = jt_calloc(layers, sizeof *m->ffn);
    m->instead = jt_calloc(layers, sizeof *m->instead);
    if (!m->ffn || !m->instead)
        return no_memory(err);
    for (size_t i = 0; i < layers; i++)
        JT_TRY(make_layer(m, (int)i, err));
    return JT_OK;
}

/* ---- life ---- */

static jt_status number_banks(jt_blended *m, jt_err *err)
{
    const jt_gguf *file = m->model->file;
    size_t n = jt_weight_number(file, NULL);
    m->bank = jt_alloc(n + 1, sizeof *m->bank);
    if (!m->bank)
        return no_memory(err);
    memset(m->bank, -1, (n + 1) * sizeof *m->bank);
    for (size_t i = 0; i < m->blend->n_banks; i++) {
        const jt_gguf_tensor *t = jt_gguf_find(file, m->blend->bank[i].target);
        m->bank[jt_weight_number(file, t)] = (int32_t)i;
    }
    return JT_OK;
}

static jt_status set_up(jt_blended *m, const jt_context *ctx, bool trains, jt_err *err)
{
    const jt_blend *b = m->blend;
    JT_TRY(jt_blend_fits(b, m->model->file, err));
    if (b->depth && jt_cols(&b->head_weight[0]) != (size_t)m->model->params.d_model)
        return jt_fail(err, JT_E_FORMAT, "its head reads %zu values, the model has %d",
                       jt_cols(&b->head_weight[0]), m->model->params.d_model);
    JT_TRY(make_routers(m, err));
    if (!trains && (m->scale == 0.0f || jt_blend_is_fresh(b)))
        return JT_OK;
    if (b->method->producer == JT_BY_LAYER)
        return make_layers(m, err);
    if (!trains)
        JT_TRY(jt_blended_factors(m, ctx, err));
    return number_banks(m, err);
}

jt_status jt_blended_new(jt_blended **out, const jt_blend *blend, const jt_model *model,
                         float scale, const jt_context *ctx, bool trains, jt_err *err)
{
    jt_blended *m = jt_calloc(1, sizeof *m);
    if (!m)
        return no_memory(err);
    *m = (jt_blended){.blend = blend, .model = model, .scale = scale};
    jt_status status = set_up(m, ctx, trains, err);
    if (status == JT_OK)
        *out = m;
    else
        jt_blended_free(m);
    return status;
}

void jt_blended_free(jt_blended *m)
{
    if (!m)
        return;
    free(m->factors);
    free(m->factor_memory);
    free(m->bank);
    free(m->router);
    free(m->ffn);
    free(m->instead);
    free(m);
}

/* ---- before a pass ---- */

/* The rule on each document of a chunk; on the whole sequence where there are none. */
static void follow_rule(const jt_blended *m, jt_decided *d, jt_context *ctx,
                        const jt_chunk *chunk)
{
    jt_route *route = jt_scratch(ctx, 1, sizeof *route);
    if (!route)
        return;
    *route = jt_route_new(ctx, (int)chunk->count, (int)m->blend->n, 1);
    if (jt_failed(ctx))
        return;
    for (size_t t = 0, end; t < chunk->count; t = end) {
        int chosen = d->chosen;
        end = chunk->count;
        for (size_t i = t; chunk->first && i < chunk->count && end == chunk->count; i++)
            end = chunk->first[i] == chunk->first[t] ? end : i;
        if (chunk->first)
            chosen = jt_blend_rule(m->blend, chunk->ids + t, end - t);
        for (size_t i = t; i < end; i++) {
            route->expert[i] = chosen;
            route->weight[i] = chosen < 0 ? 0.0f : 1.0f;
        }
    }
    d->route = route;
    d->n_routes = 1;
}

/* Gates may have got gradients since routers were made. */
static void renew_gates(jt_blended *m)
{
    for (size_t i = 0; i < m->blend->n_banks; i++)
        m->router[i].weight = m->blend->bank[i].gate;
    for (int i = 0; m->ffn && i < m->model->params.n_layers; i++) {
        if (m->instead[i])
            m->ffn[i].mixture.router.weight = m->ffn[i].gate->gate;
    }
}

void jt_blended_begin(jt_blended *m, jt_decided *d, jt_context *ctx,
                      const jt_chunk *chunk)
{
    d->route = NULL;
    d->n_tokens = chunk->count;
    renew_gates(m);
    if (m->bank && m->blend->method->producer == JT_BY_RULE)
        follow_rule(m, d, ctx, chunk);
}

bool jt_blended_looks_ahead(const jt_blended *m)
{
    return m->bank && m->blend->method->producer == JT_BY_PASS;
}
