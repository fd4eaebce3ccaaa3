#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/model.h"

/* Binding: each tensor is looked up by name and its type and shape are checked, so that
 * nothing later reads outside it. */
typedef struct binder {
    const jt_gguf *file;
    const jt_params *p;
    jt_err *err;
    int layer; /* -1: a tensor of the whole model */
    char name[96];
} binder;

static const jt_gguf_tensor *look_up(binder *b, const char *suffix)
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

static jt_status fail_shape(binder *b, const jt_gguf_tensor *t, int n_dims,
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

/* Bind a tensor of exactly this shape. `plain` asks for F32 (norms, biases, some
 * routers); otherwise any type with a matrix product. A missing one is an error unless
 * `optional`. */
static jt_status bind(binder *b, jt_tensor *out, const char *suffix, bool plain,
                      bool optional, int n_dims, const size_t *shape)
{
    const jt_gguf_tensor *t = look_up(b, suffix);
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
    if (t->dtype == JT_I32 || (plain && t->dtype != JT_F32))
        return jt_fail(b->err, JT_E_FORMAT, "tensor '%s' has type %s, expected %s",
                       b->name, jt_dtype_name(t->dtype),
                       plain ? "F32" : "a weight type");
    *out = (jt_tensor){.data = (void *)(uintptr_t)t->data,
                       .dtype = t->dtype,
                       .n_dims = n_dims,
                       .pieces = t->pieces};
    memcpy(out->shape, shape, (size_t)n_dims * sizeof *shape);
    return JT_OK;
}

static jt_status bind_matrix(binder *b, jt_tensor *out, const char *suffix, size_t rows,
                             size_t cols)
{
    return bind(b, out, suffix, false, false, 2, (size_t[]){rows, cols});
}

static jt_status bind_vector(binder *b, jt_tensor *out, const char *suffix, size_t n,
                             bool optional)
{
    return bind(b, out, suffix, true, optional, 1, (size_t[]){n});
}

static jt_status bind_attention(binder *b, jt_attention *a, jt_qk_norm qk_norm)
{
    const jt_params *p = b->p;
    size_t d = (size_t)p->d_model, k_dim = (size_t)p->k_dim, v_dim = (size_t)p->v_dim;
    size_t heads = (size_t)p->n_heads, kv_heads = (size_t)p->n_kv_heads;
    JT_TRY(bind_matrix(b, &a->q, "attn_q.weight", heads * k_dim, d));
    JT_TRY(bind_matrix(b, &a->k, "attn_k.weight", kv_heads * k_dim, d));
    JT_TRY(bind_matrix(b, &a->v, "attn_v.weight", kv_heads * v_dim, d));
    JT_TRY(bind_matrix(b, &a->o, "attn_output.weight", d, heads * v_dim));
    JT_TRY(bind_vector(b, &a->q_bias, "attn_q.bias", heads * k_dim, true));
    JT_TRY(bind_vector(b, &a->k_bias, "attn_k.bias", kv_heads * k_dim, true));
    JT_TRY(bind_vector(b, &a->v_bias, "attn_v.bias", kv_heads * v_dim, true));
    JT_TRY(bind_vector(b, &a->o_bias, "attn_output.bias", d, true));
    a->qk_norm = qk_norm;
    if (qk_norm != JT_QK_NORM_NONE) {
        bool whole = qk_norm == JT_QK_NORM_WHOLE;
        JT_TRY(bind_vector(b, &a->q_norm, "attn_q_norm.weight",
                           whole ? heads * k_dim : k_dim, false));
        JT_TRY(bind_vector(b, &a->k_norm, "attn_k_norm.weight",
                           whole ? kv_heads * k_dim : k_dim, false));
    }
    a->n_heads = p->n_heads;
    a->n_kv_heads = p->n_kv_heads;
    a->k_dim = p->k_dim;
    a->v_dim = p->v_dim;
    a->scale = 1.0f / sqrtf((float)p->k_dim);
    a->clamp = p->clamp;
    a->norm_eps = p->norm_eps;
    return JT_OK;
}

/* The width of an FFN is that of its own gate tensor: it belongs to the layer. */
static size_t width_of(binder *b, const char *gate_name)
{
    const jt_gguf_tensor *t = look_up(b, gate_name);
    return t && t->n_dims >= 2 ? (size_t)t->shape[t->n_dims - 2] : 0;
}

/* gate, up and down of a bank: `stacked` tensors have the experts as first index. */
static jt_status bind_bank(binder *b, jt_bank *bank, const char *const names[JT_PARTS],
                           bool stacked, size_t experts)
{
    size_t d = (size_t)b->p->d_model, width = width_of(b, names[JT_PART_GATE]);
    int skip = stacked ? 0 : 1;
    for (int part = 0; part < JT_PARTS; part++) {
        bool down = part == JT_PART_DOWN;
        size_t shape[3] = {experts, down ? d : width, down ? width : d};
        jt_tensor *t = &bank->part[part];
        JT_TRY(bind(b, t, names[part], false, false, 3 - skip, shape + skip));
        t->n_dims = 3;
        memcpy(t->shape, shape, sizeof shape);
    }
    bank->kind = jt_expert_kind_find("ffn");
    bank->layer = b->layer;
    bank->n_experts = (int)experts;
    bank->d = d;
    bank->width = width;
    return JT_OK;
}

static const char *const dense_names[JT_PARTS] = {"ffn_gate.weight", "ffn_up.weight",
                                                  "ffn_down.weight"};
static const char *const expert_names[JT_PARTS] = {
    "ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"};
static const char *const shared_names[JT_PARTS] = {
    "ffn_gate_shexp.weight", "ffn_up_shexp.weight", "ffn_down_shexp.weight"};

/* Null experts have rows in the router, after those of the experts, and nothing else.
 */
static jt_status bind_router(binder *b, jt_router *router)
{
    *router = b->p->router;
    size_t d = (size_t)b->p->d_model, rows = (size_t)jt_router_rows(router);
    bool plain = router->scorer->plain_weight;
    JT_TRY(bind(b, &router->weight, "ffn_gate_inp.weight", plain, false, 2,
                (size_t[]){rows, d}));
    JT_TRY(bind_vector(b, &router->bias, "ffn_gate_inp.bias", rows, true));
    return bind_vector(b, &router->selection_bias, "exp_probs_b.bias", rows, true);
}

static jt_status bind_mixture(binder *b, jt_mixture *m)
{
    const jt_params *p = b->p;
    size_t d = (size_t)p->d_model, experts = (size_t)p->router.n_experts;
    JT_TRY(bind_router(b, &m->router));
    JT_TRY(bind_bank(b, &m->experts, expert_names, true, experts));
    if (!look_up(b, shared_names[JT_PART_GATE]))
        return JT_OK;
    JT_TRY(bind_bank(b, &m->shared, shared_names, false, 1));
    JT_TRY(bind_vector(b, &m->shared_gate, "ffn_gate_inp_shexp.weight", d, true));
    if (jt_has(&m->shared_gate)) { /* a vector in the file, a one-row matrix to us */
        m->shared_gate.n_dims = 2;
        m->shared_gate.shape[0] = 1;
        m->shared_gate.shape[1] = d;
    }
    return JT_OK;
}

static jt_status bind_layer(binder *b, jt_layer *layer, const jt_family *family)
{
    size_t d = (size_t)b->p->d_model;
    JT_TRY(bind_vector(b, &layer->attn_norm, "attn_norm.weight", d, false));
    JT_TRY(bind_vector(b, &layer->ffn_norm, "ffn_norm.weight", d, false));
    JT_TRY(bind_attention(b, &layer->attention, family->qk_norm));
    /* The router's presence tells a mixture from a dense layer: models mix both. */
    layer->is_mixture = look_up(b, "ffn_gate_inp.weight") != NULL;
    if (!layer->is_mixture)
        return bind_bank(b, &layer->dense, dense_names, false, 1);
    if (!b->p->router.n_experts)
        return jt_fail(b->err, JT_E_FORMAT, "tensor '%s' in a model without experts",
                       b->name);
    return bind_mixture(b, &layer->mixture);
}

jt_status jt_weights_bind(jt_model *model, jt_err *err)
{
    jt_params *p = &model->params;
    binder b = {.file = model->file, .p = p, .err = err, .layer = -1};
    size_t d = (size_t)p->d_model;
    const jt_gguf_tensor *embedding = look_up(&b, "token_embd.weight");
    size_t vocab =
        embedding && embedding->n_dims == 2 ? (size_t)embedding->shape[0] : 0;
    if (vocab > INT32_MAX)
        return jt_fail(err, JT_E_FORMAT, "tensor '%s' has too many rows", b.name);
    p->n_vocab = (int)vocab;
    JT_TRY(bind_matrix(&b, &model->embedding, "token_embd.weight", vocab, d));
    JT_TRY(bind_vector(&b, &model->output_norm, "output_norm.weight", d, false));
    JT_TRY(bind(&b, &model->output, "output.weight", false, true, 2,
                (size_t[]){vocab, d}));
    if (!jt_has(&model->output))
        model->output = model->embedding;
    jt_tensor factors;
    JT_TRY(bind_vector(&b, &factors, "rope_freqs.weight", p->rope.dims / 2, true));
    p->rope.pair_factors = factors.data;
    model->layers = jt_calloc((size_t)p->n_layers, sizeof *model->layers);
    if (!model->layers)
        return jt_fail_memory(err, "loading a model");
    for (b.layer = 0; b.layer < p->n_layers; b.layer++)
        JT_TRY(bind_layer(&b, &model->layers[b.layer], model->family));
    return JT_OK;
}
