/* LoRA from two models: low-rank approximations of the differences of their weights. */
#include <stdlib.h>
#include <string.h>

#include "adapt/adapter.h"
#include "adapt/pattern.h"
#include "adapt/svd.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/model.h"

typedef struct extraction {
    const jt_gguf *base, *tuned;
    jt_pattern *pattern; /* NULL: all */
    jt_adapter *out;
    size_t rank;
    double all, lost; /* squared */
    const jt_progress *progress;
    jt_err *err;
} extraction;

/* Matrix `e` of the difference; its squared norm. */
static double difference(const jt_gguf_tensor *a, const jt_gguf_tensor *b, size_t e,
                         const size_t shape[3], float *d, float *row)
{
    double sum = 0.0;
    for (size_t r = 0; r < shape[1]; r++) {
        float *x = d + r * shape[2];
        jt_gguf_read_row(b, e * shape[1] + r, x);
        jt_gguf_read_row(a, e * shape[1] + r, row);
        for (size_t c = 0; c < shape[2]; c++) {
            x[c] -= row[c];
            sum += (double)x[c] * (double)x[c];
        }
    }
    return sum;
}

static bool is_same(const jt_gguf_tensor *a, const jt_gguf_tensor *b, size_t rows)
{
    size_t bytes = jt_dtype_row_bytes(a->dtype, (size_t)a->shape[a->n_dims - 1]);
    bool same = a->dtype == b->dtype && !a->types && !b->types;
    for (size_t r = 0; r < rows && same; r++)
        same = memcmp(jt_gguf_row(a, r), jt_gguf_row(b, r), bytes) == 0;
    return same;
}

static jt_status extract_tensor(extraction *x, const jt_gguf_tensor *a,
                                const jt_gguf_tensor *b, const size_t shape[3])
{
    size_t values, least = shape[1] < shape[2] ? shape[1] : shape[2];
    size_t rank = x->rank < least ? x->rank : least;
    jt_adapter_slot *slot;
    float *row = jt_alloc(shape[2], sizeof *row);
    float *d = jt_mul(shape[1], shape[2], &values) ? jt_alloc(values, sizeof *d) : NULL;
    jt_status status = row && d ? jt_adapter_add(x->out, &slot, a->name, shape, rank,
                                                 (float)rank, x->err)
                                : jt_fail_memory(x->err, "extracting an adapter");
    for (size_t e = 0; e < shape[0] && status == JT_OK; e++) {
        double lost = 0.0;
        x->all += difference(a, b, e, shape, d, row);
        status = jt_low_rank(jt_row(&slot->part[JT_LOW_B], e * slot->rows),
                             jt_row(&slot->part[JT_LOW_A], e * rank), d, shape[1],
                             shape[2], rank, 1, &lost, x->err);
        x->lost += lost;
    }
    free(row);
    free(d);
    return status;
}

static jt_status visit(extraction *x, const jt_gguf_tensor *a)
{
    char name[128] = "";
    size_t shape[3], other[3];
    jt_err ignored;
    if (a->name.len >= sizeof name)
        return JT_OK;
    memcpy(name, a->name.data, a->name.len);
    if (jt_adapter_target(x->base, a->name, shape, &ignored) != JT_OK ||
        (x->pattern && !jt_pattern_matches(x->pattern, name, false)))
        return JT_OK;
    if (jt_adapter_has_factor(x->base, name) || jt_adapter_has_factor(x->tuned, name))
        return jt_fail(x->err, JT_E_UNSUPPORTED, "extracting '%s', which has a factor",
                       name);
    const jt_gguf_tensor *b = jt_gguf_find(x->tuned, name);
    if (!b || jt_adapter_target(x->tuned, a->name, other, &ignored) != JT_OK ||
        memcmp(shape, other, sizeof shape) != 0)
        return jt_fail(x->err, JT_E_ARG,
                       "tensor '%s' is not in both models, or not of "
                       "one shape",
                       name);
    return is_same(a, b, shape[0] * shape[1]) ? JT_OK : extract_tensor(x, a, b, shape);
}

static jt_status visit_all(extraction *x)
{
    size_t n = jt_gguf_tensor_count(x->base);
    for (size_t i = 0; i < n; i++) {
        JT_TRY(jt_progress_report(x->progress, "extracting", i, n, x->err));
        JT_TRY(visit(x, jt_gguf_tensor_at(x->base, i)));
    }
    JT_TRY(jt_progress_report(x->progress, "extracting", n, n, x->err));
    return x->out->count ? JT_OK
                         : jt_fail(x->err, JT_E_ARG, "the models do not differ there");
}

jt_status jt_adapter_extract(jt_adapter **out, const jt_model *base,
                             const jt_model *tuned, const char *targets, size_t rank,
                             double *error, const jt_progress *progress, jt_err *err)
{
    extraction x = {.base = base->file,
                    .tuned = tuned->file,
                    .rank = rank,
                    .progress = progress,
                    .err = err};
    if (rank < 1 || rank > JT_ADAPTER_MOST_RANK)
        return jt_fail(err, JT_E_ARG, "rank %zu, expected 1 to %d", rank,
                       JT_ADAPTER_MOST_RANK);
    if (targets)
        JT_TRY(jt_pattern_new(&x.pattern, targets, err));
    jt_status status = jt_adapter_new(&x.out, &jt_adapter_lora, "(extracted)", err);
    if (status == JT_OK)
        status = jt_adapter_set_model(x.out, base, err);
    if (status == JT_OK)
        status = visit_all(&x);
    jt_pattern_free(x.pattern);
    if (status != JT_OK) {
        jt_adapter_free(x.out);
        return status;
    }
    if (error)
        *error = x.all > 0.0 ? x.lost / x.all : 0.0;
    *out = x.out;
    return JT_OK;
}
