#include "make/singles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "format/gguf_writer.h"
#include "model/single_experts.h"

/* A tensor to be written. */
typedef struct item {
    jt_gguf_tensor t;
    uint64_t *sum;               /* of the expert that it belongs to; NULL: none */
    const jt_gguf_tensor *stack; /* that it is a matrix of; NULL: none */
    int expert;
} item;

struct jt_singles {
    const jt_gguf *file;
    jt_arena arena;
    item *items;
    size_t count, room;
    jt_summing summing;
    uint64_t *sum; /* of the expert that is being written */
};

/* ---- what there is ---- */

static jt_status add(jt_singles *s, const jt_gguf_tensor *t, uint64_t *sum, jt_err *err)
{
    if (!jt_grow((void **)&s->items, &s->room, s->count + 1, sizeof *s->items))
        return jt_fail_memory(err, "laying out experts");
    s->items[s->count++] = (item){.t = *t, .sum = sum};
    return JT_OK;
}

/* A name that stays. */
static jt_status keep_name(jt_singles *s, jt_gguf_tensor *t, const char *name,
                           jt_err *err)
{
    size_t len = strlen(name);
    char *copy = jt_arena_alloc(&s->arena, len + 1, 1);
    if (!copy)
        return jt_fail_memory(err, "laying out experts");
    memcpy(copy, name, len + 1);
    t->name = (jt_str){copy, len};
    return JT_OK;
}

static jt_status add_expert(jt_singles *s, const jt_gguf_tensor *stack,
                            const jt_single *single, uint64_t *sum, jt_err *err)
{
    char name[JT_SINGLE_NAME_BYTES];
    size_t e = (size_t)single->expert;
    jt_dtype dtype = stack->types ? stack->types[e] : stack->dtype;
    size_t bytes =
        (size_t)stack->shape[1] * jt_dtype_row_bytes(dtype, (size_t)stack->shape[2]);
    jt_gguf_tensor t = {.dtype = dtype,
                        .n_dims = 2,
                        .shape = {stack->shape[1], stack->shape[2], 1, 1},
                        .data = stack->pieces ? stack->pieces[e]
                                              : (const char *)stack->data + e * bytes,
                        .bytes = bytes};
    jt_single_name(name, single);
    JT_TRY(keep_name(s, &t, name, err));
    JT_TRY(add(s, &t, sum, err));
    s->items[s->count - 1].stack = stack;
    s->items[s->count - 1].expert = single->expert;
    return JT_OK;
}

static jt_status add_sums(jt_singles *s, int layer, const uint64_t *sums,
                          uint64_t experts, jt_err *err)
{
    char name[JT_SINGLE_NAME_BYTES];
    jt_gguf_tensor t = {.dtype = JT_I64,
                        .n_dims = 1,
                        .shape = {experts, 1, 1, 1},
                        .data = sums,
                        .bytes = experts * sizeof *sums};
    jt_single_sums_name(name, layer);
    JT_TRY(keep_name(s, &t, name, err));
    return add(s, &t, NULL, err);
}

/* The stacks of a layer, in the order of the file. */
typedef struct stacks {
    const jt_gguf_tensor *stack[4];
    jt_single single[4];
    int count;
} stacks;

static bool is_stack(const jt_gguf_tensor *t, jt_single *single)
{
    return t->n_dims == 3 && jt_single_parse_stack(single, t->name);
}

/* That of tensor `first`; false: it is no stack, or not the first of its layer. */
static bool find_layer(const jt_singles *s, size_t first, stacks *l)
{
    jt_single single, other;
    *l = (stacks){.count = 0};
    if (!is_stack(jt_gguf_tensor_at(s->file, first), &single))
        return false;
    for (size_t i = 0; i < jt_gguf_tensor_count(s->file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(s->file, i);
        if (!is_stack(t, &other) || other.layer != single.layer)
            continue;
        if (i < first)
            return false;
        l->stack[l->count] = t;
        l->single[l->count++] = other;
    }
    return l->stack[0] != NULL;
}

static jt_status check_stack(const stacks *l, int i, jt_err *err)
{
    const jt_gguf_tensor *t = l->stack[i];
    if (t->shape[0] != l->stack[0]->shape[0] || t->shape[0] > INT16_MAX)
        return jt_fail(err, JT_E_FORMAT,
                       "tensor '%.*s' has %llu experts, expected %llu",
                       JT_GGUF_SHOW(t->name), (unsigned long long)t->shape[0],
                       (unsigned long long)l->stack[0]->shape[0]);
    if (t->dtype >= JT_N3 && t->dtype <= JT_N6)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "nested experts lie plane by plane; they have no other layout");
    return JT_OK;
}

/* All experts of a layer, and their checksums. */
static jt_status add_layer(jt_singles *s, stacks *l, jt_err *err)
{
    for (int i = 0; i < l->count; i++)
        JT_TRY(check_stack(l, i, err));
    size_t experts = (size_t)l->stack[0]->shape[0];
    uint64_t *sums = jt_arena_alloc(&s->arena, experts, sizeof *sums);
    if (!sums)
        return jt_fail_memory(err, "laying out experts");
    for (size_t e = 0; e < experts; e++) {
        for (int i = 0; i < l->count; i++) {
            l->single[i].expert = (int)e;
            JT_TRY(add_expert(s, l->stack[i], &l->single[i], &sums[e], err));
        }
    }
    return add_sums(s, l->single[0].layer, sums, experts, err);
}

