#include "adapt/attach.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/place.h"
#include "base/memory.h"
#include "model/bind.h"
#include "model/model.h"
#include "tensor/tape.h"

/* ---- which weights ---- */

/* The tensor behind a slot, and the number that its weights have. */
static const jt_gguf_tensor *tensor_of(const jt_gguf *file, const jt_adapter_slot *s,
                                       uint32_t *weight)
{
    const jt_gguf_tensor *t = jt_gguf_find(file, s->target);
    *weight = jt_weight_number(file, t);
    return t ? t : jt_gguf_find(file, "token_embd.weight");
}

/* ---- norms of DoRA ---- */

typedef struct norm_rows {
    const jt_gguf_tensor *t;
    const jt_adapter_slot *s;
    float scale, *norm;
    float *row; /* [cols] for each thread */
} norm_rows;

static void norm_row(void *arg, size_t r)
{
    const norm_rows *w = arg;
    const jt_adapter_slot *s = w->s;
    float *row = w->row + (size_t)jt_pool_self() * s->cols;
    double sum = 0.0;
    jt_dequantize(w->t->dtype, row, jt_gguf_row(w->t, r), s->cols);
    jt_adapter_lora.merge_row(s, w->scale, r, row);
    for (size_t c = 0; c < s->cols; c++)
        sum += (double)row[c] * (double)row[c];
    w->norm[r] = sum > 0.0 ? (float)sqrt(sum) : 1.0f;
}

