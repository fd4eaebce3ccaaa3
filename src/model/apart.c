#include "model/apart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "format/gguf_file.h"
#include "kernels/nested.h"
#include "model/nested_file.h"
#include "model/single_experts.h"

/* ---- weights in memory ---- */

/* The tensors that are read, and the file that is made of them. */
typedef struct reading {
    jt_apart *apart;
    const jt_gguf *file; /* with stacked experts */
    jt_gguf_writer *writer;
    jt_read *reads;
    size_t n_reads;
    jt_err *err;
} reading;

/* What the file in memory holds on to. */
typedef struct owned {
    jt_gguf *file;
    char *memory;
} owned;

static void release(void *owner)
{
    owned *o = owner;
    jt_gguf_close(o->file);
    free(o->memory);
    free(o);
}

static bool ends_with(jt_str name, const char *ending)
{
    size_t n = strlen(ending);
    return name.len >= n && memcmp(name.data + name.len - n, ending, n) == 0;
}

/* Stacks of experts, and the state of a training run. */
static bool stays(const jt_gguf_tensor *t)
{
    static const char training[] = "junto.train/";
    return ends_with(t->name, "_exps.weight") || jt_nested_is_plane(t->name) ||
           (t->name.len >= sizeof training - 1 &&
            memcmp(t->name.data, training, sizeof training - 1) == 0);
}

static size_t room_for(size_t bytes)
{
    size_t mask = JT_READ_ALIGN - 1;
    return ((bytes + mask) & ~mask) + JT_READ_ALIGN;
}

static const jt_source *source_of(const jt_apart *apart, const jt_gguf_part *part)
{
    return &apart->sources[part - apart->disk->parts];
}

/* Plan the reading of a tensor to *at, which moves on. */
static jt_status plan_read(reading *r, const jt_gguf_tensor *t, char **at)
{
    uint64_t offset = 0;
    const jt_gguf_part *part =
        t->data ? jt_gguf_locate(r->apart->disk, t->data, t->bytes, &offset) : NULL;
    if (!part)
        return jt_fail(r->err, JT_E_FORMAT, "tensor '%.*s' does not lie in the file",
                       JT_GGUF_SHOW(t->name));
    char *to = *at + offset % JT_READ_ALIGN;
    *at += room_for(t->bytes);
    r->reads[r->n_reads++] = (jt_read){.source = source_of(r->apart, part),
                                       .offset = offset,
                                       .bytes = t->bytes,
                                       .to = to};
    jt_gguf_tensor here = *t;
    here.data = to;
    return jt_gguf_place_tensor(r->writer, &here, r->err);
}

static jt_status plan_all(reading *r, char *memory)
{
    for (size_t i = 0; i < jt_gguf_kv_count(r->file); i++)
        JT_TRY(jt_gguf_set_kv(r->writer, NULL, jt_gguf_kv_at(r->file, i), r->err));
    for (size_t i = 0; i < jt_gguf_tensor_count(r->file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(r->file, i);
        if (stays(t))
            JT_TRY(jt_gguf_place_tensor(r->writer, t, r->err));
        else
            JT_TRY(plan_read(r, t, &memory));
    }
    return JT_OK;
}

/* Once past the page cache, or through it, leaving nothing there. */
static jt_status read_all(reading *r, bool direct)
{
    jt_reader *reader;
    jt_reader_options options = {.direct = direct};
    jt_status status = JT_OK;
    JT_TRY(jt_reader_new(&reader, &options, r->err));
    for (size_t i = 0; i < r->n_reads; i++)
        jt_reader_add(reader, &r->reads[i], true);
    for (jt_read *read; (read = jt_reader_next(reader, true));) {
        if (!direct)
            jt_source_forget(read->source, read->offset, read->bytes);
        if (read->error && status == JT_OK)
            status =
                jt_fail(r->err, JT_E_IO, "cannot read the weights at byte %llu: %s",
                        (unsigned long long)read->offset,
                        read->error == JT_READ_SHORT ? "the file ends before"
                                                     : strerror(read->error));
    }
    jt_reader_free(reader);
    return status;
}

static jt_status read_weights(reading *r, char *memory)
{
    JT_TRY(jt_gguf_writer_new_memory(&r->writer, r->err));
    JT_TRY(plan_all(r, memory));
    if (read_all(r, true) == JT_OK) /* not all file systems take direct reads */
        return JT_OK;
    return read_all(r, false);
}

static size_t weights_room(const jt_gguf *file)
{
    size_t room = JT_READ_ALIGN;
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        room += stays(t) ? 0 : room_for(t->bytes);
    }
    return room;
}

