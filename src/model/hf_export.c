/* A GGUF file as a Hugging Face folder: the rows of the family, read backwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/half.h"
#include "format/gguf_file.h"
#include "model/hf.h"

enum { NAME_BYTES = 256 };

/* One tensor to write. */
typedef struct entry {
    char *name;
    const jt_hf_row *row;  /* the first of those that fill it */
    int layer, expert;     /* -1: none */
    jt_gguf_tensor tensor; /* type and shape; its data when it is made */
} entry;

typedef struct exporter {
    jt_hf_job job;
    const jt_hf_export_options *o;
    jt_dtype main; /* the type of matrices */
    entry *list;
    size_t count, room;
    unsigned char *taken; /* [tensors of the file], the halves of them: 1, 2 */
    uint64_t done, total;
} exporter;

/* ---- types ---- */

static bool is_plain(jt_dtype dtype)
{
    return dtype == JT_F32 || dtype == JT_F16 || dtype == JT_BF16;
}

/* Most bytes of matrices have it, once block formats are gone. */
static jt_dtype main_type(const jt_gguf *file, const jt_hf_export_options *o)
{
    uint64_t bytes[JT_DTYPE_COUNT] = {0};
    jt_dtype most = o->dtype;
    for (size_t i = 0; i < jt_gguf_tensor_count(file) && !o->all; i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        if (!jt_hf_wants_f32(name, t->n_dims))
            bytes[is_plain(t->dtype) ? t->dtype : o->dtype] += t->bytes;
    }
    for (int d = 0; d < JT_DTYPE_COUNT; d++)
        most = bytes[d] > bytes[most] ? (jt_dtype)d : most;
    return most;
}

/* What the values of a tensor are times: one number for all, or one for each matrix of
 * a stack. */
typedef struct scales {
    const float *value; /* NULL: 1 */
    size_t count;
} scales;

/* `t` as `dtype`, in room of the job. */
static jt_status retype(jt_hf_job *job, jt_gguf_tensor *t, jt_dtype dtype, scales s)
{
    if (t->dtype == dtype && !s.value)
        return JT_OK;
    jt_gguf_tensor from = *t;
    jt_status status;
    size_t n = (size_t)t->shape[t->n_dims - 1], rows = jt_hf_values(t) / n;
    float *row = jt_alloc(n, sizeof *row);
    if (!row)
        return jt_fail_memory(job->err, "changing a tensor");
    t->dtype = dtype;
    char *to = jt_hf_room(job, t, &status);
    for (size_t r = 0; r < rows && to; r++) {
        jt_gguf_read_row(&from, r, row);
        for (size_t i = 0; i < n && s.value; i++)
            row[i] *= s.value[r / (rows / s.count)];
        jt_quantize(dtype, to + r * jt_dtype_row_bytes(dtype, n), row, n);
    }
    free(row);
    return status;
}

/* Would the values of an F32 tensor survive in `dtype`? */
static bool survives(const jt_gguf_tensor *t, jt_dtype dtype)
{
    const float *x = t->data;
    size_t n = jt_hf_values(t);
    for (size_t i = 0; i < n; i++) {
        float back = dtype == JT_BF16 ? jt_bf16_to_float(jt_float_to_bf16(x[i]))
                                      : jt_f16_to_float(jt_float_to_f16(x[i]));
        if (jt_float_bits(back) != jt_float_bits(x[i]))
            return false;
    }
    return true;
}

/* Was this tensor F32 in a folder whose matrices had another type? */
static bool was_f32(const jt_gguf *file, const char *gguf)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(file, JT_HF_F32_KEY);
    jt_str name;
    for (uint64_t i = 0; kv && jt_gguf_item_str(kv, i, &name); i++) {
        if (name.len == strlen(gguf) && memcmp(name.data, gguf, name.len) == 0)
            return true;
    }
    return false;
}

/* ---- one tensor ---- */

/* A tensor of the file, and which halves of its rows (1, 2) are those of the row: gates
 * and ups of experts may be one tensor there. NULL: none. */
