/* Whole passes with adapters at work. */
#include "adapt/crew.h"
#include "adapt/prompt.h"

#include <string.h>

/* What stands in place of dense FFNs: of the one mixture of a part that has any. */
static void replace_ffns(jt_context *ctx, const jt_attached *by, jt_instead *instead)
{
    for (size_t i = 0; i < by->count; i++) {
        const jt_blended *m = by->list[i].blended;
        if (!m || !m->instead)
            continue;
        if (instead->ffn)
            jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                    "two adapters that make mixtures of FFNs");
        instead->ffn = m->instead;
        instead->term = m->term;
    }
}

/* The tokens of a part: all of the chunk, or one span. */
static jt_chunk chunk_of(const jt_chunk *chunk, const jt_crew *c, size_t k,
                         size_t first)
{
    jt_chunk own = *chunk;
    if (c->n_parts == 1)
        return own;
    own.spans += k;
    own.n_spans = 1;
    own.count = c->part[k].tokens;
    own.ids += first;
    own.positions += first;
    return own;
}

void jt_crew_embedded(void *self, jt_context *ctx, const jt_chunk *chunk, jt_tensor *h)
{
    const jt_crew *c = self;
    for (size_t k = 0, first = 0; k < c->n_parts; first += c->part[k++].tokens) {
        jt_chunk own = chunk_of(chunk, c, k, first);
        jt_tensor rows = jt_some_rows(h, first, c->part[k].tokens);
        if (!jt_failed(ctx))
            jt_attached_embedded(c->part[k].by, ctx, &own, &rows);
    }
}

/* Sequences that look ahead go through the layers without adapters, all together, and
 * each mixture decides by what comes out. */
static void look_ahead(jt_crew *c, jt_context *ctx, const jt_chunk *chunk,
                       const jt_store *store)
{
    jt_chunk before = *chunk;
    jt_span *spans = jt_scratch(ctx, chunk->n_spans, sizeof *spans);
    int32_t *ids = jt_scratch(ctx, 2 * chunk->count, sizeof *ids);
    if (jt_failed(ctx))
        return;
    before.ids = ids;
    before.positions = ids + chunk->count;
    before.spans = spans;
    before.n_spans = before.count = 0;
    for (size_t k = 0, first = 0; k < c->n_parts; first += c->part[k++].tokens) {
        const jt_attached *by = c->part[k].by;
        jt_chunk own = chunk_of(chunk, c, k, first);
        if (!jt_attached_looks_ahead(by))
            continue;
        if (own.n_spans != 1)
            jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                    "X-LoRA, which has a pass of its own, beside a second sequence");
        spans[before.n_spans] = own.spans[0];
        if (by->first)
            spans[before.n_spans].cache = by->first;
        memcpy(ids + before.count, own.ids, own.count * sizeof *ids);
        memcpy(ids + chunk->count + before.count, own.positions,
               own.count * sizeof *ids);
        before.n_spans++;
        before.count += own.count;
    }
    if (jt_failed(ctx) || before.n_spans == 0)
        return;
    jt_tensor h = jt_blended_first_pass(ctx, c->model, &before, store);
    for (size_t k = 0, row = 0; k < c->n_parts && !jt_failed(ctx); k++) {
        jt_attached *by = c->part[k].by;
        if (!jt_attached_looks_ahead(by))
            continue;
        jt_tensor rows = jt_some_rows(&h, row, c->part[k].tokens);
        for (size_t i = 0; i < by->count; i++) {
            jt_attachment *at = &by->list[i];
            if (at->blended && jt_blended_looks_ahead(at->blended))
                jt_blended_hear(at->blended, &at->decided, ctx, &rows);
        }
        row += c->part[k].tokens;
    }
}

/* The steps of all parts, by rounds. */
static void list_steps(jt_crew *c, jt_context *ctx)
{
    size_t most = 0, rounds = 0;
    for (size_t k = 0; k < c->n_parts; k++) {
        const jt_attached *by = c->part[k].by;
        size_t last = by->count ? by->list[by->count - 1].round + 1 : 0;
        most += by->count;
        rounds = last > rounds ? last : rounds;
    }
    c->step = jt_scratch(ctx, most, sizeof *c->step);
    for (size_t r = 0; r < rounds && c->step; r++) {
        for (size_t k = 0; k < c->n_parts; k++) {
            const jt_attached *by = c->part[k].by;
            for (size_t i = 0; i < by->count; i++) {
                const jt_attachment *at = &by->list[i];
                size_t s = 0;
                while (s < c->n_steps && !jt_crew_step_has(at, &c->step[s]))
                    s++;
                if (at->round == r && s == c->n_steps)
                    c->step[c->n_steps++] = (jt_crew_step){at->adapter->kind, r};
            }
        }
    }
}

