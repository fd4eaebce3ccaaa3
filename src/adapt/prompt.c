#include "adapt/prompt.h"

#include "adapt/front.h"
#include "base/hash.h"
#include "model/model.h"
#include "tensor/tape.h"

/* ---- which rows ---- */

/* Prompts of a pass, one after the other. */
typedef struct prompts {
    int32_t *ids, *row; /* [n]; the row of h that is rewritten; -1: of another pass */
    jt_sequence *sequence;
    size_t n, count;
} prompts;

static void add(prompts *p, const int32_t *ids, size_t count)
{
    p->sequence[p->count++] = (jt_sequence){p->n, count};
    for (size_t i = 0; i < count; i++) {
        p->ids[p->n] = ids[i];
        p->row[p->n++] = -1;
    }
}

/* In training: of each document the tokens before its marker. */
static void find_in_documents(prompts *p, const jt_adapter *a, const jt_chunk *chunk)
{
    for (size_t t = 0, end; t < chunk->count; t = end) {
        size_t first = p->n;
        for (end = t + 1; end < chunk->count; end++) {
            if (chunk->first[end] != chunk->first[t])
                break;
        }
        size_t prompt = a->kind->prompt_of(a, chunk->ids + t, end - t);
        if (!prompt)
            continue;
        add(p, chunk->ids + t, prompt);
        for (size_t i = 0; i < prompt; i++)
            p->row[first + i] = (int32_t)(t + i);
    }
}

/* In sessions: of each span the part that belongs to the prompt, which is known as a
 * whole. */
static void find_in_spans(prompts *p, const jt_attachment *at, const jt_chunk *chunk)
{
    size_t row = 0;
    for (size_t i = 0; i < chunk->n_spans; row += chunk->spans[i++].count) {
        const jt_span *s = &chunk->spans[i];
        size_t first = p->n;
        if (s->start >= at->prompt)
            continue;
        add(p, at->prompt_ids, at->prompt);
        for (size_t t = s->start; t < at->prompt && t < s->start + s->count; t++)
            p->row[first + t] = (int32_t)(row + t - s->start);
    }
}

/* ---- adding: h[row[i]] += s y[i] ---- */

typedef struct adding {
    const jt_kernels *kernels;
    jt_tensor h, y;
    const int32_t *row;
    float scale;
    const float *weight; /* of token t: weight[t * step]; NULL: 1 */
    size_t step;
} adding;

static void add_rows(const adding *w)
{
    for (size_t i = 0; i < jt_rows(&w->y); i++) {
        int32_t row = w->row[i];
        if (row < 0)
            continue;
        float factor = w->scale * (w->weight ? w->weight[(size_t)row * w->step] : 1.0f);
        w->kernels->axpy(jt_row(&w->h, (size_t)row), factor, jt_row(&w->y, i),
                         jt_cols(&w->y));
    }
}

static void add_backward(jt_context *ctx, void *saved)
{
    const adding *w = saved;
    (void)ctx;
    for (size_t i = 0; i < jt_rows(&w->y); i++) {
        if (w->row[i] >= 0)
            w->kernels->axpy(jt_grad_row(&w->y, i), w->scale,
                             jt_grad_row(&w->h, (size_t)w->row[i]), jt_cols(&w->y));
    }
}

/* ---- the whole ---- */

static void rewrite(const jt_attached *attached, size_t index, jt_context *ctx,
                    const prompts *p, jt_tensor *h)
{
    const jt_attachment *at = &attached->list[index];
    const jt_model *model = attached->model;
    jt_tensor e = jt_embed(ctx, &model->embedding, p->ids, p->n);
    jt_scale(ctx, &e, model->params.embedding_scale);
    if (jt_failed(ctx))
        return;
    adding w = {
        .kernels = ctx->kernels,
        .h = *h,
        .y = at->adapter->kind->rewrite(at->adapter, ctx, &e, p->sequence, p->count),
        .row = p->row,
        .scale = at->scale,
        .weight = attached->weight ? attached->weight + index : NULL,
        .step = attached->count};
    if (jt_failed(ctx))
        return;
    add_rows(&w);
    jt_tape_push(ctx, add_backward, &w, sizeof w);
}

void jt_attached_embedded(void *self, jt_context *ctx, const jt_chunk *chunk,
                          jt_tensor *h)
{
    const jt_attached *attached = self;
    jt_attached_embed_front(attached, ctx, chunk, h);
    if (attached->laid)
        return;
    for (size_t i = 0; i < attached->count && !jt_failed(ctx); i++) {
        const jt_attachment *at = &attached->list[i];
        if (!at->adapter->kind->rewrite || !at->stands[0])
            continue;
        size_t room = chunk->first ? chunk->count : chunk->n_spans * at->prompt;
        prompts p = {.ids = jt_scratch(ctx, room, sizeof *p.ids),
                     .row = jt_scratch(ctx, room, sizeof *p.row),
                     .sequence = jt_scratch(ctx, room, sizeof *p.sequence)};
        if (jt_failed(ctx))
            return;
        if (chunk->first)
            find_in_documents(&p, at->adapter, chunk);
        else
            find_in_spans(&p, at, chunk);
        if (p.n)
            rewrite(attached, i, ctx, &p, h);
    }
}

bool jt_attachment_find_prompt(jt_attachment *at, const int32_t *ids, size_t count)
{
    const jt_adapter *a = at->adapter;
    if (!a->kind->prompt_of || !at->stands[0])
        return false;
    size_t prompt = a->kind->prompt_of(a, ids, count);
    uint64_t hash = jt_hash(JT_HASH_START, ids, prompt * sizeof *ids);
    bool changed = prompt != at->prompt || (prompt && hash != at->prompt_hash);
    at->prompt = prompt;
    at->prompt_ids = ids;
    at->prompt_hash = hash;
    return changed;
}
