#include "model/single_experts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/gguf_file.h"

/* ---- names ---- */

static const char *const parts[] = {"gate", "up", "gate_up", "down"};
enum { PARTS = sizeof parts / sizeof *parts };

static bool is(jt_str name, const char *text)
{
    return name.len == strlen(text) && memcmp(name.data, text, name.len) == 0;
}

/* The two numbers in "blk.3.ffn_up.7.weight"; how many there are. */
static int numbers_in(jt_str name, int *layer, int *expert)
{
    char text[JT_SINGLE_NAME_BYTES];
    snprintf(text, sizeof text, "%.*s", (int)JT_GGUF_SHOW(name));
    return sscanf(text, "blk.%4d.ffn_%*[a-z_].%5d.", layer, expert);
}

void jt_single_name(char name[JT_SINGLE_NAME_BYTES], const jt_single *single)
{
    snprintf(name, JT_SINGLE_NAME_BYTES, "blk.%d.ffn_%s.%d.weight", single->layer,
             single->part, single->expert);
}

static void stack_name(char name[JT_SINGLE_NAME_BYTES], const jt_single *single)
{
    snprintf(name, JT_SINGLE_NAME_BYTES, "blk.%d.ffn_%s_exps.weight", single->layer,
             single->part);
}

void jt_single_sums_name(char name[JT_SINGLE_NAME_BYTES], int layer)
{
    snprintf(name, JT_SINGLE_NAME_BYTES, "blk.%d.ffn_exps.xxh3", layer);
}

bool jt_single_parse(jt_single *out, jt_str name)
{
    char known[JT_SINGLE_NAME_BYTES];
    if (numbers_in(name, &out->layer, &out->expert) != 2)
        return false;
    for (int i = 0; i < PARTS; i++) {
        out->part = parts[i];
        jt_single_name(known, out);
        if (is(name, known))
            return true;
    }
    return false;
}

bool jt_single_parse_stack(jt_single *out, jt_str name)
{
    char known[JT_SINGLE_NAME_BYTES];
    if (numbers_in(name, &out->layer, &out->expert) != 1)
        return false;
    for (int i = 0; i < PARTS; i++) {
        out->part = parts[i];
        stack_name(known, out);
        if (is(name, known))
            return true;
    }
    return false;
}

int jt_single_sums_layer(jt_str name)
{
    char known[JT_SINGLE_NAME_BYTES];
    int layer, none;
    if (numbers_in(name, &layer, &none) != 1)
        return -1;
    jt_single_sums_name(known, layer);
    return is(name, known) ? layer : -1;
}

/* ---- what a file says ---- */

bool jt_single_laid_out(const jt_gguf *file)
{
    jt_str layout;
    return jt_gguf_get_str(file, JT_LAYOUT_KEY, &layout) &&
           is(layout, JT_LAYOUT_EXPERTS);
}

jt_status jt_single_sums(const void **sums, const jt_gguf *file, int layer, int experts,
                         jt_err *err)
{
    char name[JT_SINGLE_NAME_BYTES];
    jt_single_sums_name(name, layer);
    const jt_gguf_tensor *t = jt_gguf_find(file, name);
    if (t && (t->dtype != JT_I64 || t->n_dims != 1 || !t->data ||
              t->shape[0] != (uint64_t)experts))
        return jt_fail(err, JT_E_FORMAT,
                       "tensor '%s' is not a checksum of each of %d "
                       "experts",
                       name, experts);
    *sums = t ? t->data : NULL;
    return JT_OK;
}

/* The next multiple of the alignment. */
static size_t padded(size_t bytes)
{
    size_t mask = JT_SINGLE_ALIGNMENT - 1;
    return (bytes + mask) & ~mask;
}