static void make_norms(const jt_attached *attached, const jt_attachment *at,
                       jt_context *ctx, size_t i)
{
    const jt_adapter_slot *s = &at->adapter->slot[i];
    size_t rows = s->count * s->rows;
    uint32_t weight;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    norm_rows work = {
        tensor_of(attached->model->file, s, &weight), s, s->scale * at->scale,
        at->norm[i],
        jt_scratch(ctx, (size_t)jt_pool_threads(ctx->pool) * s->cols, sizeof(float))};
    if (work.row)
        jt_for_rows(ctx, rows, rows * s->cols * s->rank, norm_row, &work);
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_attached_refresh(jt_attached *attached, jt_context *ctx)
{
    for (size_t i = 0; i < attached->count; i++) {
        const jt_attachment *at = &attached->list[i];
        for (size_t j = 0; at->norm && j < at->adapter->count; j++)
            make_norms(attached, at, ctx, j);
    }
}

static jt_status room_for_norms(jt_attachment *at, jt_err *err)
{
    const jt_adapter *a = at->adapter;
    at->norm = jt_calloc(a->count, sizeof *at->norm);
    for (size_t i = 0; at->norm && i < a->count; i++) {
        at->norm[i] = jt_alloc(a->slot[i].count * a->slot[i].rows, sizeof(float));
        if (!at->norm[i])
            return jt_fail_memory(err, "attaching an adapter");
    }
    return at->norm ? JT_OK : jt_fail_memory(err, "attaching an adapter");
}

/* ---- attaching ---- */

static void detach(jt_attachment *at)
{
    for (size_t i = 0; at->norm && i < at->adapter->count; i++)
        free(at->norm[i]);
    free(at->norm);
    free(at->slot);
    free(at->stands);
    jt_blended_free(at->blended);
    *at = (jt_attachment){0};
}

void jt_detach_last(jt_attached *attached)
{
    detach(&attached->list[--attached->count]);
}

void jt_attached_free(jt_attached *attached)
{
    for (size_t i = 0; i < attached->count; i++)
        detach(&attached->list[i]);
    *attached = (jt_attached){0};
}

static jt_status take_places(jt_attachment *at, bool trains, jt_err *err)
{
    const jt_adapter *a = at->adapter;
    at->stands = jt_alloc(a->n_places, sizeof *at->stands);
    if (!at->stands)
        return jt_fail_memory(err, "attaching an adapter");
    for (size_t i = 0; i < a->n_places; i++)
        at->stands[i] =
            trains || (at->scale != 0.0f && !a->kind->is_fresh_place(a, &a->place[i]));
    return JT_OK;
}

static jt_status prepare(jt_attached *attached, jt_attachment *at, jt_context *ctx,
                         bool trains, jt_err *err)
{
    const jt_adapter *a = at->adapter;
    const jt_gguf *file = attached->model->file;
    at->slot = jt_alloc(attached->n_weights + 1, sizeof *at->slot);
    if (!at->slot)
        return jt_fail_memory(err, "attaching an adapter");
    memset(at->slot, -1, (attached->n_weights + 1) * sizeof *at->slot);
    JT_TRY(take_places(at, trains, err));
    if (a->kind->magnitude)
        JT_TRY(room_for_norms(at, err));
    if (a->blend)
        JT_TRY(jt_blended_new(&at->blended, a->blend, attached->model, at->scale,
                              trains, err));
    for (size_t i = 0; i < a->count; i++) {
        uint32_t weight;
        if (at->scale == 0.0f && !trains)
            continue;
        if (a->kind->by_token && !strcmp(a->slot[i].target, "token_embd.weight"))
            return jt_fail(err, JT_E_UNSUPPORTED, "'%s' adapters of the embedding",
                           a->kind->name);
        tensor_of(file, &a->slot[i], &weight);
        if (at->norm)
            make_norms(attached, at, ctx, i);
        if (trains || !a->kind->is_fresh(&a->slot[i], at->norm ? at->norm[i] : NULL))
            at->slot[weight] = (int32_t)i;
    }
    if (jt_failed(ctx))
        return jt_fail(err, ctx->err.code, "%s", ctx->err.msg);
    return JT_OK;
}

jt_status jt_attach(jt_attached *attached, jt_context *ctx, const jt_model *model,
                    const jt_adapter *adapter, float scale, bool trains, jt_err *err)
{
    if (!isfinite(scale))
        return jt_fail(err, JT_E_ARG, "a scale of %g for '%s'", (double)scale,
                       adapter->path);
    if (attached->count == JT_MOST_ADAPTERS)
        return jt_fail(err, JT_E_LIMIT, "more than %d adapters", JT_MOST_ADAPTERS);
    jt_status status = jt_adapter_fits(adapter, model, err);
    if (status != JT_OK)
        return jt_fail_within(err, status, "'%s'", adapter->path);
    attached->model = model;
    attached->n_weights = jt_weight_number(model->file, NULL);
    jt_attachment *at = &attached->list[attached->count];
    *at = (jt_attachment){.adapter = adapter, .scale = scale};
    status = prepare(attached, at, ctx, trains, err);
    if (status == JT_OK)
        attached->count++;
    else
        detach(at);
    return status;
}

/* ---- at work ---- */

static const jt_adapter_slot *slot_for(const jt_attachment *at, const jt_tensor *w)
{
    int32_t i = w->weight ? at->slot[w->weight] : -1;
    return i < 0 ? NULL : &at->adapter->slot[i];
}

/* The uses of one list of products, adapter by adapter. */
typedef struct work {
    jt_use *use;
    size_t end[JT_MOST_ADAPTERS]; /* of each adapter's uses */
    jt_blend_use *mixed;
    size_t n_mixed;
    const jt_attached *attached;
} work;

static size_t count_uses(const jt_attached *attached, const jt_product *products,
                         size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < attached->count; i++) {
        for (size_t j = 0; j < count; j++)
            n += products[j].tokens && slot_for(&attached->list[i], &products[j].w);
    }
    return n;
}

static jt_use use_of(const jt_attachment *at, const jt_adapter_slot *s,
                     const jt_product *p)
{
    return (jt_use){.slot = s,
                    .p = *p,
                    .x = p->x->x,
                    .matrix = p->w.first_row / s->rows,
                    .row = p->w.first_row % s->rows,
                    .scale = s->scale * at->scale,
                    .norm = at->norm ? at->norm[s - at->adapter->slot] + p->w.first_row
                                     : NULL};
}

/* The weights that the rows of a product give to adapter `i`, in scratch; NULL where
 * all are 1. Where only the last tokens go on (to the output), rows are counted from
 * the end. *used: is any of them not 0? */
