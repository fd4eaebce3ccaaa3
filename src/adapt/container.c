/* Junto's own file: safetensors with metadata. docs/adapters.md describes it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/blend_file.h"
#include "adapt/files.h"
#include "adapt/made.h"
#include "base/memory.h"
#include "format/gguf_file.h"

enum { VERSION = 1, NAME_BYTES = 192, MOST_ROWS = 1 << 26 };

static const char index_name[] = "shira_index", shape_name[] = "shira_shape";
static const char alpha_name[] = "alpha";

/* ---- reading ---- */

static jt_status read_text(const jt_safetensors *file, const char *key, jt_str *out,
                           jt_err *err)
{
    if (jt_safetensors_metadata(file, key, out))
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT,
                   "the metadata '%s' is missing: no adapter of Junto", key);
}

static jt_status read_number(const jt_safetensors *file, const char *key, int base,
                             uint64_t *out, jt_err *err)
{
    jt_str text;
    char copy[32] = "", *end;
    JT_TRY(read_text(file, key, &text, err));
    if (text.len < sizeof copy)
        memcpy(copy, text.data, text.len);
    *out = strtoull(copy, &end, base);
    return *copy && *copy != '-' && !*end
               ? JT_OK
               : jt_fail(err, JT_E_FORMAT, "metadata '%s' is '%.*s', expected a number",
                         key, JT_GGUF_SHOW(text));
}

/* "TARGET.PART"; NULL where there is none. */
static const jt_safetensor *find_part(const jt_safetensors *file, jt_str target,
                                      const char *part)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%.*s.%s", JT_GGUF_SHOW(target), part);
    return jt_safetensors_find(file, name);
}

static jt_status need_part(const jt_safetensors *file, jt_str target, const char *part,
                           const jt_safetensor **out, jt_err *err)
{
    *out = find_part(file, target, part);
    if (*out)
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT, "tensor '%.*s.%s' is missing",
                   JT_GGUF_SHOW(target), part);
}

/* A part whose shape must be that of the slot's; without a leading 1. */
static jt_status read_part(jt_tensor *part, const jt_safetensor *from, jt_err *err)
{
    int skip = part->n_dims > 1 && part->shape[0] == 1;
    bool same = from->n_dims == part->n_dims - skip;
    for (int i = 0; same && i < from->n_dims; i++)
        same = from->shape[i] == part->shape[i + skip];
    if (!same)
        return jt_fail(err, JT_E_FORMAT,
                       "tensor '%.*s' has a shape that does not go with the others",
                       JT_GGUF_SHOW(from->name));
    return jt_safetensor_floats(part->data, from, err);
}

static jt_status read_alpha(const jt_safetensors *file, jt_str target, float usual,
                            float *alpha, jt_err *err)
{
    const jt_safetensor *own = find_part(file, target, alpha_name);
    *alpha = usual;
    if (!own)
        return JT_OK;
    if (jt_safetensor_values(own) != 1)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' is not one number",
                       JT_GGUF_SHOW(own->name));
    return jt_safetensor_floats(alpha, own, err);
}

static jt_status read_low_rank(jt_adapter *a, const jt_safetensors *file, jt_str target,
                               float alpha, jt_err *err)
{
    const jt_safetensor *low, *high, *from;
    jt_adapter_slot *slot;
    JT_TRY(need_part(file, target, a->kind->part[JT_LOW_A], &low, err));
    JT_TRY(need_part(file, target, a->kind->part[JT_LOW_B], &high, err));
    int stack = low->n_dims - 2;
    if (stack < 0 || stack > 1 || high->n_dims != low->n_dims)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' is no matrix and no stack",
                       JT_GGUF_SHOW(low->name));
    size_t shape[3] = {stack ? (size_t)low->shape[0] : 1, (size_t)high->shape[stack],
                       (size_t)low->shape[stack + 1]};
    JT_TRY(
        jt_adapter_add(a, &slot, target, shape, (size_t)low->shape[stack], alpha, err));
    for (int i = 0; i < JT_ADAPTER_PARTS && a->kind->part[i]; i++) {
        JT_TRY(need_part(file, target, a->kind->part[i], &from, err));
        JT_TRY(read_part(&slot->part[i], from, err));
    }
    return JT_OK;
}