static const jt_gguf_tensor *find(const jt_hf_job *job, const jt_hf_row *row, int layer,
                                  int *halves)
{
    static const char *const parts[] = {"ffn_gate_exps.", "ffn_up_exps."};
    char name[NAME_BYTES], both[NAME_BYTES];
    *halves = 1 | 2;
    if (!jt_hf_name(name, sizeof name, row->gguf, layer, 0))
        return NULL;
    const jt_gguf_tensor *found = jt_gguf_find(job->file, name);
    for (int i = 0; i < 2 && !found && strchr(row->hf, '#'); i++) {
        const char *at = strstr(name, parts[i]);
        if (!at)
            continue;
        snprintf(both, sizeof both, "%.*sffn_gate_up_exps.%s", (int)(at - name), name,
                 at + strlen(parts[i]));
        *halves = i + 1;
        found = jt_gguf_find(job->file, both);
    }
    return found;
}

/* Does a row make the tensor of this name? */
static bool has_row(const jt_hf_family *family, const char *gguf, int layer)
{
    for (int i = 0; i < JT_HF_LISTS && family->tensors[i]; i++) {
        for (const jt_hf_row *row = family->tensors[i]; row->hf; row++) {
            char name[NAME_BYTES];
            jt_hf_name(name, sizeof name, row->gguf, layer, 0);
            if (strcmp(name, gguf) == 0)
                return true;
        }
    }
    return false;
}

/* "NAME.scale" of a matrix "NAME.weight", unless folders have it as well. */
static jt_status find_scales(exporter *x, const jt_gguf_tensor *matrix, int layer,
                             scales *out)
{
    static const char ending[] = ".weight";
    char name[NAME_BYTES];
    size_t len = matrix->name.len, cut = sizeof ending - 1;
    *out = (scales){NULL, 1};
    if (len <= cut || memcmp(matrix->name.data + len - cut, ending, cut) != 0)
        return JT_OK;
    snprintf(name, sizeof name, "%.*s.scale", (int)(len - cut), matrix->name.data);
    const jt_gguf_tensor *t = jt_gguf_find(x->job.file, name);
    if (!t || has_row(x->job.family, name, layer))
        return JT_OK;
    uint64_t count = matrix->n_dims == 3 ? matrix->shape[0] : 1;
    if (t->dtype != JT_F32 || t->n_dims != 1 || t->shape[0] != count || t->pieces)
        return jt_fail(x->job.err, JT_E_FORMAT, "'%s' does not fit its matrix", name);
    x->taken[t - jt_gguf_tensor_at(x->job.file, 0)] = 1 | 2;
    *out = (scales){t->data, (size_t)count};
    return JT_OK;
}

/* What a row gives: the tensor of the file, or an expert of it; NULL data: none. */
static jt_gguf_tensor row_tensor(const jt_hf_job *job, const jt_hf_row *row, int layer,
                                 int expert)
{
    int halves;
    jt_gguf_tensor t = {0};
    const jt_gguf_tensor *found = find(job, row, layer, &halves);
    if (!found || expert < 0)
        return found ? *found : t;
    t = *found;
    t.bytes = found->bytes / (size_t)found->shape[0];
    t.data = t.pieces ? t.pieces[expert]
                      : (const char *)found->data + (size_t)expert * t.bytes;
    t.pieces = NULL;
    t.n_dims--;
    memmove(t.shape, t.shape + 1, (size_t)t.n_dims * sizeof *t.shape);
    t.shape[t.n_dims] = 1;
    if (halves != (1 | 2)) {
        t.shape[0] /= 2;
        t.bytes /= 2;
        t.data = (const char *)t.data + (halves == 2 ? t.bytes : 0);
    }
    return t;
}

