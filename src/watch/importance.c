#include "watch/importance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/model.h"
#include "run/session.h"

/* ---- entries ---- */

jt_status jt_importance_new(jt_importance **out, jt_err *err)
{
    *out = jt_calloc(1, sizeof **out);
    return *out ? JT_OK : jt_fail_memory(err, "gathering importance");
}

void jt_importance_free(jt_importance *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++) {
        free(m->seen[i].name);
        free(m->seen[i].sums);
        free(m->seen[i].counts);
    }
    for (size_t i = 0; i < m->n_datasets; i++)
        free(m->datasets[i]);
    free(m->seen);
    free(m->datasets);
    free(m->at);
    free(m);
}

jt_seen *jt_importance_find(const jt_importance *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (!strcmp(m->seen[i].name, name))
            return &m->seen[i];
    return NULL;
}

jt_status jt_importance_add(jt_importance *m, jt_str name, size_t n_matrices,
                            size_t n_columns, jt_err *err)
{
    size_t values;
    if (!jt_grow((void **)&m->seen, &m->room, m->count + 1, sizeof *m->seen) ||
        !jt_mul(n_matrices, n_columns, &values))
        return jt_fail_memory(err, "gathering importance");
    jt_seen *s = &m->seen[m->count];
    *s = (jt_seen){.name = jt_strndup(name.data, name.len),
                   .n_matrices = n_matrices,
                   .n_columns = n_columns,
                   .sums = jt_calloc(values, sizeof *s->sums),
                   .counts = jt_calloc(n_matrices, sizeof *s->counts)};
    if (!s->name || !s->sums || !s->counts) {
        free(s->name);
        free(s->sums);
        free(s->counts);
        return jt_fail_memory(err, "gathering importance");
    }
    m->count++;
    return JT_OK;
}

jt_status jt_importance_add_dataset(jt_importance *m, jt_str name, jt_err *err)
{
    for (size_t i = 0; i < m->n_datasets; i++)
        if (strlen(m->datasets[i]) == name.len &&
            !memcmp(m->datasets[i], name.data, name.len))
            return JT_OK;
    if (!jt_grow((void **)&m->datasets, &m->datasets_room, m->n_datasets + 1,
                 sizeof *m->datasets))
        return jt_fail_memory(err, "gathering importance");
    char *copy = jt_strndup(name.data, name.len);
    if (!copy)
        return jt_fail_memory(err, "gathering importance");
    m->datasets[m->n_datasets++] = copy;
    return JT_OK;
}

uint64_t jt_importance_chunks(const jt_importance *m)
{
    return m->chunks;
}

size_t jt_importance_count(const jt_importance *m)
{
    return m->count;
}

void jt_importance_at(const jt_importance *m, size_t i, jt_importance_entry *out)
{
    const jt_seen *s = &m->seen[i];
    *out = (jt_importance_entry){s->name, s->n_matrices, s->n_columns, s->counts};
}

/* ---- weights ---- */

bool jt_importance_tell(const jt_seen *s, size_t *unseen, size_t *few)
{
    *unseen = *few = 0;
    for (size_t e = 0; e < s->n_matrices; e++) {
        *unseen += s->counts[e] == 0;
        *few += s->counts[e] > 0 && s->counts[e] < JT_IMPORTANCE_PRIOR;
    }
    return *unseen < s->n_matrices;
}

void jt_importance_weights(const jt_seen *s, float *weights)
{
    static const double least = 1e-4; /* of the mean: no column is worth nothing */
    double tokens = 0, all = 0;
    for (size_t e = 0; e < s->n_matrices; e++)
        tokens += (double)s->counts[e];
    for (size_t i = 0; i < s->n_matrices * s->n_columns; i++)
        all += s->sums[i] / tokens;
    double floor = all > 0 ? least * all / (double)s->n_columns : 1;
    for (size_t c = 0; c < s->n_columns; c++) {
        double sum = 0;
        for (size_t e = 0; e < s->n_matrices; e++)
            sum += s->sums[e * s->n_columns + c];
        for (size_t e = 0; e < s->n_matrices; e++) {
            double own = s->sums[e * s->n_columns + c];
            double w = (own + JT_IMPORTANCE_PRIOR * sum / tokens) /
                       ((double)s->counts[e] + JT_IMPORTANCE_PRIOR);
            weights[e * s->n_columns + c] = (float)fmax(w, floor);
        }
    }
}

/* ---- gathering ---- */

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const jt_seen_at *)a)->data;
    uintptr_t y = (uintptr_t)((const jt_seen_at *)b)->data;
    return (x > y) - (x < y);
}