static const float *weights_of(jt_context *ctx, const jt_attached *attached, size_t i,
                               const jt_product *p, bool *used)
{
    *used = !attached->weight;
    if (*used)
        return NULL;
    size_t rows = jt_rows(&p->x->x);
    if (!p->token && rows > attached->n_tokens) {
        jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                "weights of tokens for adapters of a product that mixes them");
        return NULL;
    }
    size_t skipped = p->token ? 0 : attached->n_tokens - rows;
    float *weight = jt_scratch(ctx, p->tokens, sizeof *weight);
    for (size_t t = 0; weight && t < p->tokens; t++) {
        size_t row = p->first + t;
        size_t token = p->token ? (size_t)p->token[row] : row + skipped;
        weight[t] = attached->weight[token * attached->count + i];
        *used |= weight[t] != 0.0f;
    }
    return weight;
}

/* A x, in the list of the products themselves: they read the same rows of x. */
static jt_product low_product(jt_context *ctx, jt_use *u)
{
    jt_tensor a = jt_slice(&u->slot->part[JT_LOW_A], u->matrix);
    u->low = jt_input_of(jt_new(ctx, u->p.tokens, u->slot->rank));
    jt_product p = jt_product_rows(&u->low.x, &a, u->p.x, 0, u->p.tokens);
    p.first = u->p.first;
    p.via = u->p.via;
    return p;
}

static void late_backward(jt_context *ctx, void *saved)
{
    const work *w = *(work **)saved;
    for (size_t i = 0, first = 0; i < w->attached->count; first = w->end[i++]) {
        const jt_adapter_kind *kind = w->attached->list[i].adapter->kind;
        if (kind->back_late && w->end[i] > first)
            kind->back_late(ctx, w->use + first, w->end[i] - first);
    }
}

/* Uses by routed mixtures; *room grows by the products that they may add. */
static size_t count_mixed(const jt_attached *attached, const jt_product *products,
                          size_t count, size_t *room)
{
    size_t n = 0;
    for (size_t i = 0; i < attached->count; i++) {
        const jt_blended *m = attached->list[i].blended;
        size_t uses = m ? jt_blended_count(m, products, count) : 0;
        *room += uses ? uses * m->blend->n : 0;
        n += uses;
    }
    return n;
}

static void mix(const jt_attached *attached, jt_context *ctx, work *w,
                const jt_product *products, size_t count, jt_product *list, size_t *all)
{
    w->n_mixed = 0;
    for (size_t i = 0; i < attached->count && !jt_failed(ctx); i++) {
        const jt_blended *m = attached->list[i].blended;
        if (m)
            w->n_mixed += jt_blended_before(m, ctx, products, count,
                                            w->mixed + w->n_mixed, list, all);
    }
}

static void *before(void *self, jt_context *ctx, jt_product **products, size_t *count)
{
    const jt_attached *attached = self;
    size_t n = count_uses(attached, *products, *count), filled = 0, all = *count;
    size_t room = all + n, n_mixed = count_mixed(attached, *products, all, &room);
    if (!n && !n_mixed)
        return NULL;
    work *w = jt_scratch(ctx, 1, sizeof *w);
    jt_use *use = jt_scratch(ctx, n, sizeof *use);
    jt_product *list = jt_scratch(ctx, room, sizeof *list);
    jt_blend_use *mixed = jt_scratch(ctx, n_mixed, sizeof *mixed);
    if (!w || !use || !list || !mixed)
        return NULL;
    *w = (work){.attached = attached, .use = use, .mixed = mixed};
    memcpy(list, *products, all * sizeof *list);
    if (n_mixed)
        mix(attached, ctx, w, *products, *count, list, &all);
    for (size_t i = 0; i < attached->count; i++) {
        const jt_attachment *at = &attached->list[i];
        for (size_t j = 0; j < *count; j++) {
            const jt_adapter_slot *s = slot_for(at, &list[j].w);
            if (!s || !list[j].tokens)
                continue;
            bool used;
            use[filled] = use_of(at, s, &list[j]);
            use[filled].weight = weights_of(ctx, attached, i, &list[j], &used);
            if (!used)
                continue;
            if (at->adapter->kind->low_rank)
                list[all++] = low_product(ctx, &use[filled]);
            filled++;
        }
        w->end[i] = filled;
    }
    *products = list;
    *count = all;
    jt_tape_push(ctx, late_backward, &w, sizeof w);
    return w;
}