static jt_status read_places(jt_adapter_slot *slot, const jt_safetensor *value,
                             const jt_safetensor *index, jt_err *err)
{
    size_t n = jt_safetensor_values(value);
    if (index->n_dims != 2 || index->shape[0] != 2 || index->shape[1] != n)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' is not [2, %zu]",
                       JT_GGUF_SHOW(index->name), n);
    int32_t *at = jt_alloc(2 * n, sizeof *at);
    float *values = jt_alloc(n, sizeof *values);
    jt_status status = at && values ? jt_safetensor_ints(at, index, err)
                                    : jt_fail_memory(err, "reading an adapter");
    if (status == JT_OK)
        status = jt_safetensor_floats(values, value, err);
    if (status == JT_OK)
        status = jt_sparse_place(slot, values, at, at + n, err);
    free(at);
    free(values);
    return status;
}

static jt_status read_sparse(jt_adapter *a, const jt_safetensors *file, jt_str target,
                             float alpha, jt_err *err)
{
    const jt_safetensor *value, *index, *sizes;
    int32_t size[3];
    jt_adapter_slot *slot;
    JT_TRY(need_part(file, target, a->kind->part[0], &value, err));
    JT_TRY(need_part(file, target, index_name, &index, err));
    JT_TRY(need_part(file, target, shape_name, &sizes, err));
    if (jt_safetensor_values(sizes) != 3)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' is not three numbers",
                       JT_GGUF_SHOW(sizes->name));
    JT_TRY(jt_safetensor_ints(size, sizes, err));
    if (size[0] < 1 || size[1] < 1 || size[2] < 1 ||
        (int64_t)size[0] * size[1] > MOST_ROWS)
        return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' is no shape of a weight",
                       JT_GGUF_SHOW(sizes->name));
    size_t shape[3] = {(size_t)size[0], (size_t)size[1], (size_t)size[2]};
    JT_TRY(jt_adapter_add(a, &slot, target, shape, jt_safetensor_values(value), alpha,
                          err));
    return read_places(slot, value, index, err);
}

/* Does `name` end with ".PART"? Then *target is what comes before. */
static bool cut_part(jt_str name, const char *part, jt_str *target)
{
    size_t n = strlen(part) + 1;
    if (name.len <= n || name.data[name.len - n] != '.' ||
        memcmp(name.data + name.len - n + 1, part, n - 1) != 0)
        return false;
    *target = (jt_str){name.data, name.len - n};
    return true;
}

static jt_status check_name(const jt_adapter *a, jt_str name, jt_err *err)
{
    const char *const others[] = {index_name, shape_name, alpha_name};
    jt_str target;
    for (int i = 0; i < JT_ADAPTER_PARTS && a->kind->part[i]; i++) {
        if (cut_part(name, a->kind->part[i], &target))
            return JT_OK;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (cut_part(name, others[i], &target))
            return JT_OK;
    }
    return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' is not known in a '%s' adapter",
                   JT_GGUF_SHOW(name), a->kind->name);
}

static jt_status read_slots(jt_adapter *a, const jt_safetensors *file, float alpha,
                            jt_err *err)
{
    for (size_t i = 0; i < jt_safetensors_count(file); i++) {
        jt_str name = jt_safetensors_at(file, i)->name, target;
        float own;
        if (a->blend && jt_blend_owns(name))
            continue;
        JT_TRY(check_name(a, name, err));
        if (!cut_part(name, a->kind->part[0], &target))
            continue;
        if (target.len >= NAME_BYTES - 16 || memchr(target.data, '\0', target.len))
            return jt_fail(err, JT_E_FORMAT, "tensor '%.*s' has too long a name",
                           JT_GGUF_SHOW(name));
        JT_TRY(read_alpha(file, target, alpha, &own, err));
        JT_TRY(a->kind->sparse ? read_sparse(a, file, target, own, err)
                               : read_low_rank(a, file, target, own, err));
    }
    return JT_OK;
}

