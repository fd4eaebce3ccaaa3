/* Files of the first mixtures have a tensor per expert, "blk.3.ffn_up.7.weight"; those
 * of a layer are one tensor in pieces to everything else. */
#include "model/old_experts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/gguf_file.h"

enum { NAME_BYTES = 96 };

static const char *const parts[] = {"gate", "up", "down"};

typedef struct stacking {
    jt_gguf *file;  /* the old one */
    jt_arena arena; /* lists of pieces */
    jt_gguf_writer *writer;
    jt_err *err;
} stacking;

/* "blk.3.ffn_up.7.weight" into layer, part and expert. */
static bool parse_name(jt_str name, int *layer, const char **part, int *expert)
{
    char text[NAME_BYTES], known[NAME_BYTES], word[8];
    snprintf(text, sizeof text, "%.*s", (int)name.len, name.data);
    if (sscanf(text, "blk.%4d.ffn_%4[a-z].%5d.", layer, word, expert) != 3)
        return false;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *part = parts[i];
        snprintf(known, sizeof known, "blk.%d.ffn_%s.%d.weight", *layer, *part,
                 *expert);
        if (strcmp(text, known) == 0)
            return true;
    }
    return false;
}

static const jt_gguf_tensor *expert_at(const stacking *s, int layer, const char *part,
                                       int64_t expert)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "blk.%d.ffn_%s.%d.weight", layer, part, (int)expert);
    return jt_gguf_find(s->file, name);
}

/* The experts of a layer whose first is `first`. */
static jt_status place_stack(stacking *s, const jt_gguf_tensor *first, int layer,
                             const char *part, int64_t experts)
{
    char name[NAME_BYTES];
    const void **pieces = jt_arena_alloc(&s->arena, (size_t)experts, sizeof *pieces);
    if (!pieces)
        return jt_fail_memory(s->err, "stacking experts");
    for (int64_t e = 0; e < experts; e++) {
        const jt_gguf_tensor *t = expert_at(s, layer, part, e);
        if (!t || t->n_dims != 2 || t->dtype != first->dtype ||
            memcmp(t->shape, first->shape, sizeof t->shape) != 0)
            return jt_fail(s->err, JT_E_FORMAT,
                           "tensor 'blk.%d.ffn_%s.%d.weight' is missing, or unlike "
                           "that of expert 0",
                           layer, part, (int)e);
        pieces[e] = t->data;
    }
    snprintf(name, sizeof name, "blk.%d.ffn_%s_exps.weight", layer, part);
    jt_gguf_tensor stack = {
        .name = {name, strlen(name)},
        .dtype = first->dtype,
        .n_dims = 3,
        .shape = {(uint64_t)experts, first->shape[0], first->shape[1]},
        .pieces = pieces};
    return jt_gguf_place_tensor(s->writer, &stack, s->err);
}

static jt_status place_all(stacking *s, int64_t experts)
{
    for (size_t i = 0; i < jt_gguf_kv_count(s->file); i++)
        JT_TRY(jt_gguf_set_kv(s->writer, NULL, jt_gguf_kv_at(s->file, i), s->err));
    for (size_t i = 0; i < jt_gguf_tensor_count(s->file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(s->file, i);
        int layer, expert;
        const char *part;
        if (!parse_name(t->name, &layer, &part, &expert))
            JT_TRY(jt_gguf_place_tensor(s->writer, t, s->err));
        else if (expert == 0)
            JT_TRY(place_stack(s, t, layer, part, experts));
        else if (expert >= experts)
            return jt_fail(s->err, JT_E_FORMAT, "tensor '%.*s' is one of %d experts",
                           JT_GGUF_SHOW(t->name), (int)experts);
    }
    return JT_OK;
}

static void release(void *owner)
{
    stacking *s = owner;
    jt_gguf_close(s->file);
    jt_arena_free(&s->arena);
    free(s);
}

/* How many experts the file states, when it has them one by one; 0 otherwise. */
static int64_t old_experts(const jt_gguf *file)
{
    jt_str arch;
    char key[NAME_BYTES];
    int64_t experts = 0;
    if (!jt_gguf_find(file, "blk.0.ffn_gate.0.weight") ||
        !jt_gguf_get_str(file, "general.architecture", &arch))
        return 0;
    snprintf(key, sizeof key, "%.*s.expert_count", (int)arch.len, arch.data);
    jt_gguf_get_i64(file, key, &experts);
    return experts > 0 && experts <= INT16_MAX ? experts : 0;
}

jt_status jt_stack_old_experts(jt_gguf **file, jt_err *err)
{
    int64_t experts = old_experts(*file);
    if (!experts)
        return JT_OK;
    stacking *s = jt_calloc(1, sizeof *s);
    if (!s)
        return jt_fail_memory(err, "stacking experts");
    *s = (stacking){.file = *file, .err = err};
    jt_status status = jt_gguf_writer_new_memory(&s->writer, err);
    if (status == JT_OK) {
        status = place_all(s, experts);
        if (status == JT_OK)
            status = jt_gguf_writer_open(file, s->writer, jt_gguf_path(s->file),
                                         (jt_gguf_owner){release, s}, err);
        else
            jt_gguf_writer_abort(s->writer);
    }
    if (status != JT_OK) {
        jt_fail_within(err, status, "'%s'", jt_gguf_path(s->file));
        jt_arena_free(&s->arena);
        free(s);
    }
    return status;
}