jt_status jt_single_find(jt_single_span *out, const jt_gguf *file, int layer,
                         int expert, jt_err *err)
{
    uintptr_t start = UINTPTR_MAX, end = 0;
    size_t bytes = 0;
    uint64_t offset = 1;
    for (int i = 0; i < PARTS; i++) {
        char name[JT_SINGLE_NAME_BYTES];
        jt_single_name(name, &(jt_single){layer, expert, parts[i]});
        const jt_gguf_tensor *t = jt_gguf_find(file, name);
        if (!t || !t->data)
            continue;
        uintptr_t at = (uintptr_t)t->data;
        start = at < start ? at : start;
        end = at + t->bytes > end ? at + t->bytes : end;
        bytes += padded(t->bytes);
    }
    *out = (jt_single_span){(const void *)start, bytes};
    if (!bytes || padded(end - start) != bytes ||
        !jt_gguf_locate(file, out->data, bytes, &offset) ||
        offset % JT_SINGLE_ALIGNMENT)
        return jt_fail(err, JT_E_FORMAT,
                       "expert %d of layer %d does not lie in one piece", expert,
                       layer);
    return JT_OK;
}

/* ---- stacking ---- */

typedef struct stacking {
    jt_gguf *file;  /* with single experts */
    jt_arena arena; /* lists of pieces */
    jt_gguf_writer *writer;
    size_t taken; /* tensors of the file that have found their place */
    jt_err *err;
} stacking;

static const jt_gguf_tensor *find(const stacking *s, const jt_single *single)
{
    char name[JT_SINGLE_NAME_BYTES];
    jt_single_name(name, single);
    return jt_gguf_find(s->file, name);
}

/* Experts of a stack, which are numbered from 0. */
static size_t count_experts(const stacking *s, jt_single single)
{
    for (single.expert = 0; find(s, &single); single.expert++) {
    }
    return (size_t)single.expert;
}

static jt_status place_stack(stacking *s, jt_single single)
{
    char name[JT_SINGLE_NAME_BYTES];
    size_t experts = count_experts(s, single);
    const void **pieces = jt_arena_alloc(&s->arena, experts + 1, sizeof *pieces);
    jt_dtype *types = jt_arena_alloc(&s->arena, experts + 1, sizeof *types);
    bool alike = true;
    single.expert = 0;
    const jt_gguf_tensor *first = find(s, &single);
    stack_name(name, &single);
    if (!pieces || !types)
        return jt_fail_memory(s->err, "stacking experts");
    if (!first)
        return jt_fail(s->err, JT_E_FORMAT, "tensor '%s' has no experts", name);
    for (size_t e = 0; e < experts; e++) {
        single.expert = (int)e;
        const jt_gguf_tensor *t = find(s, &single);
        if (t->n_dims != 2 || !jt_dtype_is_weight(t->dtype) ||
            memcmp(t->shape, first->shape, sizeof t->shape) != 0)
            return jt_fail(s->err, JT_E_FORMAT,
                           "tensor '%.*s' is unlike that of expert 0",
                           JT_GGUF_SHOW(t->name));
        pieces[e] = t->data;
        types[e] = t->dtype;
        alike = alike && t->dtype == first->dtype;
    }
    s->taken += experts;
    jt_gguf_tensor stack = {.name = {name, strlen(name)},
                            .dtype = first->dtype,
                            .n_dims = 3,
                            .shape = {experts, first->shape[0], first->shape[1]},
                            .pieces = pieces,
                            .types = alike ? NULL : types};
    return jt_gguf_place_tensor(s->writer, &stack, s->err);
}

static jt_status place_plain(stacking *s, const jt_gguf_tensor *t)
{
    s->taken++;
    return jt_gguf_place_tensor(s->writer, t, s->err);
}