/* Put the file in memory in the place of *file. On failure *file stays. */
static jt_status take_in(jt_apart *apart, jt_gguf **file, jt_err *err)
{
    reading r = {.apart = apart, .file = *file, .err = err};
    owned *o = jt_calloc(1, sizeof *o);
    apart->weights = weights_room(*file);
    char *memory = jt_alloc_large(apart->weights);
    r.reads = jt_calloc(jt_gguf_tensor_count(*file), sizeof *r.reads);
    jt_status status = o && memory && r.reads
                           ? read_weights(&r, memory)
                           : jt_fail_memory(err, "reading the weights");
    free(r.reads);
    if (status == JT_OK) {
        jt_gguf *inside;
        *o = (owned){*file, memory};
        status = jt_gguf_writer_open(&inside, r.writer, jt_gguf_path(*file),
                                     (jt_gguf_owner){release, o}, err);
        if (status == JT_OK) {
            inside->laid_out = (*file)->laid_out;
            *file = inside;
            return JT_OK;
        }
    } else {
        jt_gguf_writer_abort(r.writer);
    }
    free(memory);
    free(o);
    return status;
}

/* ---- opening ---- */

static jt_status open_sources(jt_apart *apart, jt_err *err)
{
    size_t n = apart->disk->n_parts;
    apart->sources = jt_calloc(n, sizeof *apart->sources);
    if (!apart->sources)
        return jt_fail_memory(err, "opening a model");
    for (size_t i = 0; i < n; i++) {
        const jt_gguf_part *part = &apart->disk->parts[i];
        JT_TRY(jt_source_open(&apart->sources[i], part->path, err));
        apart->stored.n_sources++;
        if (apart->sources[i].bytes != part->bytes)
            return jt_fail(err, JT_E_IO, "'%s' changed while it was opened",
                           part->path);
    }
    apart->stored.sources = apart->sources;
    return JT_OK;
}

/* The heads, which were read through maps and the page cache, need not stay. */
static void forget(jt_apart *apart)
{
    jt_gguf_forget(apart->disk);
    for (size_t i = 0; i < apart->disk->n_parts; i++) {
        const jt_gguf_part *part = &apart->disk->parts[i];
        uint64_t head = part->bytes;
        for (size_t t = 0; t < part->n_tensors; t++) {
            const unsigned char *data = part->tensors[t].data;
            uint64_t offset = (uint64_t)(data - part->data);
            head = offset < head ? offset : head;
        }
        jt_source_forget(&apart->sources[i], 0, head);
        apart->heads += head;
    }
}

static jt_status open_file(jt_gguf **file, const char *path, jt_err *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "'%s' is a folder; make a GGUF file of it with 'junto convert' "
                       "to run it in less memory than it takes",
                       path);
    return jt_gguf_open(file, path, err);
}

void jt_apart_forget(const jt_apart *apart)
{
    if (!apart)
        return;
    jt_gguf_forget(apart->disk);
    for (int i = 0; i < apart->stored.n_sources; i++)
        jt_source_forget(&apart->sources[i], 0, apart->sources[i].bytes);
}

