/* Several adapters as one: formulas in junto/adapter.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/adapter.h"
#include "adapt/svd.h"
#include "base/memory.h"
#include "base/random.h"

typedef struct joining {
    const jt_adapter_mix *mix;
    const jt_join_options *o;
    jt_adapter *out;
    jt_err *err;
} joining;

static const jt_adapter_slot *slot_of(const joining *j, size_t i,
                                      const jt_adapter_slot *like)
{
    return jt_adapter_find(j->mix->adapters[i],
                           (jt_str){like->target, strlen(like->target)});
}

/* All have the same family, and the same shape where they have the same target. */
static jt_status check(const joining *j)
{
    const jt_adapter *first = j->mix->count ? j->mix->adapters[0] : NULL;
    if (!first)
        return jt_fail(j->err, JT_E_ARG, "no adapters to join");
    for (size_t i = 0; i < j->mix->count; i++) {
        const jt_adapter *a = j->mix->adapters[i];
        if (a->blend)
            return jt_fail(j->err, JT_E_ARG, "'%s' is a mixture: it cannot be joined",
                           a->path);
        if (a->kind->magnitude || a->kind->by_token ||
            a->kind->sparse != first->kind->sparse)
            return jt_fail(j->err, JT_E_ARG, "'%s' and '%s' cannot be joined",
                           first->kind->name, a->kind->name);
        if (a->fingerprint && first->fingerprint &&
            a->fingerprint != first->fingerprint)
            return jt_fail(j->err, JT_E_ARG, "'%s' and '%s' are for different models",
                           first->path, a->path);
        if (!isfinite(j->mix->scales[i]))
            return jt_fail(j->err, JT_E_ARG, "a scale of %g",
                           (double)j->mix->scales[i]);
    }
    return JT_OK;
}

/* ---- factors ---- */

static size_t sum_of_ranks(const joining *j, const jt_adapter_slot *like,
                           size_t *largest)
{
    size_t sum = 0;
    *largest = 0;
    for (size_t i = 0; i < j->mix->count; i++) {
        const jt_adapter_slot *s = slot_of(j, i, like);
        size_t rank = s ? s->rank : 0;
        sum += rank;
        *largest = rank > *largest ? rank : *largest;
    }
    return sum;
}

/* Add factors of `s` to those of `to`, from rank `first` on: a_factor A, b_factor B. */
static void add_factors(jt_adapter_slot *to, const jt_adapter_slot *s, size_t first,
                        float a_factor, float b_factor)
{
    for (size_t row = 0; row < s->count * s->rank; row++) {
        size_t e = row / s->rank, k = row % s->rank;
        const float *from = jt_row(&s->part[JT_LOW_A], row);
        float *a = jt_row(&to->part[JT_LOW_A], e * to->rank + first + k);
        for (size_t c = 0; c < s->cols; c++)
            a[c] += a_factor * from[c];
    }
    for (size_t row = 0; row < s->count * s->rows; row++) {
        const float *from = jt_row(&s->part[JT_LOW_B], row);
        float *b = jt_row(&to->part[JT_LOW_B], row) + first;
        for (size_t k = 0; k < s->rank; k++)
            b[k] += b_factor * from[k];
    }
}

static void clear(jt_adapter_slot *s)
{
    for (int i = 0; i < 2; i++)
        memset(s->part[i].data, 0,
               jt_rows(&s->part[i]) * jt_cols(&s->part[i]) * sizeof(float));
}

static jt_status join_factors(joining *j, const jt_adapter_slot *like,
                              jt_adapter_slot *to)
{
    size_t first = 0;
    bool linear = j->o->how == JT_JOIN_LINEAR;
    clear(to);
    for (size_t i = 0; i < j->mix->count; i++) {
        const jt_adapter_slot *s = slot_of(j, i, like);
        if (!s)
            continue;
        float weight = s->scale * j->mix->scales[i], root = sqrtf(fabsf(weight));
        if (linear && s->rank != to->rank)
            return jt_fail(j->err, JT_E_ARG,
                           "'%s' has ranks %zu and %zu: joining them "
                           "linearly needs one",
                           s->target, to->rank, s->rank);
        add_factors(to, s, first, linear ? root : 1.0f,
                    linear ? copysignf(root, weight) : weight);
        first += linear ? 0 : s->rank;
    }
    return JT_OK;
}

/* ---- whole matrices ---- */

