/* A Hugging Face folder as GGUF: rows are looked up layer by layer, and what is found
 * is described, made, and in the end placed in a file in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/hf.h"
#include "text/import.h"

enum { NAME_BYTES = JT_HF_NAME_BYTES, MOST_LAYERS = 4096, MOST_EXPERTS = 65536 };

typedef struct listed {
    const jt_hf_row *row;
    const jt_hf_row *factors; /* of the tensor that the values of this one multiply */
    int layer, experts;       /* -1: none */
    jt_gguf_tensor tensor;
} listed;

struct jt_hf_import {
    jt_hf_job job;
    listed *list;
    size_t count, room;
};

/* ---- one tensor ---- */

static bool same_shape(const jt_gguf_tensor *a, const jt_gguf_tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof *a->shape) == 0;
}

/* One matrix per expert as a stack of pieces. */
static jt_status fetch_stack(jt_hf_job *job, const listed *l, jt_gguf_tensor *out)
{
    jt_gguf_tensor first = {0}, one;
    const void **pieces =
        jt_arena_alloc(&job->arena, (size_t)l->experts, sizeof *pieces);
    if (!pieces)
        return jt_fail_memory(job->err, "stacking experts");
    for (int e = 0; e < l->experts; e++) {
        char name[NAME_BYTES];
        jt_hf_name(name, sizeof name, l->row->hf, l->layer, e);
        const jt_safetensor *from = jt_hf_find(job, name);
        if (!from)
            return jt_fail(job->err, JT_E_FORMAT, "'%s' is missing", name);
        JT_TRY(jt_hf_fetch(job, name, from, &one));
        if (e == 0)
            first = one;
        if (!same_shape(&one, &first))
            return jt_fail(job->err, JT_E_FORMAT,
                           "'%s' has another shape or type than that of expert 0",
                           name);
        pieces[e] = one.data;
    }
    if (first.n_dims >= JT_MAX_DIMS)
        return jt_fail(job->err, JT_E_FORMAT, "experts of %d dimensions", first.n_dims);
    *out = first;
    out->data = NULL;
    out->pieces = pieces;
    out->n_dims++;
    out->shape[0] = (uint64_t)l->experts;
    memcpy(out->shape + 1, first.shape, (size_t)first.n_dims * sizeof *first.shape);
    return JT_OK;
}

static jt_status fetch(jt_hf_job *job, const listed *l, jt_gguf_tensor *out)
{
    char name[NAME_BYTES];
    if (l->experts >= 0)
        return fetch_stack(job, l, out);
    jt_hf_name(name, sizeof name, l->row->hf, l->layer, 0);
    return jt_hf_fetch(job, name, jt_hf_find(job, name), out);
}

/* What values in FP4 are times, of each expert; times the values that the tensor has.
 */
static jt_status fetch_factors(jt_hf_job *job, const listed *l, jt_gguf_tensor *out)
{
    jt_status status;
    const float *own = l->row == l->factors ? NULL : out->data;
    float *to = jt_hf_room(job, out, &status);
    for (uint64_t e = 0; e < out->shape[0] && status == JT_OK; e++) {
        char name[NAME_BYTES];
        float factor = 1.0f;
        jt_hf_name(name, sizeof name, l->factors->hf, l->layer, (int)e);
        status = jt_hf_factor(job, name, &factor);
        if (to)
            to[e] = own ? own[e] * factor : factor;
    }
    return status;
}

static jt_status transform(jt_hf_job *job, const listed *l, const char *name,
                           jt_gguf_tensor *out)
{
    if (l->row->how)
        JT_TRY(l->row->how->import(job, out));
    if (out->dtype == JT_DTYPE_COUNT)
        return jt_fail(job->err, JT_E_UNSUPPORTED, "its type is not supported");
    if (jt_hf_wants_f32(name, out->n_dims))
        JT_TRY(jt_hf_as_f32(job, out));
    return JT_OK;
}

/* Fetch and transform; errors name the tensor of the folder. */
static jt_status make(jt_hf_job *job, const listed *l, jt_gguf_tensor *out)
{
    const jt_str name = l->tensor.name;
    jt_status status = JT_OK;
    job->layer = l->layer;
    job->blocks = !l->row->how || jt_hf_moves_rows(l->row->how);
    if (l->row != l->factors) {
        status = fetch(job, l, out);
        if (status == JT_OK)
            status = transform(job, l, name.data, out);
    }
    if (status == JT_OK && l->factors)
        status = fetch_factors(job, l, out);
    out->name = name;
    if (status == JT_OK)
        return JT_OK;
    char from[NAME_BYTES];
    jt_hf_name(from, sizeof from, l->row->hf, l->layer, 0);
    return jt_fail_within(job->err, status, "tensor '%s'", from);
}

