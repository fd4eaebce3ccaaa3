#include "adapt/made.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "base/memory.h"
#include "format/gguf_file.h"

enum { NAME_BYTES = 192 };

static size_t values_of(const jt_tensor *t)
{
    return jt_rows(t) * jt_cols(t);
}

/* ---- the list ---- */

static jt_status make_source(jt_adapter_source *s, jt_dtype dtype, int n_dims,
                             const size_t *shape, jt_err *err)
{
    size_t values = 1;
    bool fits = true;
    s->t = (jt_tensor){.dtype = dtype, .n_dims = n_dims};
    for (int i = 0; i < n_dims; i++) {
        s->t.shape[i] = shape[i];
        fits = fits && jt_mul(values, shape[i], &values);
    }
    if (!fits || !values)
        return jt_fail(err, JT_E_FORMAT, "'%s' has a size that makes no sense",
                       s->name);
    s->t.data = jt_calloc(values, jt_dtype_row_bytes(dtype, 1));
    return s->t.data ? JT_OK : jt_fail_memory(err, "making an adapter");
}

jt_status jt_adapter_add_source(jt_adapter *a, size_t *at, jt_str target,
                                const char *tail, jt_dtype dtype, int n_dims,
                                const size_t *shape, jt_err *err)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%.*s.%s", (int)target.len, target.data, tail);
    jt_adapter_source s = {.name = jt_strndup(name, strlen(name)), .kept = true};
    jt_status status = s.name ? make_source(&s, dtype, n_dims, shape, err)
                              : jt_fail_memory(err, "making an adapter");
    if (status == JT_OK &&
        !jt_grow((void **)&a->source, &a->source_room, a->n_sources + 1, sizeof s))
        status = jt_fail_memory(err, "making an adapter");
    if (status != JT_OK) {
        free(s.name);
        free(s.t.data);
        return status;
    }
    *at = a->n_sources++;
    a->source[*at] = s;
    return JT_OK;
}

void jt_adapter_free_sources(jt_adapter *a)
{
    for (size_t i = 0; i < a->n_sources; i++) {
        free(a->source[i].name);
        free(a->source[i].t.data);
    }
    free(a->source);
    a->source = NULL;
    a->n_sources = a->source_room = 0;
}

bool jt_adapter_source_of(const jt_adapter *a, size_t at, const char *tail,
                          jt_str *target)
{
    const char *name = a->source[at].name;
    size_t len = strlen(name), n = strlen(tail) + 1;
    if (len <= n || name[len - n] != '.' || strcmp(name + len - n + 1, tail) != 0)
        return false;
    *target = (jt_str){name, len - n};
    return true;
}

jt_status jt_adapter_bind_each(jt_adapter *a, const char *tail, jt_bind_one *one,
                               float alpha, jt_err *err)
{
    for (size_t i = 0; i < a->n_sources; i++) {
        jt_str target;
        if (jt_adapter_source_of(a, i, tail, &target))
            JT_TRY(one(a, i, target, alpha, err));
    }
    return JT_OK;
}

jt_status jt_adapter_fail_source(const jt_adapter *a, size_t at, jt_err *err)
{
    return jt_fail(err, JT_E_FORMAT,
                   "tensor '%s' has a shape that does not go with the others",
                   a->source[at].name);
}

/* Its number; that of none where it is missing. */
static size_t find_source(const jt_adapter *a, jt_str target, const char *tail)
{
    size_t i = 0;
    for (; i < a->n_sources; i++) {
        jt_str own;
        if (jt_adapter_source_of(a, i, tail, &own) && own.len == target.len &&
            memcmp(own.data, target.data, own.len) == 0)
            break;
    }
    return i;
}

bool jt_adapter_has_source(const jt_adapter *a, jt_str target, const char *tail)
{
    return find_source(a, target, tail) < a->n_sources;
}