jt_status jt_apart_open(jt_apart **out, jt_gguf **file, const char *path, jt_err *err)
{
    jt_gguf *opened;
    JT_TRY(open_file(&opened, path, err));
    jt_apart *apart = jt_calloc(1, sizeof *apart);
    if (!apart) {
        jt_gguf_close(opened);
        return jt_fail_memory(err, "opening a model");
    }
    apart->disk = opened;
    jt_status status = open_sources(apart, err);
    if (status == JT_OK)
        status = jt_stack_single_experts(&opened, err);
    if (status == JT_OK)
        status = take_in(apart, &opened, err);
    if (status != JT_OK) {
        jt_fail_within(err, status, "'%s'", path);
        jt_gguf_close(opened);
        jt_apart_free(apart);
        return status;
    }
    forget(apart);
    *file = opened;
    *out = apart;
    return JT_OK;
}

/* ---- finding the experts ---- */

static jt_status locate_part(const jt_apart *apart, const jt_stored_layer *layer, int p,
                             jt_err *err)
{
    const jt_tensor *t = &layer->bank->part[p];
    for (int e = 0; jt_has(t) && e < layer->bank->n_experts; e++) {
        uint64_t offset = 0;
        jt_tensor slice = jt_slice(t, (size_t)e);
        size_t bytes =
            jt_rows(&slice) * jt_dtype_row_bytes(slice.dtype, jt_cols(&slice));
        const jt_gguf_part *part =
            jt_gguf_locate(apart->disk, slice.data, bytes, &offset);
        if (!part)
            return jt_fail(err, JT_E_FORMAT,
                           "expert %d of layer %d does not lie in the file", e,
                           layer->bank->layer);
        layer->extent[e * JT_PARTS + p] = (jt_extent){source_of(apart, part), offset};
    }
    return JT_OK;
}

/* The planes of a part, all experts of a bit after the other. */
static jt_status locate_planes(const jt_apart *apart, jt_stored_layer *layer, int p,
                               jt_err *err)
{
    char name[96];
    int bits = 0, n = layer->bank->n_experts;
    snprintf(name, sizeof name, "blk.%d.%s.weight", layer->bank->layer,
             layer->bank->name[p]);
    const jt_gguf_tensor *stack = jt_gguf_find(apart->disk, name), *plane;
    if (stack)
        JT_TRY(jt_nested_bits(&bits, apart->disk, stack, err));
    for (int b = JT_NESTED_LEAST + 1; b <= bits; b++) {
        JT_TRY(jt_nested_plane(&plane, apart->disk, stack, b, err));
        for (int e = 0; e < n; e++) {
            uint64_t offset = 0;
            size_t bytes = plane->bytes / (size_t)n;
            const char *data = (const char *)plane->data + (size_t)e * bytes;
            const jt_gguf_part *part =
                jt_gguf_locate(apart->disk, data, bytes, &offset);
            if (!part)
                return jt_fail(err, JT_E_FORMAT,
                               "a plane of '%s' does not lie in the file", name);
            layer->plane[(e * JT_PARTS + p) * JT_NESTED_PLANES + layer->n_planes[p]] =
                (jt_extent){source_of(apart, part), offset};
        }
        layer->n_planes[p]++;
    }
    return JT_OK;
}

/* The page in which sums were looked at need not stay. */
static void forget_sums(const jt_apart *apart, const void *sums)
{
    uint64_t offset;
    const jt_gguf_part *part =
        jt_gguf_locate(apart->disk, sums, JT_SINGLE_ALIGNMENT, &offset);
    if (!part)
        return;
    jt_map_forget(sums, JT_SINGLE_ALIGNMENT);
    jt_source_forget(source_of(apart, part), offset, JT_SINGLE_ALIGNMENT);
}

/* The experts of a layer in one piece each, with their checksums. */
static jt_status locate_wholes(const jt_apart *apart, const jt_bank *bank,
                               jt_whole *whole, jt_err *err)
{
    const void *sums;
    JT_TRY(jt_single_sums(&sums, apart->disk, bank->layer, bank->n_experts, err));
    if (!sums)
        return jt_fail(err, JT_E_FORMAT, "the experts of layer %d have no checksums",
                       bank->layer);
    for (int e = 0; e < bank->n_experts; e++) {
        jt_single_span span;
        JT_TRY(jt_single_find(&span, apart->disk, bank->layer, e, err));
        const jt_gguf_part *part =
            jt_gguf_locate(apart->disk, span.data, span.bytes, &whole[e].at.offset);
        whole[e].at.source = source_of(apart, part);
        whole[e].bytes = span.bytes;
        memcpy(&whole[e].sum, (const uint64_t *)sums + e, sizeof whole[e].sum);
    }
    forget_sums(apart, sums);
    return JT_OK;
}