/* First what every token needs, then the experts, layer after layer. */
static jt_status add_all(jt_singles *s, jt_err *err)
{
    jt_single single;
    stacks l;
    size_t count = jt_gguf_tensor_count(s->file);
    for (size_t i = 0; i < count; i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(s->file, i);
        if (!is_stack(t, &single))
            JT_TRY(add(s, t, NULL, err));
    }
    if (s->count == count)
        return jt_fail(err, JT_E_UNSUPPORTED, "there are no experts to lay out");
    for (size_t i = 0; i < count; i++) {
        if (find_layer(s, i, &l))
            JT_TRY(add_layer(s, &l, err));
    }
    return JT_OK;
}

jt_status jt_singles_new(jt_singles **out, const jt_gguf *file, jt_err *err)
{
    jt_singles *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "laying out experts");
    s->file = file;
    jt_status status = jt_summing_init(&s->summing, err);
    if (status == JT_OK)
        status = add_all(s, err);
    if (status != JT_OK) {
        jt_singles_free(s);
        return jt_fail_within(err, status, "'%s'", jt_gguf_path(file));
    }
    *out = s;
    return JT_OK;
}

void jt_singles_free(jt_singles *s)
{
    if (!s)
        return;
    jt_summing_free(&s->summing);
    jt_arena_free(&s->arena);
    free(s->items);
    free(s);
}

size_t jt_singles_count(const jt_singles *s)
{
    return s->count;
}

const jt_gguf_tensor *jt_singles_at(const jt_singles *s, size_t i)
{
    return &s->items[i].t;
}

const jt_gguf_tensor *jt_singles_stack(const jt_singles *s, size_t i, int *expert)
{
    *expert = s->items[i].expert;
    return s->items[i].stack;
}

/* ---- writing ---- */

jt_status jt_singles_set_keys(const jt_singles *s, jt_gguf_writer *w, jt_err *err)
{
    size_t count = jt_gguf_tensor_count(s->file);
    uint32_t alignment = 0;
    jt_str *names = jt_alloc(count, sizeof *names);
    if (!names)
        return jt_fail_memory(err, "laying out experts");
    for (size_t i = 0; i < count; i++)
        names[i] = jt_gguf_tensor_at(s->file, i)->name;
    jt_gguf_get_u32(s->file, "general.alignment", &alignment);
    jt_status status = jt_gguf_set_strs(w, JT_LAYOUT_TENSORS, names, count, err);
    free(names);
    JT_TRY(status);
    JT_TRY(jt_gguf_set_str(w, JT_LAYOUT_KEY, JT_LAYOUT_EXPERTS, err));
    JT_TRY(jt_gguf_set_u32(w, JT_LAYOUT_ALIGNMENT, alignment, err));
    return jt_gguf_set_u32(w, "general.alignment", JT_SINGLE_ALIGNMENT, err);
}

static void see(void *user, const void *data, size_t bytes)
{
    jt_singles *s = user;
    jt_summing_add(&s->summing, data, bytes);
}

void jt_singles_begin(jt_singles *s, jt_gguf_writer *w, size_t i)
{
    uint64_t *next = s->items[i].sum;
    if (next == s->sum)
        return;
    if (s->sum)
        *s->sum = jt_summing_end(&s->summing);
    s->sum = next;
    jt_summing_start(&s->summing);
    jt_gguf_writer_tap(w, next ? (jt_gguf_tap){see, s} : (jt_gguf_tap){0});
}

/* ---- checking ---- */

/* The sum of bytes that lie somewhere. */
static uint64_t sum_of(jt_summing *s, const jt_single_span *span)
{
    jt_summing_start(s);
    jt_summing_add(s, span->data, span->bytes);
    return jt_summing_end(s);
}

static jt_status check_layer(jt_summing *s, const jt_gguf *file, int layer, int experts,
                             jt_err *err)
{
    const void *sums;
    JT_TRY(jt_single_sums(&sums, file, layer, experts, err));
    for (int e = 0; e < experts; e++) {
        jt_single_span span;
        uint64_t expected;
        JT_TRY(jt_single_find(&span, file, layer, e, err));
        memcpy(&expected, (const uint64_t *)sums + e, sizeof expected);
        if (sum_of(s, &span) != expected)
            return jt_fail(err, JT_E_IO,
                           "expert %d of layer %d is damaged: its checksum is another",
                           e, layer);
    }
    return JT_OK;
}

static jt_status check_all(jt_summing *s, const jt_gguf *file,
                           const jt_progress *progress, jt_err *err)
{
    size_t count = jt_gguf_tensor_count(file);
    for (size_t i = 0; i < count; i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        int layer = jt_single_sums_layer(t->name);
        if (layer >= 0 && t->shape[0] <= INT16_MAX)
            JT_TRY(check_layer(s, file, layer, (int)t->shape[0], err));
        JT_TRY(jt_progress_report(progress, "checking", i + 1, count, err));
    }
    return JT_OK;
}

jt_status jt_singles_check(const char *path, const jt_progress *progress, jt_err *err)
{
    jt_gguf *file;
    jt_summing summing;
    JT_TRY(jt_gguf_open(&file, path, err));
    jt_status status = jt_summing_init(&summing, err);
    if (status == JT_OK && jt_single_laid_out(file))
        status = check_all(&summing, file, progress, err);
    jt_summing_free(&summing);
    jt_gguf_close(file);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "'%s'", path);
}
