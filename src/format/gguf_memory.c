/* Files that are never written: keys are encoded and read back by the parser, so that
 * they are what a file would hold; tensors stay where they were placed. */
#include "format/gguf_writer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* The tensors, with names that live as long as the file. */
static jt_status take_tensors(jt_gguf *file, const jt_gguf_writer *w, jt_err *err)
{
    file->tensors = jt_arena_alloc(&file->arena, w->n_tensors, sizeof *file->tensors);
    if (!file->tensors)
        return jt_fail_memory(err, "opening a file in memory");
    for (size_t i = 0; i < w->n_tensors; i++) {
        jt_gguf_tensor *t = &file->tensors[i];
        *t = w->tensors[i].pub;
        if (!t->data && !t->pieces)
            return jt_fail(err, JT_E_ARG, "tensor '%s' has no place",
                           w->tensors[i].name);
        for (int d = t->n_dims; d < JT_MAX_DIMS; d++)
            t->shape[d] = 1;
        char *name = jt_arena_alloc(&file->arena, t->name.len + 1, 1);
        if (!name)
            return jt_fail_memory(err, "opening a file in memory");
        memcpy(name, t->name.data, t->name.len + 1);
        t->name.data = name;
    }
    file->n_tensors = w->n_tensors;
    return jt_gguf_index(file, err);
}

static jt_status take_all(jt_gguf *file, jt_gguf_writer *w, jt_err *err)
{
    JT_TRY(jt_gguf_writer_head(w, 0, err));
    jt_gguf_part *part = &file->parts[0];
    part->data = file->head = w->head;
    part->bytes = w->head_bytes;
    w->head = NULL;
    file->bytes = part->bytes + w->data_bytes;
    JT_TRY(jt_gguf_parse(part, &file->arena, err));
    return take_tensors(file, w, err);
}

jt_status jt_gguf_writer_open(jt_gguf **out, jt_gguf_writer *w, const char *path,
                              jt_gguf_owner owner, jt_err *err)
{
    jt_gguf *file = NULL;
    jt_status status = jt_gguf_new(&file, path, err);
    if (status == JT_OK)
        status = take_all(file, w, err);
    jt_gguf_writer_abort(w);
    if (status != JT_OK) {
        jt_gguf_close(file);
        return status;
    }
    file->owner = owner;
    *out = file;
    return JT_OK;
}