static void dense(const jt_adapter_slot *s, float scale, size_t e, float *out,
                  const jt_adapter_kind *kind)
{
    memset(out, 0, s->rows * s->cols * sizeof *out);
    for (size_t r = 0; r < s->rows; r++)
        kind->merge_row(s, scale, e * s->rows + r, out + r * s->cols);
}

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* TIES, trim: all but the largest share of values become 0. */
static jt_status trim(const joining *j, float *d, size_t n, float density)
{
    size_t keep = (size_t)ceil((double)density * (double)n);
    float *sizes = jt_alloc(n, sizeof *sizes);
    if (!sizes)
        return jt_fail_memory(j->err, "joining adapters");
    for (size_t i = 0; i < n; i++)
        sizes[i] = fabsf(d[i]);
    qsort(sizes, n, sizeof *sizes, falling);
    float least = sizes[keep ? keep - 1 : 0];
    free(sizes);
    for (size_t i = 0; i < n; i++)
        d[i] = fabsf(d[i]) < least ? 0.0f : d[i];
    return JT_OK;
}

/* DARE, drop and rescale. */
static void drop(float *d, size_t n, float density, jt_rng *rng)
{
    for (size_t i = 0; i < n; i++)
        d[i] = jt_rng_float(rng) < density ? d[i] / density : 0.0f;
}

/* TIES, elect and merge: of the values of all, the mean of those with the sign of their
 * sum. `all` [count, n]; the result is in the first. */
static void elect(float *all, size_t count, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float sum = 0.0f, mean = 0.0f;
        size_t agree = 0;
        for (size_t k = 0; k < count; k++)
            sum += all[k * n + i];
        for (size_t k = 0; k < count; k++) {
            float x = all[k * n + i];
            if (x != 0.0f && (x > 0.0f) == (sum > 0.0f)) {
                mean += x;
                agree++;
            }
        }
        all[i] = agree ? mean / (float)agree : 0.0f;
    }
}

static void add_up(float *all, size_t count, size_t n)
{
    for (size_t k = 1; k < count; k++) {
        for (size_t i = 0; i < n; i++)
            all[i] += all[k * n + i];
    }
}

/* The change that matrix `e` becomes, in the first [rows, cols] of `all`. */
static jt_status join_matrix(const joining *j, const jt_adapter_slot *like, size_t e,
                             float *all, jt_rng *rng)
{
    size_t n = like->rows * like->cols;
    float density = j->o->density > 0.0f ? j->o->density : 0.5f;
    for (size_t i = 0; i < j->mix->count; i++) {
        const jt_adapter_slot *s = slot_of(j, i, like);
        float *d = all + i * n;
        if (!s) {
            memset(d, 0, n * sizeof *d);
            continue;
        }
        dense(s, s->scale * j->mix->scales[i], e, d, j->mix->adapters[i]->kind);
        if (j->o->how == JT_JOIN_TIES)
            JT_TRY(trim(j, d, n, density));
        else if (j->o->how == JT_JOIN_DARE)
            drop(d, n, density, rng);
    }
    if (j->o->how == JT_JOIN_TIES)
        elect(all, j->mix->count, n);
    else
        add_up(all, j->mix->count, n);
    return JT_OK;
}

static jt_status join_whole(joining *j, const jt_adapter_slot *like,
                            jt_adapter_slot *to)
{
    size_t n = like->rows * like->cols, values;
    jt_rng rng = {j->o->seed, (uint64_t)j->out->count, 0};
    float *all =
        jt_mul(n, j->mix->count, &values) ? jt_alloc(values, sizeof *all) : NULL;
    if (!all)
        return jt_fail_memory(j->err, "joining adapters");
    jt_status status = JT_OK;
    for (size_t e = 0; e < like->count && status == JT_OK; e++) {
        status = join_matrix(j, like, e, all, &rng);
        if (status == JT_OK)
            status =
                jt_low_rank(jt_row(&to->part[JT_LOW_B], e * to->rows),
                            jt_row(&to->part[JT_LOW_A], e * to->rank), all, like->rows,
                            like->cols, to->rank, j->o->seed, NULL, j->err);
    }
    free(all);
    return status;
}

/* ---- sparse ---- */