/* Let one row fill its part of `hf`. */
static jt_status fill(exporter *x, const entry *e, const jt_hf_row *row,
                      jt_gguf_tensor *hf)
{
    int halves;
    jt_gguf_tensor t = row_tensor(&x->job, row, e->layer, e->expert);
    char name[NAME_BYTES];
    jt_hf_name(name, sizeof name, row->gguf, e->layer, 0);
    bool matrix = !jt_hf_wants_f32(name, t.n_dims);
    scales s;
    JT_TRY(find_scales(x, find(&x->job, row, e->layer, &halves), e->layer, &s));
    if (e->expert >= 0 && s.count > 1)
        s = (scales){s.value + e->expert, 1};
    bool changed = !is_plain(t.dtype) || (x->o->all && matrix);
    JT_TRY(retype(&x->job, &t, changed ? x->o->dtype : t.dtype, s));
    if (row->how)
        JT_TRY(row->how->export(&x->job, &t, hf));
    else
        *hf = t;
    return JT_OK;
}

/* Vectors and the like are F32 in GGUF only; all rows have filled the tensor. */
static jt_status narrow(exporter *x, entry *e)
{
    char gguf[NAME_BYTES];
    jt_gguf_tensor from = row_tensor(&x->job, e->row, e->layer, e->expert);
    jt_hf_name(gguf, sizeof gguf, e->row->gguf, e->layer, 0);
    if (!jt_hf_wants_f32(gguf, from.n_dims) || x->main == JT_F32 ||
        e->tensor.dtype != JT_F32 || was_f32(x->job.file, gguf) ||
        !survives(&e->tensor, x->main))
        return JT_OK;
    return retype(&x->job, &e->tensor, x->main, (scales){NULL, 1});
}

/* Type and shape, or also the data, of an entry. */
static jt_status make(exporter *x, entry *e)
{
    const jt_hf_family *family = x->job.family;
    e->tensor = (jt_gguf_tensor){0};
    x->job.layer = e->layer;
    for (int i = 0; i < JT_HF_LISTS && family->tensors[i]; i++) {
        for (const jt_hf_row *row = family->tensors[i]; row->hf; row++) {
            if (strcmp(row->hf, e->row->hf) != 0 ||
                !row_tensor(&x->job, row, e->layer, e->expert).n_dims)
                continue;
            jt_status status = fill(x, e, row, &e->tensor);
            if (status != JT_OK)
                return jt_fail_within(x->job.err, status, "tensor '%s'", e->name);
        }
    }
    return x->job.describing ? JT_OK : narrow(x, e);
}

/* ---- all tensors ---- */

/* Vectors must be made to know their type; matrices need not be read. */
static jt_status describe(exporter *x, entry *e)
{
    char gguf[NAME_BYTES];
    jt_gguf_tensor t = row_tensor(&x->job, e->row, e->layer, e->expert);
    jt_hf_name(gguf, sizeof gguf, e->row->gguf, e->layer, 0);
    x->job.describing = !jt_hf_wants_f32(gguf, t.n_dims);
    jt_status status = make(x, e);
    x->job.describing = false;
    jt_hf_drop_rooms(&x->job);
    return status;
}

static jt_status add_entry(exporter *x, const jt_hf_row *row, int layer, int expert)
{
    char name[NAME_BYTES];
    entry e = {.row = row, .layer = layer, .expert = expert};
    if (!jt_hf_name(name, sizeof name, row->hf, layer, expert))
        return jt_fail(x->job.err, JT_E_ARG, "'%s' is too long", row->hf);
    e.name = jt_arena_alloc(&x->job.arena, strlen(name) + 1, 1);
    if (!e.name || !jt_grow((void **)&x->list, &x->room, x->count + 1, sizeof e))
        return jt_fail_memory(x->job.err, "listing tensors");
    memcpy(e.name, name, strlen(name) + 1);
    JT_TRY(describe(x, &e));
    x->list[x->count++] = e;
    return JT_OK;
}

/* Does a row before this one fill the same tensor? */
static bool is_partner(const exporter *x, const jt_hf_row *row, int layer)
{
    const jt_hf_family *family = x->job.family;
    for (int i = 0; i < JT_HF_LISTS && family->tensors[i]; i++) {
        for (const jt_hf_row *other = family->tensors[i]; other->hf; other++) {
            if (other == row)
                return false;
            if (strcmp(other->hf, row->hf) == 0 &&
                row_tensor(&x->job, other, layer, -1).n_dims)
                return true;
        }
    }
    return false;
}