/* ---- all tensors ---- */

static jt_status describe(jt_hf_import *im, listed *l)
{
    char name[NAME_BYTES];
    jt_hf_job *job = &im->job;
    jt_hf_name(name, sizeof name, l->row->gguf, l->layer, 0);
    char *copy = jt_arena_alloc(&job->arena, strlen(name) + 1, 1);
    if (!copy || !jt_grow((void **)&im->list, &im->room, im->count + 1, sizeof *l))
        return jt_fail_memory(job->err, "listing tensors");
    memcpy(copy, name, strlen(name) + 1);
    l->tensor.name = (jt_str){copy, strlen(name)};
    JT_TRY(make(job, l, &l->tensor));
    im->list[im->count++] = *l;
    return JT_OK;
}

static jt_status add_row(jt_hf_import *im, const jt_hf_row *row, int layer,
                         int64_t experts)
{
    char name[NAME_BYTES];
    listed l = {.row = row, .layer = layer, .experts = -1};
    bool only_written = row->how && !row->how->import;
    if (only_written || !jt_hf_name(name, sizeof name, row->hf, layer, 0) ||
        jt_names_find(&im->job.names, (jt_str){name, strlen(name)}) == JT_NAMES_NONE)
        return JT_OK;
    if (strchr(row->hf, '#')) {
        if (experts < 1)
            return jt_fail(im->job.err, JT_E_FORMAT,
                           "tensor '%s' in a model without experts", name);
        l.experts = (int)experts;
    }
    return describe(im, &l);
}

/* Rows of one layer, or (-1) of the whole model. */
static jt_status add_rows(jt_hf_import *im, int layer, int64_t experts)
{
    const jt_hf_family *family = im->job.family;
    for (int i = 0; i < JT_HF_LISTS && family->tensors[i]; i++) {
        for (const jt_hf_row *row = family->tensors[i]; row->hf; row++) {
            if ((strchr(row->hf, '%') != NULL) == (layer >= 0))
                JT_TRY(add_row(im, row, layer, experts));
        }
    }
    return JT_OK;
}

/* "NAME.scale" of the layer of tensor `i`, when it is listed; rows of a layer follow
 * each other. */
static listed *find_scale(jt_hf_import *im, size_t i, const char *name)
{
    int layer = im->list[i].layer;
    while (i > 0 && im->list[i - 1].layer == layer)
        i--;
    for (; i < im->count && im->list[i].layer == layer; i++) {
        if (strcmp(im->list[i].tensor.name.data, name) == 0)
            return &im->list[i];
    }
    return NULL;
}

/* Where FP4 has factors, they are "NAME.scale" beside "NAME.weight". */
static jt_status add_scale(jt_hf_import *im, size_t i)
{
    static const char ending[] = ".weight";
    const listed l = im->list[i];
    const char *weight = l.tensor.name.data;
    size_t len = l.tensor.name.len - (sizeof ending - 1);
    if (jt_hf_wants_f32(weight, l.tensor.n_dims))
        return jt_fail(im->job.err, JT_E_UNSUPPORTED, "'%s' in four bits", weight);
    listed scale = {.row = l.row, .factors = l.row, .layer = l.layer, .experts = -1};
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%.*s.scale", (int)len, weight);
    listed *own = find_scale(im, i, name);
    if (own) {
        own->factors = l.row;
        return make(&im->job, own, &own->tensor);
    }
    char *copy = jt_arena_alloc(&im->job.arena, strlen(name) + 1, 1);
    if (!copy || !jt_grow((void **)&im->list, &im->room, im->count + 1, sizeof l))
        return jt_fail_memory(im->job.err, "listing tensors");
    memcpy(copy, name, strlen(name) + 1);
    scale.tensor = (jt_gguf_tensor){.name = {copy, strlen(name)},
                                    .dtype = JT_F32,
                                    .n_dims = 1,
                                    .shape = {l.experts < 0 ? 1 : (uint64_t)l.experts}};
    JT_TRY(make(&im->job, &scale, &scale.tensor));
    im->list[im->count++] = scale;
    return JT_OK;
}

static jt_status add_scales(jt_hf_import *im)
{
    for (size_t i = 0, weights = im->count; i < weights; i++) {
        char name[NAME_BYTES];
        const listed *l = &im->list[i];
        if (!l->row)
            continue;
        jt_hf_name(name, sizeof name, l->row->hf, l->layer, 0);
        if (jt_hf_has_factor(&im->job, name))
            JT_TRY(add_scale(im, i));
    }
    return JT_OK;
}