static jt_status read_float(const jt_safetensors *file, const char *name, float *out,
                            jt_err *err)
{
    jt_str text;
    char key[64], copy[32] = "", *end;
    snprintf(key, sizeof key, "junto.adapter.%s", name);
    JT_TRY(read_text(file, key, &text, err));
    if (text.len < sizeof copy)
        memcpy(copy, text.data, text.len);
    *out = strtof(copy, &end);
    return *copy && !*end ? JT_OK
                          : jt_fail(err, JT_E_FORMAT, "metadata '%s' is '%.*s'", key,
                                    JT_GGUF_SHOW(text));
}

static jt_status read_all(jt_adapter *a, const jt_safetensors *file, jt_err *err)
{
    jt_str family;
    float alpha;
    JT_TRY(read_text(file, "junto.adapter.family", &family, err));
    JT_TRY(read_number(file, "junto.adapter.model", 16, &a->fingerprint, err));
    JT_TRY(read_float(file, alpha_name, &alpha, err));
    for (int i = 0; i < JT_ADAPTER_SETTINGS && a->kind->setting[i]; i++) {
        JT_TRY(read_float(file, a->kind->setting[i], &a->setting[i], err));
        if (!isfinite(a->setting[i]))
            return jt_fail(err, JT_E_FORMAT,
                           "metadata 'junto.adapter.%s' is not finite",
                           a->kind->setting[i]);
    }
    free(a->family);
    a->family = jt_strndup(family.data, family.len);
    if (!a->family)
        return jt_fail_memory(err, "reading an adapter");
    JT_TRY(jt_blend_read(&a->blend, file, err));
    return a->kind->making ? jt_made_read(a, file, alpha, err)
                           : read_slots(a, file, alpha, err);
}

jt_status jt_adapter_read_junto(jt_adapter **out, const char *path,
                                const jt_safetensors *file, jt_err *err)
{
    uint64_t version;
    jt_str kind;
    jt_adapter *a;
    JT_TRY(read_number(file, "junto.adapter", 10, &version, err));
    if (version != VERSION)
        return jt_fail(err, JT_E_UNSUPPORTED, "version %" PRIu64 " of adapter files",
                       version);
    JT_TRY(read_text(file, "junto.adapter.kind", &kind, err));
    const jt_adapter_kind *known = jt_adapter_kind_find(kind.data, kind.len);
    if (!known)
        return jt_fail(err, JT_E_UNSUPPORTED, "adapters of kind '%.*s'",
                       JT_GGUF_SHOW(kind));
    JT_TRY(jt_adapter_new(&a, known, path, err));
    jt_status status = read_all(a, file, err);
    if (status != JT_OK) {
        jt_adapter_free(a);
        return status;
    }
    *out = a;
    return JT_OK;
}

/* ---- writing ---- */

static jt_status describe_part(jt_safetensors_writer *w, const jt_adapter_slot *s,
                               const char *part, jt_safetensor_type type, int n_dims,
                               const uint64_t *shape, jt_err *err)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s", s->target, part);
    return jt_safetensors_add(w, name, type, n_dims, shape, err);
}

static jt_status describe_slot(jt_safetensors_writer *w, const jt_adapter *a,
                               const jt_adapter_slot *s, jt_err *err)
{
    for (int i = 0; i < JT_ADAPTER_PARTS && a->kind->part[i]; i++) {
        const jt_tensor *t = &s->part[i];
        int skip = t->n_dims > 1 && t->shape[0] == 1;
        uint64_t shape[JT_MAX_DIMS];
        for (int d = skip; d < t->n_dims; d++)
            shape[d - skip] = t->shape[d];
        JT_TRY(describe_part(w, s, a->kind->part[i], JT_ST_F32, t->n_dims - skip, shape,
                             err));
    }
    if (a->kind->sparse) {
        uint64_t index[2] = {2, jt_cols(&s->part[0])}, three = 3;
        JT_TRY(describe_part(w, s, index_name, JT_ST_I32, 2, index, err));
        JT_TRY(describe_part(w, s, shape_name, JT_ST_I32, 1, &three, err));
    }
    return s->alpha == a->slot[0].alpha
               ? JT_OK
               : describe_part(w, s, alpha_name, JT_ST_F32, 0, NULL, err);
}