static void after(void *self, jt_context *ctx, void *begun)
{
    const work *w = begun;
    (void)self;
    for (size_t i = 0, first = 0; i < w->attached->count; first = w->end[i++]) {
        const jt_adapter_kind *kind = w->attached->list[i].adapter->kind;
        if (w->end[i] > first)
            kind->change(ctx, w->use + first, w->end[i] - first);
    }
    if (w->n_mixed)
        jt_blended_after(ctx, w->mixed, w->n_mixed);
}

/* ---- embeddings: a few rows of the weight ---- */

typedef struct embed_rows {
    const jt_attachment *at;
    const jt_adapter_slot *s;
    const int32_t *ids;
    jt_tensor *y;
    const float *weight; /* of row i: weight[i * step]; NULL: 1 */
    size_t step;
} embed_rows;

static void embed_row(void *arg, size_t i)
{
    const embed_rows *w = arg;
    float weight = w->weight ? w->weight[i * w->step] : 1.0f;
    w->at->adapter->kind->merge_row(w->s, weight * w->s->scale * w->at->scale,
                                    (size_t)w->ids[i], jt_row(w->y, i));
}

static void on_embed(void *self, jt_context *ctx, const jt_tensor *table,
                     const int32_t *ids, jt_tensor *y)
{
    const jt_attached *attached = self;
    for (size_t i = 0; i < attached->count && !jt_failed(ctx); i++) {
        const jt_attachment *at = &attached->list[i];
        embed_rows w = {at, slot_for(at, table), ids, y, NULL, attached->count};
        if (attached->weight)
            w.weight = attached->weight + i;
        if (!w.s)
            continue;
        if (ctx->tape) {
            jt_fail(&ctx->err, JT_E_UNSUPPORTED, "gradients of adapters of '%s'",
                    w.s->target);
            return;
        }
        jt_for_rows(ctx, jt_rows(y), jt_rows(y) * jt_cols(y) * (w.s->rank + 1),
                    embed_row, &w);
    }
}

jt_product_change jt_attached_change(jt_attached *attached)
{
    if (!attached->count)
        return (jt_product_change){0};
    return (jt_product_change){attached, before, after, on_embed};
}

/* ---- whole passes ---- */

/* What stands in place of dense FFNs: of the one mixture that has any. */
static void replace_ffns(const jt_attached *attached, jt_context *ctx, jt_chunk *chunk)
{
    for (size_t i = 0; i < attached->count; i++) {
        const jt_blended *m = attached->list[i].blended;
        if (!m || !m->instead)
            continue;
        if (chunk->instead)
            jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                    "two adapters that make mixtures of FFNs");
        chunk->instead = m->instead;
        chunk->instead_term = m->term;
    }
}

jt_tensor jt_attached_forward(jt_attached *attached, jt_context *ctx,
                              const jt_model *model, const jt_chunk *chunk,
                              const jt_store *store, const jt_hooks *hooks)
{
    jt_chunk *own = jt_scratch(ctx, 1, sizeof *own); /* as long as a tape needs it */
    ctx->change = jt_attached_change(attached);
    if (!own)
        return (jt_tensor){0};
    *own = *chunk;
    replace_ffns(attached, ctx, own);
    own->between = jt_attached_between(attached, ctx);
    for (size_t i = 0; i < attached->count && !jt_failed(ctx); i++) {
        if (attached->list[i].blended)
            jt_blended_begin(attached->list[i].blended, ctx, own, store,
                             attached->first);
    }
    if (jt_failed(ctx))
        return (jt_tensor){0};
    return jt_transformer_forward(ctx, model, own, store, hooks);
}

bool jt_attached_decide(jt_attached *attached, const int32_t *ids, size_t count)
{
    bool changed = false;
    for (size_t i = 0; i < attached->count; i++) {
        jt_blended *m = attached->list[i].blended;
        if (!m || m->blend->method->producer != JT_BY_RULE)
            continue;
        int chosen = jt_blend_rule(m->blend, ids, count);
        changed |= chosen != m->chosen;
        m->chosen = chosen;
    }
    return changed;
}

bool jt_attached_looks_ahead(const jt_attached *attached)
{
    for (size_t i = 0; i < attached->count; i++) {
        const jt_blended *m = attached->list[i].blended;
        if (m && m->bank && m->blend->method->producer == JT_BY_PASS)
            return true;
    }
    return false;
}
