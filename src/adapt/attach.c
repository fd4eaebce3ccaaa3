#include "adapt/attach.h"

#include "adapt/front.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/apart.h"
#include "model/bind.h"
#include "model/model.h"

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
    jt_gguf_read_row(w->t, r, row);
    jt_adapter_lora.merge_row(s, w->scale, r, row);
    for (size_t c = 0; c < s->cols; c++)
        sum += (double)row[c] * (double)row[c];
    w->norm[r] = sum > 0.0 ? (float)sqrt(sum) : 1.0f;
}

static void make_norms(const jt_model *model, const jt_attachment *at, jt_context *ctx,
                       size_t i)
{
    const jt_adapter_slot *s = &at->adapter->slot[i];
    size_t rows = s->count * s->rows;
    uint32_t weight;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    norm_rows work = {
        tensor_of(model->file, s, &weight), s, s->scale * at->scale, at->norm[i],
        jt_scratch(ctx, (size_t)jt_pool_threads(ctx->pool) * s->cols, sizeof(float))};
    if (work.row)
        jt_for_rows(ctx, rows, rows * s->cols * s->rank, norm_row, &work);
    jt_apart_forget(model->apart);
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_attached_refresh(jt_attached *attached, jt_context *ctx)
{
    for (size_t i = 0; i < attached->count; i++) {
        const jt_attachment *at = &attached->list[i];
        for (size_t j = 0; at->norm && j < at->adapter->count; j++)
            make_norms(attached->model, at, ctx, j);
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

void jt_attachment_free(jt_attachment *at)
{
    for (size_t i = 0; at->norm && !at->borrowed && i < at->adapter->count; i++)
        free(at->norm[i]);
    if (!at->borrowed) {
        free(at->factors);
        free(at->factor_memory);
        free(at->norm);
        free(at->slot);
        free(at->stands);
        jt_blended_free(at->blended);
    }
    *at = (jt_attachment){0};
}

uint64_t jt_attachment_bytes(const jt_attachment *at)
{
    const jt_blended *m = at->blended;
    uint64_t bytes = at->factor_bytes;
    for (size_t i = 0; at->norm && i < at->adapter->count; i++)
        bytes += at->adapter->slot[i].count * at->adapter->slot[i].rows * sizeof(float);
    if (m)
        bytes += m->factor_bytes;
    return bytes;
}

void jt_detach_last(jt_attached *attached)
{
    jt_attachment_free(&attached->list[--attached->count]);
}

void jt_attached_free(jt_attached *attached)
{
    while (attached->count)
        jt_detach_last(attached);
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

static jt_status prepare(jt_attachment *at, jt_context *ctx, const jt_model *model,
                         bool trains, jt_err *err)
{
    const jt_adapter *a = at->adapter;
    const jt_gguf *file = model->file;
    size_t n_weights = jt_weight_number(file, NULL);
    at->slot = jt_alloc(n_weights + 1, sizeof *at->slot);
    if (!at->slot)
        return jt_fail_memory(err, "attaching an adapter");
    memset(at->slot, -1, (n_weights + 1) * sizeof *at->slot);
    JT_TRY(take_places(at, trains, err));
    if (a->kind->magnitude)
        JT_TRY(room_for_norms(at, err));
    if (a->blend)
        JT_TRY(
            jt_blended_new(&at->blended, a->blend, model, at->scale, ctx, trains, err));
    for (size_t i = 0; i < a->count; i++) {
        uint32_t weight;
        if (at->scale == 0.0f && !trains)
            continue;
        if (a->kind->by_token && !strcmp(a->slot[i].target, "token_embd.weight"))
            return jt_fail(err, JT_E_UNSUPPORTED, "'%s' adapters of the embedding",
                           a->kind->name);
        tensor_of(file, &a->slot[i], &weight);
        if (at->norm)
            make_norms(model, at, ctx, i);
        if (trains || !a->kind->is_fresh(&a->slot[i], at->norm ? at->norm[i] : NULL))
            at->slot[weight] = (int32_t)i;
    }
    if (jt_failed(ctx))
        return jt_fail(err, ctx->err.code, "%s", ctx->err.msg);
    if (a->kind->low_rank && !trains)
        return jt_attachment_factors(at, ctx, file, err);
    return JT_OK;
}

jt_status jt_attachment_make(jt_attachment *out, jt_context *ctx, const jt_model *model,
                             const jt_adapter *adapter, float scale, bool trains,
                             jt_err *err)
{
    *out = (jt_attachment){.adapter = adapter, .scale = scale, .decided.chosen = -1};
    if (!isfinite(scale))
        return jt_fail(err, JT_E_ARG, "a scale of %g for '%s'", (double)scale,
                       adapter->path);
    if (adapter->kind->front && scale != 0.0f && scale != 1.0f)
        return jt_fail(
            err, JT_E_ARG,
            "a scale of %g for '%s': virtual tokens are there (1) or not (0)",
            (double)scale, adapter->path);
    jt_status status = jt_adapter_fits(adapter, model, err);
    if (status != JT_OK)
        return jt_fail_within(err, status, "'%s'", adapter->path);
    return prepare(out, ctx, model, trains, err);
}

bool jt_attachment_fits_all_scales(const jt_adapter *adapter)
{
    return !adapter->kind->magnitude && !adapter->blend && !adapter->kind->front;
}

/* Low-rank changes to the same values may follow each other in one region. */
static bool shares_round(const jt_attachment *a, const jt_attachment *b)
{
    const jt_adapter_kind *x = a->adapter->kind, *y = b->adapter->kind;
    return x->change == jt_low_rank_change && y->change == jt_low_rank_change &&
           !x->magnitude && !y->magnitude;
}

static jt_status add(jt_attached *attached, const jt_model *model,
                     const jt_attachment *at, bool trains, jt_err *err)
{
    if (at->adapter->kind->front && at->stands && at->stands[0] &&
        jt_attached_front(attached))
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "two adapters that put virtual tokens before a text");
    if (attached->count == JT_MOST_ADAPTERS)
        return jt_fail(err, JT_E_LIMIT, "more than %d adapters", JT_MOST_ADAPTERS);
    jt_attachment *own = &attached->list[attached->count], *last = own - 1;
    *own = *at;
    own->round = 0;
    if (attached->count)
        own->round = last->round + (trains || !shares_round(last, own));
    attached->model = model;
    attached->count++;
    return JT_OK;
}

jt_status jt_attach(jt_attached *attached, jt_context *ctx, const jt_model *model,
                    const jt_adapter *adapter, float scale, bool trains, jt_err *err)
{
    jt_attachment at;
    jt_status status = jt_attachment_make(&at, ctx, model, adapter, scale, trains, err);
    if (status == JT_OK)
        status = add(attached, model, &at, trains, err);
    if (status != JT_OK)
        jt_attachment_free(&at);
    return status;
}

jt_status jt_attach_made(jt_attached *attached, const jt_model *model,
                         const jt_attachment *made, float scale, jt_err *err)
{
    jt_attachment at = *made;
    at.borrowed = true;
    at.scale = scale;
    at.decided = (jt_decided){.chosen = -1};
    at.prompt = 0;
    at.prompt_ids = NULL;
    at.prompt_hash = 0;
    return add(attached, model, &at, false, err);
}