/* Let the crew work on the chunk: `own` is it with mixtures in place of FFNs. */
static jt_tensor forward(jt_crew *c, jt_context *ctx, jt_chunk *own,
                         const jt_store *store, const jt_hooks *hooks)
{
    jt_instead *instead = jt_scratch(ctx, c->n_parts, sizeof *instead);
    list_steps(c, ctx);
    ctx->change = jt_crew_change(c);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    own->between = jt_crew_between(c, ctx);
    own->instead = instead;
    own->n_instead = c->n_parts;
    for (size_t k = 0, first = 0; k < c->n_parts; first += c->part[k++].tokens) {
        jt_attached *by = c->part[k].by;
        jt_chunk tokens = chunk_of(own, c, k, first);
        instead[k] = (jt_instead){.tokens = c->part[k].tokens};
        replace_ffns(ctx, by, &instead[k]);
        for (size_t i = 0; i < by->count && !jt_failed(ctx); i++) {
            jt_attachment *at = &by->list[i];
            if (at->blended)
                jt_blended_begin(at->blended, &at->decided, ctx, &tokens);
        }
    }
    look_ahead(c, ctx, own, store);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    return jt_transformer_forward(ctx, c->model, own, store, hooks);
}

jt_tensor jt_attached_forward(jt_attached *attached, jt_context *ctx,
                              const jt_model *model, const jt_chunk *chunk,
                              const jt_store *store, const jt_hooks *hooks)
{
    ctx->change = (jt_product_change){0};
    if (!attached->count)
        return jt_transformer_forward(ctx, model, chunk, store, hooks);
    /* as long as a tape needs them */
    jt_chunk *own = jt_scratch(ctx, 1, sizeof *own);
    jt_crew *c = jt_scratch(ctx, 1, sizeof *c);
    jt_crew_part *all = jt_scratch(ctx, 1, sizeof *all);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    *own = *chunk;
    *all = (jt_crew_part){attached, chunk->count};
    *c = (jt_crew){.model = model, .part = all, .n_parts = 1, .n_tokens = chunk->count};
    return forward(c, ctx, own, store, hooks);
}

jt_tensor jt_attached_forward_spans(jt_attached *const *attached, jt_context *ctx,
                                    const jt_model *model, const jt_chunk *chunk,
                                    const jt_store *store, const jt_hooks *hooks)
{
    size_t n = chunk->n_spans, adapters = 0;
    for (size_t i = 0; i < n; i++)
        adapters += attached[i]->count;
    ctx->change = (jt_product_change){0};
    if (!adapters)
        return jt_transformer_forward(ctx, model, chunk, store, hooks);
    jt_chunk own = *chunk;
    jt_crew c = {.model = model,
                 .part = jt_scratch(ctx, n, sizeof *c.part),
                 .n_parts = n,
                 .part_of = jt_scratch(ctx, chunk->count, sizeof *c.part_of),
                 .n_tokens = chunk->count};
    for (size_t i = 0, token = 0; i < n && !jt_failed(ctx); i++) {
        c.part[i] = (jt_crew_part){attached[i], chunk->spans[i].count};
        attached[i]->weight = NULL;
        attached[i]->n_tokens = chunk->spans[i].count;
        for (size_t t = 0; t < chunk->spans[i].count; t++)
            c.part_of[token++] = i;
    }
    jt_tensor out = {0};
    if (!jt_failed(ctx))
        out = forward(&c, ctx, &own, store, hooks);
    ctx->change = (jt_product_change){0};
    return out;
}

static bool is_by_rule(const jt_attachment *at)
{
    return at->blended && at->blended->blend->method->producer == JT_BY_RULE;
}

bool jt_attached_by_rule(const jt_attached *attached)
{
    bool found = false;
    for (size_t i = 0; i < attached->count; i++)
        found |= is_by_rule(&attached->list[i]) ||
                 attached->list[i].adapter->kind->prompt_of;
    return found;
}

bool jt_attached_decide(jt_attached *attached, const int32_t *ids, size_t count)
{
    bool changed = false;
    for (size_t i = 0; i < attached->count; i++) {
        jt_attachment *at = &attached->list[i];
        const jt_blended *m = at->blended;
        changed |= jt_attachment_find_prompt(at, ids, count);
        if (!is_by_rule(at))
            continue;
        int chosen = jt_blend_rule(m->blend, ids, count);
        changed |= chosen != at->decided.chosen;
        at->decided.chosen = chosen;
    }
    return changed;
}

bool jt_attached_looks_ahead(const jt_attached *attached)
{
    for (size_t i = 0; i < attached->count; i++) {
        const jt_blended *m = attached->list[i].blended;
        if (m && jt_blended_looks_ahead(m))
            return true;
    }
    return false;
}