jt_status jt_adapter_need_source(const jt_adapter *a, jt_str target, const char *tail,
                                 jt_dtype dtype, int n_dims, size_t *at, jt_err *err)
{
    *at = find_source(a, target, tail);
    if (*at == a->n_sources)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s.%s' is missing",
                       JT_GGUF_SHOW(target), tail);
    const jt_tensor *t = &a->source[*at].t;
    return t->dtype == dtype && t->n_dims == n_dims
               ? JT_OK
               : jt_adapter_fail_source(a, *at, err);
}

/* ---- files ---- */

static jt_dtype type_in(jt_safetensor_type type)
{
    bool whole = type == JT_ST_I32 || type == JT_ST_I64;
    return type == JT_ST_U8 ? JT_I8 : whole ? JT_I32 : JT_F32;
}

static jt_safetensor_type type_out(jt_dtype type)
{
    return type == JT_I8 ? JT_ST_U8 : type == JT_I32 ? JT_ST_I32 : JT_ST_F32;
}

static jt_status read_values(jt_adapter_source *s, const jt_safetensor *from,
                             jt_err *err)
{
    if (s->t.dtype == JT_I8) {
        memcpy(s->t.data, from->data, from->bytes);
        return JT_OK;
    }
    if (s->t.dtype == JT_I32)
        return jt_safetensor_ints(s->t.data, from, err);
    JT_TRY(jt_safetensor_floats(s->t.data, from, err));
    for (size_t i = 0; i < values_of(&s->t); i++) {
        if (!isfinite(((const float *)s->t.data)[i]))
            return jt_fail(err, JT_E_FORMAT, "'%s' has a value that is not finite",
                           s->name);
    }
    return JT_OK;
}

static jt_status read_source(jt_adapter *a, const jt_safetensor *from, jt_err *err)
{
    size_t at, shape[JT_MAX_DIMS] = {0};
    jt_str name = from->name;
    const char *dot = NULL;
    for (size_t i = 0; i < name.len; i++)
        dot = name.data[i] == '.' ? name.data + i : dot;
    if (!dot || name.len >= NAME_BYTES || memchr(name.data, '\0', name.len) ||
        from->n_dims < 1 || from->n_dims > JT_MAX_DIMS)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' is not known in a '%s' adapter",
                       JT_GGUF_SHOW(name), a->kind->name);
    char tail[NAME_BYTES];
    size_t target = (size_t)(dot - name.data);
    snprintf(tail, sizeof tail, "%.*s", (int)(name.len - target - 1), dot + 1);
    for (int i = 0; i < from->n_dims; i++)
        shape[i] = (size_t)from->shape[i];
    JT_TRY(jt_adapter_add_source(a, &at, (jt_str){name.data, target}, tail,
                                 type_in(from->type), from->n_dims, shape, err));
    return read_values(&a->source[at], from, err);
}

jt_status jt_made_read(jt_adapter *a, const jt_safetensors *file, float alpha,
                       jt_err *err)
{
    for (size_t i = 0; i < jt_safetensors_count(file); i++)
        JT_TRY(read_source(a, jt_safetensors_at(file, i), err));
    return a->kind->making->bind(a, alpha, err);
}

jt_status jt_made_describe(jt_safetensors_writer *w, const jt_adapter *a, jt_err *err)
{
    for (size_t i = 0; i < a->n_sources; i++) {
        const jt_adapter_source *s = &a->source[i];
        uint64_t shape[JT_MAX_DIMS];
        for (int d = 0; d < s->t.n_dims; d++)
            shape[d] = s->t.shape[d];
        if (s->kept)
            JT_TRY(jt_safetensors_add(w, s->name, type_out(s->t.dtype), s->t.n_dims,
                                      shape, err));
    }
    return JT_OK;
}

jt_status jt_made_write(jt_safetensors_writer *w, const jt_adapter *a, jt_err *err)
{
    for (size_t i = 0; i < a->n_sources; i++) {
        const jt_tensor *t = &a->source[i].t;
        if (a->source[i].kept)
            JT_TRY(jt_safetensors_write(
                w, t->data, values_of(t) * jt_dtype_row_bytes(t->dtype, 1), err));
    }
    return JT_OK;
}
