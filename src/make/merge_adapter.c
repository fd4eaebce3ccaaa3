/* A model with adapters in its weights. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/adapter.h"
#include "base/memory.h"
#include "base/pool.h"
#include "format/gguf_file.h"
#include "make/retype.h"
#include "model/hf.h"
#include "model/model.h"

/* One tensor of the new file. */
typedef struct entry {
    const char *name;
    const jt_gguf_tensor *from;
} entry;

typedef struct merging {
    const jt_gguf *file;
    const jt_adapter_mix *mix;
    const jt_progress *progress;
    jt_gguf_writer *writer;
    jt_pool *pool;
    jt_str name; /* of the tensor at hand */
    uint64_t done, total;
    jt_err *err;
} merging;

static const jt_adapter_slot *slot_of(const jt_adapter_mix *mix, size_t i, jt_str name)
{
    return mix->scales[i] == 0.0f ? NULL : jt_adapter_find(mix->adapters[i], name);
}

static bool is_changed(const jt_adapter_mix *mix, jt_str name)
{
    for (size_t i = 0; i < mix->count; i++) {
        if (slot_of(mix, i, name))
            return true;
    }
    return false;
}

static void change_row(void *user, size_t row, float *values)
{
    const merging *m = user;
    for (size_t i = 0; i < m->mix->count; i++) {
        const jt_adapter_slot *s = slot_of(m->mix, i, m->name);
        if (s)
            m->mix->adapters[i]->kind->merge_row(s, s->scale * m->mix->scales[i], row,
                                                 values);
    }
}

static jt_status written(void *user, size_t bytes)
{
    merging *m = user;
    m->done += bytes;
    return jt_progress_report(m->progress, "merging", m->done, m->total, m->err);
}

static uint64_t bytes_of(const jt_gguf_tensor *t)
{
    return jt_hf_values(t) / jt_dtype_block_values(t->dtype) *
           jt_dtype_block_bytes(t->dtype);
}

static jt_status describe(merging *m, const entry *e)
{
    jt_str name = {e->name, strlen(e->name)};
    if (is_changed(m->mix, name) && !jt_dtype_can_quantize(e->from->dtype))
        return jt_fail(m->err, JT_E_UNSUPPORTED,
                       "tensor '%s' has type %s, which cannot be made", e->name,
                       jt_dtype_name(e->from->dtype));
    if (is_changed(m->mix, name) && jt_adapter_has_factor(m->file, e->name))
        return jt_fail(m->err, JT_E_UNSUPPORTED,
                       "merging into '%s', which has a factor", e->name);
    m->total += bytes_of(e->from);
    return jt_gguf_add_tensor(m->writer, e->name, e->from->dtype, e->from->n_dims,
                              e->from->shape, m->err);
}

static jt_status write_entry(merging *m, const entry *e)
{
    m->name = (jt_str){e->name, strlen(e->name)};
    jt_retype how = {.writer = m->writer,
                     .pool = m->pool,
                     .to = e->from->dtype,
                     .change = is_changed(m->mix, m->name) ? change_row : NULL,
                     .written = written,
                     .user = m};
    return jt_retype_tensor(e->from, &how, m->err);
}

/* An output that is the embedding, and no longer the same, is written, too. */
static bool needs_output(const merging *m)
{
    static const jt_str ends[] = {{"token_embd.weight", 17}, {"output.weight", 13}};
    return !jt_gguf_find(m->file, "output.weight") &&
           (is_changed(m->mix, ends[0]) || is_changed(m->mix, ends[1]));
}

static jt_status list_entries(const merging *m, entry **list, size_t *count)
{
    size_t n = jt_gguf_tensor_count(m->file);
    *list = jt_alloc(n + 1, sizeof **list);
    if (!*list)
        return jt_fail_memory(m->err, "merging an adapter");
    for (size_t i = 0; i < n; i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(m->file, i);
        char *name = jt_strndup(t->name.data, t->name.len);
        (*list)[i] = (entry){name, t};
        if (!name)
            return jt_fail_memory(m->err, "merging an adapter");
        *count = i + 1;
    }
    if (!needs_output(m))
        return JT_OK;
    char *name = jt_strndup("output.weight", 13);
    (*list)[n] = (entry){name, jt_gguf_find(m->file, "token_embd.weight")};
    *count += name != NULL;
    return name ? JT_OK : jt_fail_memory(m->err, "merging an adapter");
}

static jt_status write_all(merging *m, const entry *list, size_t count)
{
    for (size_t i = 0; i < jt_gguf_kv_count(m->file); i++)
        JT_TRY(jt_gguf_set_kv(m->writer, NULL, jt_gguf_kv_at(m->file, i), m->err));
    for (size_t i = 0; i < count; i++)
        JT_TRY(describe(m, &list[i]));
    JT_TRY(jt_progress_report(m->progress, "merging", 0, m->total, m->err));
    for (size_t i = 0; i < count; i++)
        JT_TRY(write_entry(m, &list[i]));
    return JT_OK;
}

static jt_status write_file(merging *m, const char *out)
{
    entry *list = NULL;
    size_t count = 0;
    jt_status status = list_entries(m, &list, &count);
    if (status == JT_OK)
        status = jt_gguf_writer_new(&m->writer, out, m->err);
    if (status == JT_OK) {
        status = write_all(m, list, count);
        if (status == JT_OK)
            status = jt_gguf_writer_finish(m->writer, m->err);
        else
            jt_gguf_writer_abort(m->writer);
    }
    for (size_t i = 0; i < count; i++)
        free((char *)(uintptr_t)list[i].name);
    free(list);
    return status;
}

jt_status jt_adapter_merge(const char *out, const jt_model *model,
                           const jt_adapter_mix *mix, const jt_progress *progress,
                           jt_err *err)
{
    merging m = {.file = model->file, .mix = mix, .progress = progress, .err = err};
    for (size_t i = 0; i < mix->count; i++) {
        jt_status fits = jt_adapter_fits(mix->adapters[i], model, err);
        if (fits == JT_OK && mix->adapters[i]->blend)
            fits = jt_fail(err, JT_E_UNSUPPORTED,
                           "a mixture that is decided token by token has no place in "
                           "weights");
        if (fits != JT_OK)
            return jt_fail_within(err, fits, "'%s'", mix->adapters[i]->path);
        if (mix->adapters[i]->kind->by_token)
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "'%s': what a '%s' adapter changes depends on the token: it "
                           "is no part of a weight",
                           mix->adapters[i]->path, mix->adapters[i]->kind->name);
    }
    JT_TRY(jt_pool_new(&m.pool, 0, err));
    jt_status status = write_file(&m, out);
    jt_pool_free(m.pool);
    return status;
}
