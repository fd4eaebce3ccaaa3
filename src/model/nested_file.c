#include "model/nested_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/gguf_file.h"
#include "kernels/nested.h"

enum { NAME_BYTES = 96 };
static const char ending[] = "_exps.weight", infix[] = "_exps.plane";

/* ---- which stacks have planes ---- */

bool jt_nested_is_plane(jt_str name)
{
    return memmem(name.data, name.len, infix, sizeof infix - 1) != NULL;
}

static bool is_stack(const jt_gguf_tensor *t)
{
    size_t n = sizeof ending - 1;
    return t->name.len > n && t->name.len < NAME_BYTES - 8 &&
           memcmp(t->name.data + t->name.len - n, ending, n) == 0;
}

jt_status jt_nested_plane(const jt_gguf_tensor **out, const jt_gguf *file,
                          const jt_gguf_tensor *t, int bit, jt_err *err)
{
    char name[NAME_BYTES];
    *out = NULL;
    if (!is_stack(t))
        return JT_OK;
    int stem = (int)(t->name.len - (sizeof ending - 1));
    snprintf(name, sizeof name, "%.*s%s%d", stem, t->name.data, infix, bit);
    const jt_gguf_tensor *p = jt_gguf_find(file, name);
    if (!p)
        return JT_OK;
    if (t->dtype != JT_Q2_K || t->n_dims != 3 || !t->data || p->dtype != JT_I8 ||
        p->n_dims != 3 || p->shape[0] != t->shape[0] || p->shape[1] != t->shape[1] ||
        p->shape[2] != jt_nested_plane_bytes((size_t)t->shape[2]))
        return jt_fail(err, JT_E_FORMAT, "tensor '%s' does not fit '%.*s'", name,
                       JT_GGUF_SHOW(t->name));
    *out = p;
    return JT_OK;
}

jt_status jt_nested_bits(int *bits, const jt_gguf *file, const jt_gguf_tensor *t,
                         jt_err *err)
{
    const jt_gguf_tensor *plane;
    int found = JT_NESTED_LEAST;
    do {
        plane = NULL;
        if (found < JT_NESTED_MOST)
            JT_TRY(jt_nested_plane(&plane, file, t, found + 1, err));
        found += plane != NULL;
    } while (plane);
    *bits = found > JT_NESTED_LEAST ? found : 0;
    return JT_OK;
}

/* ---- weaving ---- */

typedef struct weaving {
    jt_gguf *file; /* as it was opened */
    jt_arena arena;
    jt_gguf_writer *writer;
    jt_err *err;
} weaving;

/* The stack with all its bits, in the arena. */
static jt_status weave(weaving *w, const jt_gguf_tensor *t, int bits)
{
    const uint8_t *plane[JT_NESTED_PLANES];
    jt_gguf_tensor whole = *t;
    size_t blocks = t->bytes / sizeof(jt_q2_k);
    for (int b = JT_NESTED_LEAST; b < bits; b++) {
        const jt_gguf_tensor *p;
        JT_TRY(jt_nested_plane(&p, w->file, t, b + 1, w->err));
        if (!p)
            return jt_fail(w->err, JT_E_FORMAT, "tensor '%.*s' lacks its bit %d",
                           JT_GGUF_SHOW(t->name), b + 1);
        plane[b - JT_NESTED_LEAST] = p->data;
    }
    whole.dtype = jt_nested_dtype(bits);
    whole.bytes = blocks * jt_dtype_block_bytes(whole.dtype);
    void *data = jt_arena_alloc(&w->arena, 1, whole.bytes);
    if (!data)
        return jt_fail_memory(w->err, "joining the bits of experts");
    memcpy(data, t->data, t->bytes);
    jt_nested_weave(data, blocks, JT_NESTED_LEAST, bits, plane);
    whole.data = data;
    return jt_gguf_place_tensor(w->writer, &whole, w->err);
}

static jt_status place_all(weaving *w)
{
    for (size_t i = 0; i < jt_gguf_kv_count(w->file); i++)
        JT_TRY(jt_gguf_set_kv(w->writer, NULL, jt_gguf_kv_at(w->file, i), w->err));
    for (size_t i = 0; i < jt_gguf_tensor_count(w->file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(w->file, i);
        int bits;
        JT_TRY(jt_nested_bits(&bits, w->file, t, w->err));
        if (bits)
            JT_TRY(weave(w, t, bits));
        else if (!jt_nested_is_plane(t->name))
            JT_TRY(jt_gguf_place_tensor(w->writer, t, w->err));
    }
    return JT_OK;
}

static void release(void *owner)
{
    weaving *w = owner;
    jt_gguf_close(w->file);
    jt_arena_free(&w->arena);
    free(w);
}

static bool has_planes(const jt_gguf *file)
{
    bool found = false;
    for (size_t i = 0; i < jt_gguf_tensor_count(file) && !found; i++)
        found = jt_nested_is_plane(jt_gguf_tensor_at(file, i)->name);
    return found;
}

jt_status jt_weave_experts(jt_gguf **file, jt_err *err)
{
    if (!has_planes(*file))
        return JT_OK;
    weaving *w = jt_calloc(1, sizeof *w);
    if (!w)
        return jt_fail_memory(err, "joining the bits of experts");
    *w = (weaving){.file = *file, .err = err};
    jt_status status = jt_gguf_writer_new_memory(&w->writer, err);
    if (status == JT_OK) {
        status = place_all(w);
        if (status == JT_OK)
            status = jt_gguf_writer_open(file, w->writer, jt_gguf_path(w->file),
                                         (jt_gguf_owner){release, w}, err);
        else
            jt_gguf_writer_abort(w->writer);
    }
    if (status != JT_OK) {
        jt_fail_within(err, status, "'%s'", jt_gguf_path(w->file));
        jt_arena_free(&w->arena);
        free(w);
    }
    return status;
}