static jt_status write_places(jt_safetensors_writer *w, const jt_adapter_slot *s,
                              jt_err *err)
{
    int32_t shape[3] = {(int32_t)s->count, (int32_t)s->rows, (int32_t)s->cols};
    for (size_t r = 0; r < s->count * s->rows; r++) {
        int32_t row = (int32_t)r;
        for (size_t i = s->start[r]; i < s->start[r + 1]; i++)
            JT_TRY(jt_safetensors_write(w, &row, sizeof row, err));
    }
    JT_TRY(jt_safetensors_write(w, s->column, jt_cols(&s->part[0]) * sizeof *s->column,
                                err));
    return jt_safetensors_write(w, shape, sizeof shape, err);
}

static jt_status write_slot(jt_safetensors_writer *w, const jt_adapter *a,
                            const jt_adapter_slot *s, jt_err *err)
{
    for (int i = 0; i < JT_ADAPTER_PARTS && a->kind->part[i]; i++) {
        const jt_tensor *t = &s->part[i];
        JT_TRY(jt_safetensors_write(w, t->data, jt_rows(t) * jt_cols(t) * sizeof(float),
                                    err));
    }
    if (a->kind->sparse)
        JT_TRY(write_places(w, s, err));
    return s->alpha == a->slot[0].alpha
               ? JT_OK
               : jt_safetensors_write(w, &s->alpha, sizeof s->alpha, err);
}

static jt_status write_metadata(jt_safetensors_writer *w, const jt_adapter *a,
                                jt_err *err)
{
    char text[32];
    size_t most = 0;
    for (size_t i = 0; i < a->count; i++)
        most = a->slot[i].rank > most ? a->slot[i].rank : most;
    for (size_t i = 0; i < a->n_places; i++)
        most = a->place[i].rank > most ? a->place[i].rank : most;
    snprintf(text, sizeof text, "%d", VERSION);
    JT_TRY(jt_safetensors_set_metadata(w, "junto.adapter", text, err));
    JT_TRY(jt_safetensors_set_metadata(w, "junto.adapter.kind", a->kind->name, err));
    JT_TRY(jt_safetensors_set_metadata(w, "junto.adapter.family", a->family, err));
    snprintf(text, sizeof text, "%016" PRIx64, a->fingerprint);
    JT_TRY(jt_safetensors_set_metadata(w, "junto.adapter.model", text, err));
    for (int i = 0; i < JT_ADAPTER_SETTINGS && a->kind->setting[i]; i++) {
        char key[64];
        snprintf(key, sizeof key, "junto.adapter.%s", a->kind->setting[i]);
        snprintf(text, sizeof text, "%.9g", (double)a->setting[i]);
        JT_TRY(jt_safetensors_set_metadata(w, key, text, err));
    }
    snprintf(text, sizeof text, "%zu", most);
    JT_TRY(jt_safetensors_set_metadata(w, "junto.adapter.rank", text, err));
    float alpha = a->count ? a->slot[0].alpha : a->n_places ? a->place[0].alpha : 1.0f;
    snprintf(text, sizeof text, "%.9g", (double)alpha);
    return jt_safetensors_set_metadata(w, "junto.adapter.alpha", text, err);
}

static jt_status write_all(jt_safetensors_writer *w, const jt_adapter *a, jt_err *err)
{
    JT_TRY(write_metadata(w, a, err));
    if (a->kind->making) {
        JT_TRY(jt_made_describe(w, a, err));
        return jt_made_write(w, a, err);
    }
    for (size_t i = 0; i < a->count; i++)
        JT_TRY(describe_slot(w, a, &a->slot[i], err));
    if (a->blend)
        JT_TRY(jt_blend_describe(a->blend, w, err));
    for (size_t i = 0; i < a->count; i++)
        JT_TRY(write_slot(w, a, &a->slot[i], err));
    return a->blend ? jt_blend_write(a->blend, w, err) : JT_OK;
}

jt_status jt_adapter_write_junto(const jt_adapter *a, const char *path, jt_err *err)
{
    jt_safetensors_writer *w;
    if (!a->count && !a->n_places && !a->blend)
        return jt_fail(err, JT_E_ARG, "an adapter without targets");
    JT_TRY(jt_safetensors_begin(&w, path, err));
    jt_status status = write_all(w, a, err);
    if (status == JT_OK)
        return jt_safetensors_writer_finish(w, err);
    jt_safetensors_writer_abort(w);
    return status;
}