/* The layer in "model.layers.12.mlp..."; -1 without one. */
static int64_t layer_of(jt_str name)
{
    static const char part[] = "layers.";
    const char *at = memmem(name.data, name.len, part, strlen(part));
    const char *end = name.data + name.len;
    int64_t layer = -1;
    for (at = at ? at + strlen(part) : end; at < end && *at >= '0' && *at <= '9'; at++)
        layer = (layer < 0 ? 0 : layer) * 10 + (*at - '0');
    return layer;
}

static bool contains(jt_str name, const char *part)
{
    return memmem(name.data, name.len, part, strlen(part)) != NULL;
}

/* Tensors that are no weights of the language model. */
static bool is_skipped(const jt_hf_family *family, jt_str name)
{
    static const char *const always[] = {"rotary_emb.inv_freq",
                                         ".attention.bias",
                                         ".attention.masked_bias",
                                         "vision_",
                                         "visual.",
                                         "vision.",
                                         "audio_",
                                         "multi_modal_projector.",
                                         "mm_projector.",
                                         ".input_scale",
                                         ".input_global_scale",
                                         ".k_scale",
                                         ".v_scale",
                                         "activation_scale"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) {
        if (contains(name, always[i]))
            return true;
    }
    for (size_t i = 0; family->skipped && family->skipped[i]; i++) {
        if (contains(name, family->skipped[i]))
            return true;
    }
    return false;
}

static jt_status check_unused(const jt_hf_import *im, int64_t layers)
{
    for (size_t i = 0; i < jt_safetensors_count(im->job.source); i++) {
        jt_str name = jt_safetensors_at(im->job.source, i)->name;
        if (!im->job.used[i] && !is_skipped(im->job.family, name) &&
            layer_of(name) < layers)
            return jt_fail(im->job.err, JT_E_UNSUPPORTED,
                           "tensor '%.*s' is not known in a model of type '%s'",
                           JT_GGUF_SHOW(name), im->job.family->model_type);
    }
    return JT_OK;
}

static jt_status read_count(jt_hf_job *job, const char *key, int64_t most,
                            int64_t *value)
{
    *value = 0;
    jt_hf_get_int(job, key, value);
    if (*value < 0 || *value > most)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: %lld as '%s', expected at most %lld",
                       (long long)*value, key, (long long)most);
    return JT_OK;
}

static jt_status list_tensors(jt_hf_import *im)
{
    int64_t layers, experts;
    JT_TRY(read_count(&im->job, "block_count", MOST_LAYERS, &layers));
    JT_TRY(read_count(&im->job, "expert_count", MOST_EXPERTS, &experts));
    im->job.describing = true;
    JT_TRY(add_rows(im, -1, experts));
    for (int layer = 0; layer < layers; layer++)
        JT_TRY(add_rows(im, layer, experts));
    JT_TRY(add_scales(im));
    im->job.describing = false;
    return check_unused(im, layers);
}

/* Which tensors were F32 from the start is lost where others become it. */
static jt_status note_f32(jt_hf_import *im)
{
    jt_hf_job *job = &im->job;
    jt_str *names = jt_arena_alloc(&job->arena, im->count, sizeof *names);
    size_t count = 0;
    bool narrower = false; /* is any matrix? */
    if (!names)
        return jt_fail_memory(job->err, "listing tensors");
    for (size_t i = 0; i < im->count; i++) {
        const listed *l = &im->list[i];
        char name[NAME_BYTES];
        narrower |= l->tensor.dtype != JT_F32;
        if (!l->row || l->row == l->factors || l->experts >= 0)
            continue;
        jt_hf_name(name, sizeof name, l->row->hf, l->layer, 0);
        const jt_safetensor *from = jt_hf_find(job, name);
        if (from->type == JT_ST_F32 && l->tensor.dtype == JT_F32)
            names[count++] = l->tensor.name;
    }
    if (!narrower || !count)
        return JT_OK;
    return jt_gguf_set_strs(job->writer, JT_HF_F32_KEY, names, count, job->err);
}

/* Factors of a rope are tensors of GGUF alone. */
static jt_status list_factors(jt_hf_import *im, const char *name)
{
    float *factors = NULL;
    size_t count;
    JT_TRY(jt_hf_rope_factors(&im->job, name, &factors, &count));
    if (!count)
        return JT_OK;
    if (!jt_grow((void **)&im->list, &im->room, im->count + 1, sizeof *im->list))
        return jt_fail_memory(im->job.err, "listing tensors");
    im->list[im->count++] = (listed){.tensor = {.name = {name, strlen(name)},
                                                .dtype = JT_F32,
                                                .n_dims = 1,
                                                .shape = {count},
                                                .data = factors}};
    return JT_OK;
}

