/* SHiRA (Bhardwaj et al. 2024, "Sparse high rank adapters"): W + s S, S having few
 * values in places that never change. */
#include <stdlib.h>
#include <string.h>

#include "adapt/adapter.h"
#include "base/memory.h"

static float as_is(float alpha, size_t rank)
{
    (void)rank;
    return alpha;
}

/* Row of x that row t of the product reads. */
static size_t input_row(const jt_product *p, size_t t)
{
    return p->via ? (size_t)p->via->token[p->first + t] : p->first + t;
}

static size_t first_of(const jt_use *u)
{
    return u->matrix * u->slot->rows + u->row;
}

/* y += s S x, one token. */
static void change_token(void *arg, size_t t)
{
    const jt_use *u = arg;
    const jt_adapter_slot *s = u->slot;
    const float *x = jt_row(&u->x, input_row(&u->p, t));
    const float *value = s->part[0].data;
    const size_t *start = s->start + first_of(u);
    float *y = u->p.y + t * u->p.ldy, scale = u->scale;
    scale *= u->weight ? u->weight[t] : 1.0f;
    for (size_t r = 0; r < jt_rows(&u->p.w); r++) {
        float sum = 0.0f;
        for (size_t i = start[r]; i < start[r + 1]; i++)
            sum += value[i] * x[s->column[i]];
        y[r] += scale * sum;
    }
}

static size_t work_of(const jt_use *u)
{
    const size_t *start = u->slot->start + first_of(u);
    size_t rows = jt_rows(&u->p.w);
    return u->p.tokens * (rows + start[rows] - start[0]);
}

static void change(jt_context *ctx, jt_use *uses, size_t count)
{
    for (size_t i = 0; i < count; i++)
        jt_for_rows(ctx, uses[i].p.tokens, work_of(&uses[i]), change_token, &uses[i]);
}

/* ---- gradients ----
 * dS[r, c] += s sum over tokens of dy[r] x[c], where there are values: the products are
 * sampled, never made whole. dx[c] += s S[r, c] dy[r]. */

static void value_row(void *arg, size_t r)
{
    const jt_use *u = arg;
    const jt_adapter_slot *s = u->slot;
    const size_t *start = s->start + first_of(u);
    for (size_t t = 0; t < u->p.tokens; t++) {
        const float *x = jt_row(&u->x, input_row(&u->p, t));
        float dy = u->scale * u->p.y_grad[t * u->p.ldy + r];
        for (size_t i = start[r]; i < start[r + 1]; i++)
            s->part[0].grad[i] += dy * x[s->column[i]];
    }
}

/* The tokens of one product are different rows of x. */
static void input_token(void *arg, size_t t)
{
    const jt_use *u = arg;
    const jt_adapter_slot *s = u->slot;
    const float *value = s->part[0].data, *dy = u->p.y_grad + t * u->p.ldy;
    const size_t *start = s->start + first_of(u);
    float *dx = jt_grad_row(&u->x, input_row(&u->p, t));
    for (size_t r = 0; r < jt_rows(&u->p.w); r++) {
        for (size_t i = start[r]; i < start[r + 1]; i++)
            dx[s->column[i]] += u->scale * value[i] * dy[r];
    }
}

static void back_late(jt_context *ctx, const jt_use *uses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        jt_use u = uses[i];
        if (u.slot->part[0].grad)
            jt_for_rows(ctx, jt_rows(&u.p.w), work_of(&u), value_row, &u);
        if (u.x.grad)
            jt_for_rows(ctx, u.p.tokens, work_of(&u), input_token, &u);
    }
}

/* ---- whole weights ---- */

static void merge_row(const jt_adapter_slot *s, float scale, size_t row, float *w)
{
    const float *value = s->part[0].data;
    for (size_t i = s->start[row]; i < s->start[row + 1]; i++)
        w[s->column[i]] += scale * value[i];
}

static bool is_fresh(const jt_adapter_slot *s, const float *norm)
{
    const float *value = s->part[0].data;
    (void)norm;
    for (size_t i = 0; i < jt_cols(&s->part[0]); i++) {
        if (value[i] != 0.0f)
            return false;
    }
    return true;
}

const jt_adapter_kind jt_adapter_shira = {.name = "shira",
                                          .what = "W + S, few values in fixed places",
                                          .part = {"shira_value"},
                                          .sparse = true,
                                          .scale = as_is,
                                          .is_fresh = is_fresh,
                                          .merge_row = merge_row,
                                          .change = change,
                                          .back_late = back_late};

/* ---- places ---- */

typedef struct placed {
    int32_t row, column;
    float value;
} placed;

static int by_place(const void *a, const void *b)
{
    const placed *p = a, *q = b;
    int order = (p->row > q->row) - (p->row < q->row);
    return order ? order : (p->column > q->column) - (p->column < q->column);
}

static jt_status check_place(const jt_adapter_slot *s, const placed *p,
                             const placed *before, jt_err *err)
{
    if (p->row < 0 || (size_t)p->row >= s->count * s->rows || p->column < 0 ||
        (size_t)p->column >= s->cols)
        return jt_fail(err, JT_E_FORMAT,
                       "'%s' has a value at [%ld, %ld], outside the weight", s->target,
                       (long)p->row, (long)p->column);
    if (before && by_place(before, p) == 0)
        return jt_fail(err, JT_E_FORMAT, "'%s' has two values at [%ld, %ld]", s->target,
                       (long)p->row, (long)p->column);
    return JT_OK;
}

jt_status jt_sparse_place(jt_adapter_slot *s, const float *value, const int32_t *row,
                          const int32_t *column, jt_err *err)
{
    size_t n = jt_cols(&s->part[0]), rows = s->count * s->rows;
    jt_status status = JT_OK;
    placed *list = jt_alloc(n, sizeof *list);
    if (!list)
        return jt_fail_memory(err, "placing sparse values");
    for (size_t i = 0; i < n; i++)
        list[i] = (placed){row[i], column[i], value[i]};
    qsort(list, n, sizeof *list, by_place);
    memset(s->start, 0, (rows + 1) * sizeof *s->start);
    for (size_t i = 0; i < n && status == JT_OK; i++) {
        status = check_place(s, &list[i], i ? &list[i - 1] : NULL, err);
        if (status != JT_OK)
            break;
        s->start[list[i].row + 1]++;
        s->column[i] = (uint32_t)list[i].column;
        ((float *)s->part[0].data)[i] = list[i].value;
    }
    for (size_t r = 0; r < rows; r++)
        s->start[r + 1] += s->start[r];
    free(list);
    return status;
}