/* The matrices of a tensor, each at its address. */
static jt_status bind_tensor(jt_importance *m, const jt_gguf_tensor *t, jt_err *err)
{
    size_t columns = (size_t)t->shape[t->n_dims - 1];
    size_t matrices = t->n_dims == 3 ? (size_t)t->shape[0] : 1;
    size_t i = 0;
    while (i < m->count && (strlen(m->seen[i].name) != t->name.len ||
                            memcmp(m->seen[i].name, t->name.data, t->name.len) != 0))
        i++;
    if (i == m->count)
        JT_TRY(jt_importance_add(m, t->name, matrices, columns, err));
    if (m->seen[i].n_columns != columns || m->seen[i].n_matrices != matrices)
        return jt_fail(err, JT_E_FORMAT,
                       "the importance of '%s' is of %zu x %zu columns, the model has "
                       "%zu x %zu",
                       m->seen[i].name, m->seen[i].n_matrices, m->seen[i].n_columns,
                       matrices, columns);
    if (!jt_grow((void **)&m->at, &m->at_room, m->n_at + matrices, sizeof *m->at))
        return jt_fail_memory(err, "gathering importance");
    size_t rows = (size_t)t->shape[t->n_dims - 2];
    for (size_t e = 0; e < matrices; e++)
        m->at[m->n_at++] = (jt_seen_at){jt_gguf_row(t, e * rows), i, e};
    return JT_OK;
}

static jt_status bind_model(jt_importance *m, const jt_gguf *file, jt_err *err)
{
    m->n_at = 0;
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        if ((t->n_dims == 2 || t->n_dims == 3) && jt_dtype_is_weight(t->dtype))
            JT_TRY(bind_tensor(m, t, err));
    }
    qsort(m->at, m->n_at, sizeof *m->at, by_address);
    return JT_OK;
}

/* Some columns of one product. */
enum { COLUMNS = 64 };
typedef struct sum_columns {
    const jt_product *p;
    double *sums;
} sum_columns;

static void sum_run(void *arg, size_t run)
{
    const sum_columns *s = arg;
    const jt_product *p = s->p;
    size_t n = jt_cols(&p->w), first = run * COLUMNS;
    size_t last = first + COLUMNS < n ? first + COLUMNS : n;
    for (size_t t = 0; t < p->tokens; t++) {
        size_t row = p->first + t;
        row = p->via ? (size_t)p->via->token[row] : row;
        const float *x = jt_row(&p->x->x, row);
        for (size_t c = first; c < last; c++)
            s->sums[c] += (double)x[c] * (double)x[c];
    }
}

static void see_products(void *self, jt_context *ctx, const jt_product *products,
                         size_t count)
{
    jt_importance *m = self;
    for (size_t i = 0; i < count; i++) {
        jt_seen_at key = {.data = products[i].w.data};
        const jt_seen_at *at =
            m->n_at ? bsearch(&key, m->at, m->n_at, sizeof key, by_address) : NULL;
        if (!at)
            continue;
        jt_seen *seen = &m->seen[at->seen];
        sum_columns job = {&products[i], seen->sums + at->matrix * seen->n_columns};
        seen->counts[at->matrix] += products[i].tokens;
        jt_for_rows(ctx, (seen->n_columns + COLUMNS - 1) / COLUMNS,
                    products[i].tokens * seen->n_columns, sum_run, &job);
    }
}

/* Progress of one window as progress of the whole. */
typedef struct windows {
    const jt_progress *progress;
    unsigned long long before, total; /* tokens */
} windows;

static int report(void *user, const char *what, unsigned long long done,
                  unsigned long long total)
{
    const windows *w = user;
    (void)what;
    (void)total;
    return jt_progress_report(w->progress, "gathering", w->before + done, w->total,
                              NULL) != JT_OK;
}

static jt_status run_windows(jt_importance *m, jt_session *s, const int32_t *tokens,
                             size_t n_ctx, size_t first, size_t last,
                             const jt_progress *progress, jt_err *err)
{
    windows w = {.progress = progress, .total = (last - first) * n_ctx};
    jt_eval_options options = {.progress = {report, &w}};
    for (size_t i = first; i < last; i++) {
        w.before = (i - first) * n_ctx;
        jt_session_truncate(s, 0);
        JT_TRY(jt_session_eval(s, tokens + i * n_ctx, n_ctx, &options, err));
        m->chunks++;
    }
    return JT_OK;
}

jt_status jt_importance_gather(jt_importance *m, jt_session *session,
                               const int32_t *tokens, size_t count, int n_ctx,
                               size_t first, const char *dataset, jt_progress progress,
                               jt_err *err)
{
    if (n_ctx < 1 || n_ctx > session->capacity)
        return jt_fail(err, JT_E_ARG, "window of %d tokens, expected 1 to %d", n_ctx,
                       session->capacity);
    size_t last = count / (size_t)n_ctx;
    if (last <= first)
        return jt_fail(err, JT_E_ARG,
                       "the text has %zu windows of %d tokens, none from the %zu. on",
                       last, n_ctx, first + 1);
    JT_TRY(bind_model(m, session->model->file, err));
    JT_TRY(jt_importance_add_dataset(m, (jt_str){dataset, strlen(dataset)}, err));
    m->chunk_size = (uint32_t)n_ctx;
    session->ctx->watch = (jt_product_watch){m, see_products};
    jt_status status =
        run_windows(m, session, tokens, (size_t)n_ctx, first, last, &progress, err);
    session->ctx->watch = (jt_product_watch){0};
    return status;
}