static jt_status add_row(exporter *x, const jt_hf_row *row, int layer)
{
    int halves;
    bool only_read = row->how && !row->how->export;
    if (row->beside && !jt_hf_layer_has(&x->job, layer, row->beside))
        return JT_OK;
    const jt_gguf_tensor *t = find(&x->job, row, layer, &halves);
    if (only_read || !t)
        return JT_OK;
    unsigned char *taken = &x->taken[t - jt_gguf_tensor_at(x->job.file, 0)];
    if (*taken & halves)
        return JT_OK; /* of several forms of a tensor the first row's is written */
    *taken |= (unsigned char)halves;
    if (is_partner(x, row, layer))
        return JT_OK;
    if (!strchr(row->hf, '#'))
        return add_entry(x, row, layer, -1);
    if (t->n_dims < 2)
        return jt_fail(x->job.err, JT_E_FORMAT, "tensor '%.*s' is no stack of experts",
                       JT_GGUF_SHOW(t->name));
    for (uint64_t e = 0; e < t->shape[0]; e++)
        JT_TRY(add_entry(x, row, layer, (int)e));
    return JT_OK;
}

static jt_status add_rows(exporter *x, int layer)
{
    const jt_hf_family *family = x->job.family;
    for (int i = 0; i < JT_HF_LISTS && family->tensors[i]; i++) {
        for (const jt_hf_row *row = family->tensors[i]; row->hf; row++) {
            if ((strchr(row->hf, '%') != NULL) == (layer >= 0))
                JT_TRY(add_row(x, row, layer));
        }
    }
    return JT_OK;
}

/* Made from config.json, not from a tensor. */
static bool is_rope(jt_str name)
{
    for (size_t i = 0; jt_hf_rope_tensors[i]; i++) {
        if (name.len == strlen(jt_hf_rope_tensors[i]) &&
            memcmp(name.data, jt_hf_rope_tensors[i], name.len) == 0)
            return true;
    }
    return false;
}

/* Of a layer that predicts the token after the next: these come last. */
static bool is_predictor(jt_str name, int layers)
{
    char text[NAME_BYTES];
    int layer;
    snprintf(text, sizeof text, "%.*s", (int)name.len, name.data);
    return sscanf(text, "blk.%9d.", &layer) == 1 && layer >= layers;
}