/* The norm before the router of a layer, as jt_transformer_forward applies it. */
static const jt_norm *router_norm(const jt_layer *layer, const jt_family *family)
{
    const jt_norm *norm = layer->norm;
    if (family->beside == JT_BESIDE_NORMED)
        return &norm[JT_BEFORE_ROUTER];
    if (family->beside == JT_BESIDE_EXPERTS)
        return &norm[JT_BEFORE_EXPERTS];
    bool same = family->parallel && norm[JT_BEFORE_FFN].kind == JT_NORM_NONE;
    return &norm[same ? JT_BEFORE_ATTENTION : JT_BEFORE_FFN];
}

/* Layer `layer` of the model, whose experts come after `experts` others. */
static jt_status bind_layer(jt_apart *apart, const jt_model *model,
                            const jt_layer *layer, size_t experts, jt_err *err)
{
    const jt_bank *bank = &layer->mixture.experts;
    jt_stored_layer *to = &apart->layers[apart->stored.n_layers++];
    jt_whole *whole = apart->wholes ? apart->wholes + experts : NULL;
    *to = (jt_stored_layer){.bank = bank,
                            .extent = apart->extents + experts * JT_PARTS,
                            .plane =
                                apart->planes + experts * JT_PARTS * JT_NESTED_PLANES,
                            .whole = whole,
                            .router = &layer->mixture.router,
                            .norm = router_norm(layer, model->family)};
    for (int p = 0; p < JT_PARTS; p++) {
        JT_TRY(locate_part(apart, to, p, err));
        if (jt_has(&bank->part[p]))
            JT_TRY(locate_planes(apart, to, p, err));
    }
    return whole ? locate_wholes(apart, bank, whole, err) : JT_OK;
}

jt_status jt_apart_bind(jt_apart *apart, const jt_model *model, jt_err *err)
{
    size_t layers = 0, experts = 0;
    for (int i = 0; i < model->params.n_layers; i++) {
        const jt_layer *layer = &model->layers[i];
        layers += layer->is_mixture;
        experts += layer->is_mixture ? (size_t)layer->mixture.experts.n_experts : 0;
    }
    if (!layers)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "'%s' has no experts that could stay in the file",
                       jt_gguf_path(model->file));
    bool whole = jt_single_laid_out(apart->disk);
    apart->layers = jt_calloc(layers, sizeof *apart->layers);
    apart->extents = jt_calloc(experts * JT_PARTS, sizeof *apart->extents);
    apart->planes =
        jt_calloc(experts * JT_PARTS * JT_NESTED_PLANES, sizeof *apart->planes);
    apart->wholes = whole ? jt_calloc(experts, sizeof *apart->wholes) : NULL;
    if (!apart->layers || !apart->extents || !apart->planes ||
        (whole && !apart->wholes))
        return jt_fail_memory(err, "opening a model");
    apart->stored.layers = apart->layers;
    experts = 0;
    for (int i = 0; i < model->params.n_layers; i++) {
        const jt_layer *layer = &model->layers[i];
        if (!layer->is_mixture)
            continue;
        JT_TRY(bind_layer(apart, model, layer, experts, err));
        experts += (size_t)layer->mixture.experts.n_experts;
    }
    return JT_OK;
}

void jt_apart_free(jt_apart *apart)
{
    if (!apart)
        return;
    for (int i = 0; i < apart->stored.n_sources; i++)
        jt_source_close(&apart->sources[i]);
    free(apart->sources);
    free(apart->layers);
    free(apart->extents);
    free(apart->planes);
    free(apart->wholes);
    free(apart);
}
