/* Importance in GGUF, as llama.cpp writes it since 2025 (tools/imatrix): for a matrix
 * NAME the tensors NAME.in_sum2 [matrices, columns] and NAME.counts [matrices, 1], F32,
 * and a few keys. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "junto/gguf.h"
#include "watch/importance.h"

enum { NAME_BYTES = 256 };
static const char sums_suffix[] = ".in_sum2";

/* ---- reading ---- */

static size_t values_of(const jt_gguf_tensor *t)
{
    size_t n = 1;
    for (int d = 0; d < t->n_dims; d++)
        n *= (size_t)t->shape[d];
    return n;
}

/* The tensor is mapped, so its values fit into memory. NaNs fail the test, too. */
static bool numbers_are_good(const jt_gguf_tensor *t)
{
    size_t n = t->dtype == JT_F32 ? values_of(t) : 0;
    const char *at = t->data;
    for (size_t i = 0; i < n; i++) {
        float x;
        memcpy(&x, at + i * sizeof x, sizeof x);
        if (!(x >= 0 && x <= 1e30f))
            return false;
    }
    return n > 0;
}

static float number(const jt_gguf_tensor *t, size_t i)
{
    float x;
    memcpy(&x, (const char *)t->data + i * sizeof x, sizeof x);
    return x;
}

/* `t` holds the sums of one entry. */
static jt_status read_entry(jt_importance *m, const jt_gguf *file,
                            const jt_gguf_tensor *t, jt_err *err)
{
    char counts_name[NAME_BYTES];
    jt_str name = {t->name.data, t->name.len - strlen(sums_suffix)};
    if (name.len + sizeof ".counts" > sizeof counts_name)
        return jt_fail(err, JT_E_FORMAT, "tensor name '%.*s' is too long", NAME_BYTES,
                       t->name.data);
    snprintf(counts_name, sizeof counts_name, "%.*s.counts", (int)name.len, name.data);
    const jt_gguf_tensor *counts = jt_gguf_find(file, counts_name);
    if (!counts)
        return jt_fail(err, JT_E_FORMAT, "tensor '%s' is missing", counts_name);
    if (!numbers_are_good(t) || !numbers_are_good(counts))
        return jt_fail(err, JT_E_FORMAT, "tensor '%s' or its sums are no F32 counts",
                       counts_name);
    size_t matrices = values_of(counts), columns = (size_t)t->shape[t->n_dims - 1];
    if (values_of(t) != matrices * columns)
        return jt_fail(err, JT_E_FORMAT,
                       "tensor '%s' has %zu counts for %zu rows of sums", counts_name,
                       matrices, values_of(t) / columns);
    JT_TRY(jt_importance_add(m, name, matrices, columns, err));
    jt_seen *seen = &m->seen[m->count - 1];
    for (size_t i = 0; i < matrices * columns; i++)
        seen->sums[i] = (double)number(t, i);
    for (size_t i = 0; i < matrices; i++)
        seen->counts[i] = (uint64_t)fminf(rintf(number(counts, i)), 1e18f);
    return JT_OK;
}

static jt_status read_file(jt_importance *m, const jt_gguf *file, jt_err *err)
{
    uint32_t chunks = 0;
    jt_gguf_get_u32(file, "imatrix.chunk_count", &chunks);
    jt_gguf_get_u32(file, "imatrix.chunk_size", &m->chunk_size);
    m->chunks = chunks;
    const jt_gguf_kv *datasets = jt_gguf_kv_find(file, "imatrix.datasets");
    jt_str name;
    for (uint64_t i = 0; datasets && jt_gguf_item_str(datasets, i, &name); i++)
        JT_TRY(jt_importance_add_dataset(m, name, err));
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        size_t suffix = strlen(sums_suffix);
        if (t->name.len > suffix &&
            !memcmp(t->name.data + t->name.len - suffix, sums_suffix, suffix))
            JT_TRY(read_entry(m, file, t, err));
    }
    if (m->count == 0)
        return jt_fail(err, JT_E_FORMAT, "no importance in '%s'", jt_gguf_path(file));
    return JT_OK;
}