static jt_status check_taken(const exporter *x, int layers)
{
    for (size_t i = 0; i < jt_gguf_tensor_count(x->job.file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(x->job.file, i);
        if (x->taken[i] != (1 | 2) && !is_rope(t->name) &&
            !is_predictor(t->name, layers))
            return jt_fail(x->job.err, JT_E_UNSUPPORTED,
                           "tensor '%.*s' has no place in a folder of type '%s'",
                           JT_GGUF_SHOW(t->name), x->job.family->model_type);
    }
    return JT_OK;
}

/* Wide types first, then by name: the order of the reference writer, which keeps values
 * aligned. */
static int by_type_and_name(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    size_t p = jt_dtype_block_bytes(x->tensor.dtype);
    size_t q = jt_dtype_block_bytes(y->tensor.dtype);
    return p != q ? (p < q) - (p > q) : strcmp(x->name, y->name);
}

static jt_status list_tensors(exporter *x)
{
    int layers;
    JT_TRY(jt_hf_layers(&x->job, &layers));
    JT_TRY(add_rows(x, -1));
    for (int layer = 0; layer < layers; layer++)
        JT_TRY(add_rows(x, layer));
    qsort(x->list, x->count, sizeof *x->list, by_type_and_name);
    return check_taken(x, layers);
}

/* ---- writing ---- */

static jt_safetensor_type type_of(jt_dtype dtype)
{
    return dtype == JT_F32 ? JT_ST_F32 : dtype == JT_F16 ? JT_ST_F16 : JT_ST_BF16;
}

static jt_status write_data(exporter *x, jt_safetensors_writer *w, const entry *e)
{
    const jt_gguf_tensor *t = &e->tensor;
    size_t bytes = jt_hf_values(t) * jt_dtype_block_bytes(t->dtype);
    if (t->data)
        JT_TRY(jt_safetensors_write(w, t->data, bytes, x->job.err));
    for (uint64_t i = 0; !t->data && i < t->shape[0]; i++)
        JT_TRY(jt_safetensors_write(w, t->pieces[i], bytes / (size_t)t->shape[0],
                                    x->job.err));
    x->done += bytes;
    return jt_progress_report(&x->o->progress, "converting", x->done, x->total,
                              x->job.err);
}

static jt_status write_tensors(exporter *x, jt_safetensors_writer *w)
{
    for (size_t i = 0; i < x->count; i++) {
        const jt_gguf_tensor *t = &x->list[i].tensor;
        JT_TRY(jt_safetensors_add(w, x->list[i].name, type_of(t->dtype), t->n_dims,
                                  t->shape, x->job.err));
        x->total += jt_hf_values(t) * jt_dtype_block_bytes(t->dtype);
    }
    JT_TRY(jt_progress_report(&x->o->progress, "converting", 0, x->total, x->job.err));
    for (size_t i = 0; i < x->count; i++) {
        JT_TRY(make(x, &x->list[i]));
        JT_TRY(write_data(x, w, &x->list[i]));
        jt_hf_drop_rooms(&x->job);
    }
    return JT_OK;
}

static jt_status write_safetensors(exporter *x, const char *folder)
{
    jt_safetensors_writer *w;
    JT_TRY(jt_safetensors_writer_new(&w, folder, x->o->shard_bytes, x->job.err));
    jt_status status = write_tensors(x, w);
    if (status == JT_OK)
        return jt_safetensors_writer_finish(w, x->job.err);
    jt_safetensors_writer_abort(w);
    return status;
}

/* ---- the whole ---- */

static jt_status write_json(const json_t *json, const char *folder, const char *name,
                            jt_err *err)
{
    char path[4096];
    jt_output out;
    char *text =
        json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    if (!text)
        return jt_fail_memory(err, "writing JSON");
    snprintf(path, sizeof path, "%s/%s", folder, name);
    jt_status status = jt_output_open(&out, path, err);
    if (status == JT_OK) {
        status = jt_output_write(&out, text, strlen(text), err);
        if (status == JT_OK)
            status = jt_output_write(&out, "\n", 1, err);
        if (status == JT_OK)
            status = jt_output_commit(&out, err);
        else
            jt_output_abort(&out);
    }
    free(text);
    return status;
}

static jt_status write_generation(exporter *x, const char *folder)
{
    json_t *config;
    JT_TRY(jt_hf_make_generation(x->job.file, &config, x->job.err));
    jt_status status = JT_OK;
    if (json_object_size(config))
        status = write_json(config, folder, "generation_config.json", x->job.err);
    json_decref(config);
    return status;
}

static jt_status export_all(exporter *x, const char *folder)
{
    jt_hf_job *job = &x->job;
    JT_TRY(jt_hf_family_of_file(job));
    x->main = main_type(job->file, x->o);
    x->taken = jt_calloc(jt_gguf_tensor_count(job->file), sizeof *x->taken);
    job->config = json_object();
    if (!x->taken || !job->config)
        return jt_fail_memory(job->err, "converting a model");
    JT_TRY(list_tensors(x));
    JT_TRY(jt_hf_make_config(job, x->main));
    JT_TRY(write_safetensors(x, folder));
    JT_TRY(write_generation(x, folder));
    return write_json(job->config, folder, "config.json", job->err);
}

jt_status jt_hf_export(const jt_gguf *file, const char *folder,
                       const jt_hf_export_options *options, jt_err *err)
{
    exporter x = {.job = {.layer = -1, .err = err, .file = file}, .o = options};
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        if (jt_gguf_tensor_at(file, i)->types)
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "experts of different types have no place in a folder");
    }
    jt_status status = export_all(&x, folder);
    jt_hf_drop_rooms(&x.job);
    free(x.job.rooms);
    json_decref(x.job.config);
    jt_arena_free(&x.job.arena);
    free(x.taken);
    free(x.list);
    return status;
}