static jt_status list_rope(jt_hf_import *im)
{
    for (size_t i = 0; jt_hf_rope_tensors[i]; i++)
        JT_TRY(list_factors(im, jt_hf_rope_tensors[i]));
    return JT_OK;
}

/* ---- keys that are no rows ---- */

/* The last part of a path, for a model without a name. */
static jt_status set_name(jt_hf_job *job, const char *folder)
{
    size_t end = strlen(folder);
    while (end > 1 && folder[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && folder[start - 1] != '/')
        start--;
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)(end - start), folder + start);
    return jt_gguf_set_str(job->writer, "general.name", name, job->err);
}

/* A folder may hold a model alone. */
static jt_status read_tokenizer(jt_hf_job *job, const char *folder)
{
    static const char *const files[] = {"tokenizer.json",  "tekken.json",
                                        "tokenizer.model", "tiktoken.model",
                                        "qwen.tiktoken",   "hy.tiktoken"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (access(path, F_OK) == 0)
            return jt_tokenizer_import(job->writer, folder, job->err);
    }
    return JT_OK;
}

/* ---- the whole ---- */

static jt_status open_all(jt_hf_import *im, const char *folder)
{
    jt_hf_job *job = &im->job;
    JT_TRY(jt_hf_read_config(job, folder));
    JT_TRY(jt_hf_family_of_config(job));
    JT_TRY(jt_hf_read_keys(job));
    JT_TRY(set_name(job, folder));
    JT_TRY(jt_hf_read_generation(job, folder));
    JT_TRY(read_tokenizer(job, folder));
    JT_TRY(jt_safetensors_open(&job->source, folder, job->err));
    JT_TRY(jt_hf_index_names(job));
    JT_TRY(list_rope(im));
    JT_TRY(list_tensors(im));
    return note_f32(im);
}

jt_status jt_hf_import_new(jt_hf_import **out, const char *folder,
                           jt_gguf_writer *writer, jt_err *err)
{
    jt_hf_import *im = jt_calloc(1, sizeof *im);
    if (!im)
        return jt_fail_memory(err, "opening a folder");
    im->job = (jt_hf_job){.layer = -1, .err = err, .writer = writer};
    jt_status status = open_all(im, folder);
    if (status != JT_OK) {
        jt_hf_import_free(im);
        return jt_fail_within(err, status, "'%s'", folder);
    }
    *out = im;
    return JT_OK;
}

void jt_hf_import_free(jt_hf_import *im)
{
    if (!im)
        return;
    jt_hf_drop_rooms(&im->job);
    jt_pool_free(im->job.pool);
    free(im->job.rooms);
    json_decref(im->job.config);
    jt_safetensors_close(im->job.source);
    jt_names_free(&im->job.names);
    jt_arena_free(&im->job.arena);
    free(im->job.used);
    free(im->list);
    free(im);
}

size_t jt_hf_import_count(const jt_hf_import *im)
{
    return im->count;
}

const jt_gguf_tensor *jt_hf_import_at(const jt_hf_import *im, size_t i)
{
    return &im->list[i].tensor;
}

jt_status jt_hf_import_make(jt_hf_import *im, size_t i, jt_gguf_tensor *out,
                            jt_err *err)
{
    const listed *l = &im->list[i];
    *out = l->tensor;
    im->job.err = err;
    return l->row ? make(&im->job, l, out) : JT_OK;
}

void jt_hf_import_drop(jt_hf_import *im)
{
    jt_hf_drop_rooms(&im->job);
}

static jt_status place_all(jt_hf_import *im, jt_gguf_writer *w, jt_err *err)
{
    for (size_t i = 0; i < im->count; i++) {
        jt_gguf_tensor t;
        JT_TRY(jt_hf_import_make(im, i, &t, err));
        JT_TRY(jt_gguf_place_tensor(w, &t, err));
    }
    return JT_OK;
}

static void release(void *owner)
{
    jt_hf_import_free(owner);
}

jt_status jt_hf_open(jt_gguf **out, const char *folder, jt_err *err)
{
    jt_gguf_writer *w;
    jt_hf_import *im = NULL;
    JT_TRY(jt_gguf_writer_new_memory(&w, err));
    jt_status status = jt_hf_import_new(&im, folder, w, err);
    if (status == JT_OK)
        status = place_all(im, w, err);
    if (status == JT_OK) {
        im->job.writer = NULL; /* nothing more is made */
        jt_pool_free(im->job.pool);
        im->job.pool = NULL;
        status = jt_gguf_writer_open(out, w, folder, (jt_gguf_owner){release, im}, err);
    } else {
        jt_gguf_writer_abort(w);
    }
    if (status != JT_OK)
        jt_hf_import_free(im);
    return status;
}
