#include "learn/shira_mask.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "model/model.h"
#include "store/mapped.h"
#include "tensor/loss.h"
#include "tensor/tape.h"

static jt_status no_memory(jt_err *err)
{
    return jt_fail_memory(err, "choosing places of a sparse adapter");
}

/* ---- the largest ---- */

/* One value of a matrix and what it is chosen by. */
typedef struct candidate {
    float size;
    uint32_t at;
} candidate;

static int largest_first(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    int order = (x->size < y->size) - (x->size > y->size);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

/* What values of a matrix are chosen by: `score` (NULL: 1) times their size, or where
 * they stand, or random numbers. */
typedef struct rating {
    jt_adapter_slot *slot;
    const jt_gguf_tensor *t;
    bool by_weight, by_place;
    const float *score; /* [count * rows, cols] or NULL */
    jt_rng *rng;        /* or NULL */
    size_t per;
    candidate *list; /* [rows * cols] */
    float *row;      /* [cols] */
    int32_t *index;  /* [2, count * per] */
} rating;

/* The diagonal first, then as many whole rows, evenly spread, as there are values for:
 * a change whose rank is high, and one whose rank is low. Of the last row what is left.
 */
static float rate_place(const rating *w, size_t r, size_t c)
{
    size_t rows = w->slot->rows, cols = w->slot->cols;
    size_t diagonal = rows < cols ? rows : cols;
    size_t rest = w->per > diagonal ? w->per - diagonal : 0;
    size_t whole = cols > 1 ? (rest + cols - 2) / (cols - 1) : rest;
    if (r == c)
        return 2.0f;
    return (r + 1) * whole / rows > r * whole / rows ? 1.0f : 0.0f;
}

static float rate_value(const rating *w, size_t e, size_t r, size_t c)
{
    size_t at = (e * w->slot->rows + r) * w->slot->cols + c;
    if (w->rng)
        return jt_rng_float(w->rng);
    if (w->by_place)
        return rate_place(w, r, c);
    return (w->by_weight ? fabsf(w->row[c]) : 1.0f) * (w->score ? w->score[at] : 1.0f);
}

static void rate(const rating *w, size_t e)
{
    size_t rows = w->slot->rows, cols = w->slot->cols;
    for (size_t r = 0; r < rows; r++) {
        jt_gguf_read_row(w->t, e * rows + r, w->row);
        for (size_t c = 0; c < cols; c++)
            w->list[r * cols + c] =
                (candidate){rate_value(w, e, r, c), (uint32_t)(r * cols + c)};
    }
}

static jt_status take_largest(const rating *w, jt_err *err)
{
    const jt_adapter_slot *s = w->slot;
    size_t n = w->per * s->count;
    float *zeros = jt_calloc(n, sizeof *zeros);
    if (!zeros)
        return no_memory(err);
    for (size_t e = 0; e < s->count; e++) {
        rate(w, e);
        qsort(w->list, s->rows * s->cols, sizeof *w->list, largest_first);
        for (size_t i = 0; i < w->per; i++) {
            uint32_t at = w->list[i].at;
            w->index[e * w->per + i] = (int32_t)(e * s->rows + at / s->cols);
            w->index[n + e * w->per + i] = (int32_t)(at % s->cols);
        }
    }
    jt_status status = jt_sparse_place(w->slot, zeros, w->index, w->index + n, err);
    free(zeros);
    return status;
}

static jt_status place(rating w, jt_err *err)
{
    const jt_adapter_slot *s = w.slot;
    w.index = jt_alloc(2 * w.per * s->count, sizeof *w.index);
    w.list = jt_alloc(s->rows * s->cols, sizeof *w.list);
    w.row = jt_alloc(s->cols, sizeof *w.row);
    jt_status status =
        w.index && w.list && w.row ? take_largest(&w, err) : no_memory(err);
    free(w.index);
    free(w.list);
    free(w.row);
    return status;
}

jt_status jt_shira_start(jt_adapter_slot *slot, const jt_gguf_tensor *t, size_t per,
                         const char *mask, uint64_t seed, uint64_t stream, jt_err *err)
{
    jt_rng rng = {seed, stream, 0};
    bool random = strcmp(mask, "random") == 0;
    return place((rating){.slot = slot,
                          .t = t,
                          .by_weight = true,
                          .by_place = strcmp(mask, "struct") == 0,
                          .rng = random ? &rng : NULL,
                          .per = per},
                 err);
}

/* ---- by gradients ---- */

/* A SHiRA of all values of the weights that the trainer's has, and what is summed. */
typedef struct looking {
    jt_trainer *t;
    jt_adapter *all;
    jt_attached attached;
    float **grad, **sum; /* [slots] */
    jt_err *err;
} looking;

static jt_status fill_slot(jt_adapter_slot *s, jt_err *err)
{
    size_t rows = s->count * s->rows, n = rows * s->cols;
    memset(s->part[0].data, 0, n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        s->column[i] = (uint32_t)(i % s->cols);
    for (size_t r = 0; r <= rows; r++)
        s->start[r] = r * s->cols;
    s->part[0].grad = jt_calloc(n, sizeof(float));
    return s->part[0].grad ? JT_OK : no_memory(err);
}

static jt_status add_slots(looking *w)
{
    const jt_adapter *own = w->t->tuning->adapter;
    w->grad = jt_calloc(own->count, sizeof *w->grad);
    w->sum = jt_calloc(own->count, sizeof *w->sum);
    if (!w->grad || !w->sum)
        return no_memory(w->err);
    for (size_t i = 0; i < own->count; i++) {
        const jt_adapter_slot *s = &own->slot[i];
        const size_t shape[] = {s->count, s->rows, s->cols};
        size_t n = s->count * s->rows * s->cols;
        jt_adapter_slot *full;
        JT_TRY(jt_adapter_add(w->all, &full, (jt_str){s->target, strlen(s->target)},
                              shape, n, 1.0f, w->err));
        jt_status status = fill_slot(full, w->err);
        w->grad[i] = full->part[0].grad;
        w->sum[i] = jt_calloc(n, sizeof **w->sum);
        if (status != JT_OK || !w->sum[i])
            return no_memory(w->err);
    }
    return JT_OK;
}

static size_t values_of(const jt_adapter_slot *s)
{
    return s->count * s->rows * s->cols;
}

static jt_status look_at(looking *w, size_t index)
{
    static const jt_hooks none;
    jt_trainer *t = w->t;
    jt_context *ctx = &t->ctx;
    jt_tape tape = {0};
    JT_TRY(jt_data_train_batch(t->data, index, &t->batch, w->err));
    jt_span span = jt_trainer_span(t);
    jt_chunk chunk = jt_trainer_chunk(t, &span, (int64_t)index);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    ctx->tape = &tape;
    jt_tensor logits = jt_attached_forward(&w->attached, ctx, t->model, &chunk,
                                           &jt_store_mapped, &none);
    jt_cross_entropy(ctx, &logits, t->batch.targets, 1.0f, NULL);
    if (!jt_failed(ctx))
        jt_tape_backward(ctx);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    if (jt_failed(ctx))
        return jt_fail(w->err, ctx->err.code, "%s", ctx->err.msg);
    for (size_t i = 0; i < w->all->count; i++) {
        size_t n = values_of(&w->all->slot[i]);
        for (size_t j = 0; j < n; j++)
            w->sum[i][j] += fabsf(w->grad[i][j]);
        memset(w->grad[i], 0, n * sizeof **w->grad);
    }
    return JT_OK;
}

static jt_status look(looking *w)
{
    const jt_config_adapter *c = &w->t->config->adapter;
    const jt_adapter *own = w->t->tuning->adapter;
    JT_TRY(jt_adapter_new(&w->all, &jt_adapter_shira, "(all)", w->err));
    JT_TRY(add_slots(w));
    JT_TRY(
        jt_attach(&w->attached, &w->t->ctx, w->t->model, w->all, 1.0f, true, w->err));
    for (int i = 0; i < c->mask_batches; i++)
        JT_TRY(look_at(w, (size_t)i));
    for (size_t i = 0; i < own->count; i++) {
        jt_adapter_slot *s = &own->slot[i];
        JT_TRY(place((rating){.slot = s,
                              .t = jt_gguf_find(w->t->model->file, s->target),
                              .by_weight = strcmp(c->mask, "snip") == 0,
                              .score = w->sum[i],
                              .per = jt_cols(&s->part[0]) / s->count},
                     w->err));
    }
    return JT_OK;
}

static void stop_looking(looking *w)
{
    size_t count = w->t->tuning->adapter->count;
    jt_attached_free(&w->attached);
    for (size_t i = 0; i < count && w->grad; i++)
        free(w->grad[i]);
    for (size_t i = 0; i < count && w->sum; i++)
        free(w->sum[i]);
    free(w->grad);
    free(w->sum);
    jt_adapter_free(w->all);
}

jt_status jt_shira_choose(jt_trainer *t, jt_err *err)
{
    const jt_config_adapter *c = &t->config->adapter;
    bool by_gradient = strcmp(c->mask, "gradient") == 0 || strcmp(c->mask, "snip") == 0;
    if (!t->tuning || t->tuning->adapter->kind != &jt_adapter_shira || !by_gradient ||
        *c->init)
        return JT_OK;
    looking w = {.t = t, .err = err};
    jt_status status = look(&w);
    stop_looking(&w);
    return status;
}