/* In the order of the file. */
static jt_status place_as_found(stacking *s)
{
    for (size_t i = 0; i < jt_gguf_tensor_count(s->file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(s->file, i);
        jt_single single;
        if (!jt_single_parse(&single, t->name))
            JT_TRY(place_plain(s, t));
        else if (single.expert == 0)
            JT_TRY(place_stack(s, single));
    }
    return JT_OK;
}

/* In the order of the plain file. */
static jt_status place_as_listed(stacking *s, const jt_gguf_kv *list)
{
    for (uint64_t i = 0; i < list->count; i++) {
        jt_str name = {0};
        jt_single single;
        if (!jt_gguf_item_str(list, i, &name))
            return jt_fail(s->err, JT_E_FORMAT,
                           "key '" JT_LAYOUT_TENSORS "' is not a list of names");
        size_t at = jt_names_find(&s->file->names, name);
        if (at != JT_NAMES_NONE)
            JT_TRY(place_plain(s, jt_gguf_tensor_at(s->file, at)));
        else if (jt_single_parse_stack(&single, name))
            JT_TRY(place_stack(s, single));
        else
            return jt_fail(s->err, JT_E_FORMAT, "tensor '%.*s' is missing",
                           JT_GGUF_SHOW(name));
    }
    return JT_OK;
}

static jt_status check_all_taken(const stacking *s)
{
    size_t sums = 0;
    for (size_t i = 0; i < jt_gguf_tensor_count(s->file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(s->file, i);
        jt_single single;
        sums += jt_single_sums_layer(t->name) >= 0;
        if (!jt_single_parse(&single, t->name) || single.expert == 0)
            continue;
        single.expert--;
        if (!find(s, &single))
            return jt_fail(s->err, JT_E_FORMAT,
                           "tensor 'blk.%d.ffn_%s.%d.weight' is missing", single.layer,
                           single.part, single.expert);
    }
    if (s->taken + sums != jt_gguf_tensor_count(s->file))
        return jt_fail(s->err, JT_E_FORMAT,
                       "key '" JT_LAYOUT_TENSORS
                       "' does not list the tensors of the file");
    return JT_OK;
}

/* ---- keys ---- */

/* The alignment that the plain file states. */
static jt_status plain_alignment(stacking *s)
{
    uint32_t alignment = 0;
    jt_gguf_get_u32(s->file, JT_LAYOUT_ALIGNMENT, &alignment);
    if (alignment & (alignment - 1))
        return jt_fail(s->err, JT_E_FORMAT,
                       "key '" JT_LAYOUT_ALIGNMENT "' is no power of two");
    return alignment
               ? jt_gguf_set_u32(s->writer, "general.alignment", alignment, s->err)
               : JT_OK;
}

static jt_status copy_keys(stacking *s, bool laid_out)
{
    static const char ours[] = JT_LAYOUT_KEY;
    for (size_t i = 0; i < jt_gguf_kv_count(s->file); i++) {
        const jt_gguf_kv *kv = jt_gguf_kv_at(s->file, i);
        if (laid_out && is(kv->key, "general.alignment"))
            JT_TRY(plain_alignment(s));
        else if (!laid_out || kv->key.len < strlen(ours) ||
                 memcmp(kv->key.data, ours, strlen(ours)) != 0)
            JT_TRY(jt_gguf_set_kv(s->writer, NULL, kv, s->err));
    }
    return JT_OK;
}

/* ---- the whole ---- */

static jt_status stack_all(stacking *s)
{
    const jt_gguf_kv *list = jt_single_laid_out(s->file)
                                 ? jt_gguf_kv_find(s->file, JT_LAYOUT_TENSORS)
                                 : NULL;
    JT_TRY(copy_keys(s, list != NULL));
    JT_TRY(list ? place_as_listed(s, list) : place_as_found(s));
    return check_all_taken(s);
}

static void release(void *owner)
{
    stacking *s = owner;
    jt_gguf_close(s->file);
    jt_arena_free(&s->arena);
    free(s);
}

static bool has_singles(const jt_gguf *file)
{
    jt_single single;
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        if (jt_single_parse(&single, jt_gguf_tensor_at(file, i)->name))
            return true;
    }
    return false;
}

jt_status jt_stack_single_experts(jt_gguf **file, jt_err *err)
{
    if (!has_singles(*file))
        return JT_OK;
    stacking *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "stacking experts");
    *s = (stacking){.file = *file, .err = err};
    jt_status status = jt_gguf_writer_new_memory(&s->writer, err);
    if (status == JT_OK) {
        status = stack_all(s);
        if (status == JT_OK)
            status = jt_gguf_writer_open(file, s->writer, jt_gguf_path(s->file),
                                         (jt_gguf_owner){release, s}, err);
        else
            jt_gguf_writer_abort(s->writer);
    }
    if (status == JT_OK)
        (*file)->laid_out = jt_single_laid_out(s->file);
    if (status != JT_OK) {
        jt_fail_within(err, status, "'%s'", jt_gguf_path(s->file));
        jt_arena_free(&s->arena);
        free(s);
    }
    return status;
}
