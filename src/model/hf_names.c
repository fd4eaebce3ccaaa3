/* Names of tensors: those of a folder as rows have them, and what they say. */
#include <stdio.h>
#include <string.h>

#include "format/gguf_file.h"
#include "model/hf.h"

enum { NAME_BYTES = JT_HF_NAME_BYTES };

bool jt_hf_name(char *out, size_t room, const char *pattern, int layer, int expert)
{
    size_t used = 0;
    for (; *pattern && used + 1 < room; pattern++) {
        if (*pattern == '%' || *pattern == '#') {
            int n = snprintf(out + used, room - used, "%d",
                             *pattern == '%' ? layer : expert);
            used += (size_t)n;
        } else {
            out[used++] = *pattern;
        }
    }
    if (used >= room)
        return false;
    out[used] = '\0';
    return *pattern == '\0';
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t len = strlen(name), tail = strlen(suffix);
    return len >= tail && strcmp(name + len - tail, suffix) == 0;
}

bool jt_hf_wants_f32(const char *gguf, int n_dims)
{
    static const char *const plain[] = {
        "_norm.weight",         ".ffn_gate_inp.weight",  ".ffn_gate_inp_shexp.weight",
        ".ssm_conv1d.weight",   ".ssm_conv1d_q.weight",  ".ssm_conv1d_k.weight",
        ".ssm_conv1d_v.weight", ".shortconv.conv.weight"};
    if (n_dims <= 1 || !ends_with(gguf, ".weight"))
        return true;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (ends_with(gguf, plain[i]))
            return true;
    }
    return false;
}

static jt_status cut(jt_hf_job *job, jt_str *name, const char *part)
{
    const char *at = memmem(name->data, name->len, part, strlen(part));
    if (!at)
        return JT_OK;
    char *copy = jt_arena_alloc(&job->arena, name->len, 1);
    if (!copy)
        return jt_fail_memory(job->err, "reading tensor names");
    size_t before = (size_t)(at - name->data), after = before + strlen(part);
    memcpy(copy, name->data, before);
    memcpy(copy + before, name->data + after, name->len - after);
    *name = (jt_str){copy, name->len - strlen(part)};
    return JT_OK;
}

/* The name as rows have it: without "language_model.", without the "_packed" that
 * compressed-tensors gives weights of four bits, and that of the first part of several
 * for the whole. */
static jt_status row_name(jt_hf_job *job, jt_str name, jt_str *out)
{
    *out = name;
    JT_TRY(cut(job, out, "language_model."));
    JT_TRY(cut(job, out, ".TP-000"));
    return cut(job, out, "_packed");
}

jt_status jt_hf_index_names(jt_hf_job *job)
{
    size_t count = jt_safetensors_count(job->source);
    job->used = jt_calloc(count, sizeof *job->used);
    if (!job->used)
        return jt_fail_memory(job->err, "reading tensor names");
    for (size_t i = 0; i < count; i++) {
        jt_str name;
        JT_TRY(row_name(job, jt_safetensors_at(job->source, i)->name, &name));
        if (jt_names_find(&job->names, name) != JT_NAMES_NONE)
            return jt_fail(job->err, JT_E_FORMAT, "tensor '%.*s' appears twice",
                           JT_GGUF_SHOW(name));
        if (!jt_names_add(&job->names, name, i))
            return jt_fail_memory(job->err, "reading tensor names");
    }
    return JT_OK;
}

const jt_safetensor *jt_hf_find(jt_hf_job *job, const char *name)
{
    size_t i = jt_names_find(&job->names, (jt_str){name, strlen(name)});
    if (i == JT_NAMES_NONE)
        return NULL;
    job->used[i] = true;
    return jt_safetensors_at(job->source, i);
}

const jt_safetensor *jt_hf_source(jt_hf_job *job, const char *name)
{
    char full[NAME_BYTES];
    if (!jt_hf_name(full, sizeof full, name, job->layer, 0))
        return NULL;
    return jt_hf_find(job, full);
}
