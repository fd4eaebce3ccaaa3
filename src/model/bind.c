#include "model/bind.h"

#include <stdio.h>
#include <string.h>

uint32_t jt_weight_number(const jt_gguf *file, const jt_gguf_tensor *t)
{
    size_t count = jt_gguf_tensor_count(file);
    return (uint32_t)(t ? (size_t)(t - jt_gguf_tensor_at(file, 0)) : count) + 1;
}

const jt_gguf_tensor *jt_bind_find(jt_binder *b, const char *suffix)
{
    if (b->layer < 0)
        snprintf(b->name, sizeof b->name, "%s", suffix);
    else
        snprintf(b->name, sizeof b->name, "blk.%d.%s", b->layer, suffix);
    return jt_gguf_find(b->file, b->name);
}

/* "[8, 32, 64]" */
static void shape_text(char *text, size_t room, int n_dims, const size_t *shape)
{
    size_t used = 0;
    for (int i = 0; i < n_dims && used < room; i++) {
        int n = snprintf(text + used, room - used, "%s%zu", i ? ", " : "[", shape[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < room)
        snprintf(text + used, room - used, "]");
}

static jt_status fail_shape(jt_binder *b, const jt_gguf_tensor *t, int n_dims,
                            const size_t *shape)
{
    char has[96], wants[96];
    size_t found[JT_MAX_DIMS];
    for (int i = 0; i < t->n_dims; i++)
        found[i] = (size_t)t->shape[i];
    shape_text(has, sizeof has, t->n_dims, found);
    shape_text(wants, sizeof wants, n_dims, shape);
    return jt_fail(b->err, JT_E_FORMAT, "tensor '%s' has shape %s, expected %s",
                   b->name, has, wants);
}

/* "NAME.scale" beside a matrix "NAME.weight", as NVFP4 files have it: one F32 factor,
 * or one for each matrix of a stack. ("NAME.input_scale" is for those who quantise what
 * reaches the matrix.) */
static jt_status bind_factor(jt_binder *b, jt_tensor *out)
{
    static const char ending[] = ".weight";
    char weight[sizeof b->name];
    size_t len = strlen(b->name), cut = sizeof ending - 1;
    if (len <= cut || strcmp(b->name + len - cut, ending) != 0)
        return JT_OK;
    if (strstr(b->name, "ffn_gate_inp.")) /* a router's is a norm (Gemma 4) */
        return JT_OK;
    memcpy(weight, b->name, sizeof weight);
    snprintf(b->name, sizeof b->name, "%.*s.scale", (int)(len - cut), weight);
    const jt_gguf_tensor *t = jt_gguf_find(b->file, b->name);
    size_t count = out->n_dims == 3 ? out->shape[0] : 1;
    if (t && (t->n_dims != 1 || t->shape[0] != count))
        return fail_shape(b, t, 1, &count);
    if (t && t->dtype != JT_F32)
        return jt_fail(b->err, JT_E_FORMAT, "tensor '%s' has type %s, expected F32",
                       b->name, jt_dtype_name(t->dtype));
    out->factor = t ? t->data : NULL;
    memcpy(b->name, weight, sizeof weight);
    return JT_OK;
}

jt_status jt_bind(jt_binder *b, jt_tensor *out, const char *suffix, bool plain,
                  bool optional, int n_dims, const size_t *shape)
{
    const jt_gguf_tensor *t = jt_bind_find(b, suffix);
    *out = (jt_tensor){0};
    if (!t)
        return optional
                   ? JT_OK
                   : jt_fail(b->err, JT_E_FORMAT, "tensor '%s' is missing", b->name);
    bool same = t->n_dims == n_dims;
    for (int i = 0; same && i < n_dims; i++)
        same = t->shape[i] == shape[i];
    if (!same)
        return fail_shape(b, t, n_dims, shape);
    if (!jt_dtype_is_weight(t->dtype) || (plain && t->dtype != JT_F32))
        return jt_fail(b->err, JT_E_FORMAT, "tensor '%s' has type %s, expected %s",
                       b->name, jt_dtype_name(t->dtype),
                       plain ? "F32" : "a weight type");
    *out = (jt_tensor){.data = (void *)(uintptr_t)t->data,
                       .dtype = t->dtype,
                       .n_dims = n_dims,
                       .pieces = t->pieces,
                       .types = t->types,
                       .weight = jt_weight_number(b->file, t)};
    memcpy(out->shape, shape, (size_t)n_dims * sizeof *shape);
    return plain || n_dims < 2 ? JT_OK : bind_factor(b, out);
}

jt_status jt_bind_matrix(jt_binder *b, jt_tensor *out, const char *suffix, size_t rows,
                         size_t cols)
{
    return jt_bind(b, out, suffix, false, false, 2, (size_t[]){rows, cols});
}

jt_status jt_bind_vector(jt_binder *b, jt_tensor *out, const char *suffix, size_t n,
                         bool optional)
{
    return jt_bind(b, out, suffix, true, optional, 1, (size_t[]){n});
}

jt_status jt_bind_norm(jt_binder *b, jt_norm *norm, const jt_family *family,
                       const char *name)
{
    *norm =
        (jt_norm){.kind = name ? family->norm : JT_NORM_NONE, .eps = b->p->norm_eps};
    if (!name || family->norm_plain)
        return JT_OK;
    char suffix[64];
    /* Falcon-H1's files have one that is called by its name alone. */
    bool bare = jt_bind_find(b, name) != NULL;
    snprintf(suffix, sizeof suffix, bare ? "%s" : "%s.weight", name);
    JT_TRY(jt_bind_vector(b, &norm->weight, suffix, (size_t)b->p->d_model, false));
    snprintf(suffix, sizeof suffix, "%s.bias", name);
    return jt_bind_vector(b, &norm->bias, suffix, (size_t)b->p->d_model, true);
}