static int by_column(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The columns in which any of them has a value in row `row`; their number. */
static size_t columns_of(const joining *j, const jt_adapter_slot *like, size_t row,
                         uint32_t *columns)
{
    size_t n = 0, distinct = 0;
    for (size_t i = 0; i < j->mix->count; i++) {
        const jt_adapter_slot *s = slot_of(j, i, like);
        for (size_t k = s ? s->start[row] : 0; s && k < s->start[row + 1]; k++)
            columns[n++] = s->column[k];
    }
    if (n)
        qsort(columns, n, sizeof *columns, by_column);
    for (size_t k = 0; k < n; k++) {
        if (!distinct || columns[distinct - 1] != columns[k])
            columns[distinct++] = columns[k];
    }
    return distinct;
}

static jt_status fill_sparse(const joining *j, const jt_adapter_slot *like,
                             jt_adapter_slot *to, uint32_t *columns, float *row)
{
    float *value = to->part[0].data;
    size_t filled = 0;
    for (size_t r = 0; r < like->count * like->rows; r++) {
        size_t n = columns_of(j, like, r, columns);
        memset(row, 0, like->cols * sizeof *row);
        for (size_t i = 0; i < j->mix->count; i++) {
            const jt_adapter_slot *s = slot_of(j, i, like);
            if (s)
                jt_adapter_shira.merge_row(s, s->scale * j->mix->scales[i], r, row);
        }
        to->start[r] = filled;
        for (size_t k = 0; k < n; k++, filled++) {
            to->column[filled] = columns[k];
            value[filled] = row[columns[k]];
        }
    }
    to->start[like->count * like->rows] = filled;
    return JT_OK;
}

static jt_status join_sparse(joining *j, const jt_adapter_slot *like)
{
    size_t shape[3] = {like->count, like->rows, like->cols}, n = 0, most = 0;
    jt_adapter_slot *to;
    for (size_t i = 0; i < j->mix->count; i++) {
        const jt_adapter_slot *s = slot_of(j, i, like);
        most += s ? jt_cols(&s->part[0]) : 0;
    }
    uint32_t *columns = jt_alloc(most, sizeof *columns);
    float *row = jt_alloc(like->cols, sizeof *row);
    jt_status status =
        columns && row ? JT_OK : jt_fail_memory(j->err, "joining adapters");
    for (size_t r = 0; r < like->count * like->rows && status == JT_OK; r++)
        n += columns_of(j, like, r, columns);
    if (status == JT_OK)
        status =
            jt_adapter_add(j->out, &to, (jt_str){like->target, strlen(like->target)},
                           shape, n, 1.0f, j->err);
    if (status == JT_OK)
        status = fill_sparse(j, like, to, columns, row);
    free(columns);
    free(row);
    return status;
}

/* ---- the whole ---- */

static jt_status join_slot(joining *j, const jt_adapter_slot *like)
{
    jt_str target = {like->target, strlen(like->target)};
    size_t shape[3] = {like->count, like->rows, like->cols}, largest;
    jt_adapter_joining how = j->o->how;
    if (jt_adapter_find(j->out, target))
        return JT_OK;
    for (size_t i = 0; i < j->mix->count; i++) {
        const jt_adapter_slot *s = slot_of(j, i, like);
        if (s &&
            (s->count != like->count || s->rows != like->rows || s->cols != like->cols))
            return jt_fail(j->err, JT_E_ARG, "'%s' has different shapes", like->target);
    }
    if (j->out->kind->sparse)
        return join_sparse(j, like);
    size_t sum = sum_of_ranks(j, like, &largest);
    bool factors = how == JT_JOIN_CAT || how == JT_JOIN_LINEAR;
    size_t rank = how == JT_JOIN_CAT      ? sum
                  : how == JT_JOIN_LINEAR ? largest
                  : j->o->rank            ? j->o->rank
                                          : largest;
    jt_adapter_slot *to;
    JT_TRY(jt_adapter_add(j->out, &to, target, shape, rank, (float)rank, j->err));
    return factors ? join_factors(j, like, to) : join_whole(j, like, to);
}

static jt_status join_all(joining *j)
{
    for (size_t i = 0; i < j->mix->count; i++) {
        const jt_adapter *a = j->mix->adapters[i];
        if (a->fingerprint && !j->out->fingerprint)
            j->out->fingerprint = a->fingerprint;
        for (size_t k = 0; k < a->count; k++)
            JT_TRY(join_slot(j, &a->slot[k]));
    }
    return JT_OK;
}

jt_status jt_adapter_join(jt_adapter **out, const jt_adapter_mix *mix,
                          const jt_join_options *options, jt_err *err)
{
    joining j = {mix, options, NULL, err};
    JT_TRY(check(&j));
    bool sparse = mix->adapters[0]->kind->sparse;
    if (sparse && options->how != JT_JOIN_CAT)
        return jt_fail(err, JT_E_ARG, "sparse adapters can only be added up");
    if (options->density < 0.0f || options->density > 1.0f)
        return jt_fail(err, JT_E_ARG, "a density of %g, expected 0 to 1",
                       (double)options->density);
    JT_TRY(jt_adapter_new(&j.out, sparse ? &jt_adapter_shira : &jt_adapter_lora,
                          "(joined)", err));
    free(j.out->family);
    j.out->family =
        jt_strndup(mix->adapters[0]->family, strlen(mix->adapters[0]->family));
    jt_status status =
        j.out->family ? join_all(&j) : jt_fail_memory(err, "joining adapters");
    if (status != JT_OK) {
        jt_adapter_free(j.out);
        return status;
    }
    *out = j.out;
    return JT_OK;
}