jt_status jt_importance_read(jt_importance **out, const jt_gguf *file, jt_err *err)
{
    jt_importance *m;
    JT_TRY(jt_importance_new(&m, err));
    jt_status status = read_file(m, file, err);
    if (status == JT_OK)
        *out = m;
    else
        jt_importance_free(m);
    return status;
}

jt_status jt_importance_load(jt_importance **out, const char *path, jt_err *err)
{
    jt_gguf *file;
    JT_TRY(jt_gguf_open(&file, path, err));
    jt_status status = jt_importance_read(out, file, err);
    jt_gguf_close(file);
    return status;
}

/* ---- writing ---- */

static bool saw_tokens(const jt_seen *s)
{
    for (size_t i = 0; i < s->n_matrices; i++)
        if (s->counts[i])
            return true;
    return false;
}

static jt_status describe(jt_gguf_writer *w, const jt_seen *s, jt_err *err)
{
    char name[NAME_BYTES + 16];
    if (strlen(s->name) >= NAME_BYTES)
        return jt_fail(err, JT_E_UNSUPPORTED, "tensor name '%s' is too long", s->name);
    snprintf(name, sizeof name, "%s%s", s->name, sums_suffix);
    uint64_t shape[2] = {s->n_matrices, s->n_columns};
    JT_TRY(jt_gguf_add_tensor(w, name, JT_F32, 2, shape, err));
    snprintf(name, sizeof name, "%s.counts", s->name);
    shape[1] = 1;
    return jt_gguf_add_tensor(w, name, JT_F32, 2, shape, err);
}

static jt_status write_numbers(jt_gguf_writer *w, const jt_seen *s, jt_err *err)
{
    size_t n = s->n_matrices * s->n_columns;
    float *values = jt_alloc(n + s->n_matrices, sizeof *values);
    if (!values)
        return jt_fail_memory(err, "writing importance");
    for (size_t i = 0; i < n; i++)
        values[i] = (float)s->sums[i];
    for (size_t i = 0; i < s->n_matrices; i++)
        values[n + i] = (float)s->counts[i];
    jt_status status = jt_gguf_write(w, values, n * sizeof *values, err);
    if (status == JT_OK)
        status = jt_gguf_write(w, values + n, s->n_matrices * sizeof *values, err);
    free(values);
    return status;
}

static jt_status write_keys(jt_gguf_writer *w, const jt_importance *m, jt_err *err)
{
    jt_str *names = jt_alloc(m->n_datasets, sizeof *names);
    if (!names)
        return jt_fail_memory(err, "writing importance");
    for (size_t i = 0; i < m->n_datasets; i++)
        names[i] = (jt_str){m->datasets[i], strlen(m->datasets[i])};
    jt_status status = jt_gguf_set_str(w, "general.type", "imatrix", err);
    if (status == JT_OK)
        status = jt_gguf_set_strs(w, "imatrix.datasets", names, m->n_datasets, err);
    if (status == JT_OK)
        status = jt_gguf_set_u32(w, "imatrix.chunk_count", (uint32_t)m->chunks, err);
    if (status == JT_OK)
        status = jt_gguf_set_u32(w, "imatrix.chunk_size", m->chunk_size, err);
    free(names);
    return status;
}

static jt_status fill_file(jt_gguf_writer *w, const jt_importance *m, jt_err *err)
{
    JT_TRY(write_keys(w, m, err));
    for (size_t i = 0; i < m->count; i++)
        if (saw_tokens(&m->seen[i]))
            JT_TRY(describe(w, &m->seen[i], err));
    for (size_t i = 0; i < m->count; i++)
        if (saw_tokens(&m->seen[i]))
            JT_TRY(write_numbers(w, &m->seen[i], err));
    return JT_OK;
}

jt_status jt_importance_save(const jt_importance *m, const char *path, jt_err *err)
{
    bool any = false;
    for (size_t i = 0; i < m->count; i++)
        any |= saw_tokens(&m->seen[i]);
    if (!any)
        return jt_fail(err, JT_E_ARG, "no importance was gathered");
    jt_gguf_writer *w;
    JT_TRY(jt_gguf_writer_new(&w, path, err));
    jt_status status = fill_file(w, m, err);
    if (status == JT_OK)
        return jt_gguf_writer_finish(w, err);
    jt_gguf_writer_abort(w);
    return status;
}
