#include "model/bind.h"

/* The sizes that the kind of layer needs are all there. */
static jt_status need(jt_binder *b, bool given)
{
    if (given)
        return JT_OK;
    return jt_fail(b->err, JT_E_FORMAT,
                   "tensor '%s' in a model whose keys 'ssm.*', 'shortconv.l_cache' or "
                   "'kda.head_dim' do not say its shape",
                   b->name);
}

static jt_status need_whole(jt_binder *b, const char *what, int parts, int in)
{
    if (parts % in == 0)
        return JT_OK;
    return jt_fail(b->err, JT_E_FORMAT, "layer %d: %d %s do not share %d", b->layer,
                   parts, what, in);
}

static jt_status bind_conv(jt_binder *b, jt_causal_conv *conv, const char *weight,
                           const char *bias, size_t channels)
{
    size_t width = (size_t)b->p->recurrent.conv_width;
    JT_TRY(
        jt_bind(b, &conv->weight, weight, true, false, 2, (size_t[]){channels, width}));
    conv->silu = bias != NULL;
    return bias ? jt_bind_vector(b, &conv->bias, bias, channels, true) : JT_OK;
}

static jt_status bind_ssm_conv(jt_binder *b, jt_causal_conv *conv, size_t channels)
{
    return bind_conv(b, conv, "ssm_conv1d.weight", "ssm_conv1d.bias", channels);
}

static jt_status bind_short_conv(jt_binder *b, jt_recurrent *layer)
{
    jt_short_conv *m = &layer->short_conv;
    size_t d = (size_t)b->p->d_model;
    JT_TRY(need(b, b->p->recurrent.conv_width));
    JT_TRY(jt_bind_matrix(b, &m->in, "shortconv.in_proj.weight", 3 * d, d));
    JT_TRY(bind_conv(b, &m->conv, "shortconv.conv.weight", NULL, d));
    return jt_bind_matrix(b, &m->out, "shortconv.out_proj.weight", d, d);
}

static jt_status bind_mamba(jt_binder *b, jt_recurrent *layer)
{
    jt_mamba *m = &layer->mamba;
    const jt_recurrent_params *p = &b->p->recurrent;
    size_t d = (size_t)b->p->d_model, inner = (size_t)p->inner;
    size_t n = (size_t)p->state, rank = (size_t)p->rank;
    JT_TRY(need(b, p->conv_width && inner && n && rank));
    JT_TRY(jt_bind_matrix(b, &m->in, "ssm_in.weight", 2 * inner, d));
    JT_TRY(bind_ssm_conv(b, &m->conv, inner));
    JT_TRY(jt_bind_matrix(b, &m->x, "ssm_x.weight", rank + 2 * n, inner));
    JT_TRY(jt_bind_vector(b, &m->dt_norm, "ssm_dt_norm.weight", rank, true));
    bool plain = !jt_has(&m->dt_norm); /* all three norms or none */
    JT_TRY(jt_bind_vector(b, &m->b_norm, "ssm_b_norm.weight", n, plain));
    JT_TRY(jt_bind_vector(b, &m->c_norm, "ssm_c_norm.weight", n, plain));
    JT_TRY(jt_bind_matrix(b, &m->dt, "ssm_dt.weight", inner, rank));
    JT_TRY(jt_bind_vector(b, &m->dt_bias, "ssm_dt.bias", inner, false));
    JT_TRY(jt_bind(b, &m->a, "ssm_a", true, false, 2, (size_t[]){inner, n}));
    JT_TRY(jt_bind_vector(b, &m->d, "ssm_d", inner, false));
    m->norm_eps = b->p->norm_eps;
    return jt_bind_matrix(b, &m->out, "ssm_out.weight", d, inner);
}

static jt_status bind_mamba2(jt_binder *b, jt_recurrent *layer)
{
    jt_mamba2 *m = &layer->mamba2;
    const jt_recurrent_params *p = &b->p->recurrent;
    size_t d = (size_t)b->p->d_model, inner = (size_t)p->inner;
    JT_TRY(need(b, p->conv_width && inner && p->state && p->rank && p->groups));
    JT_TRY(need_whole(b, "channels", p->inner, p->rank));
    JT_TRY(need_whole(b, "heads", p->rank, p->groups));
    m->heads = (size_t)p->rank;
    m->head_dim = inner / m->heads;
    m->groups = (size_t)p->groups;
    m->d_state = (size_t)p->state;
    m->norm_eps = b->p->norm_eps;
    size_t channels = inner + 2 * m->groups * m->d_state, heads = m->heads;
    JT_TRY(jt_bind_matrix(b, &m->in, "ssm_in.weight", inner + channels + heads, d));
    JT_TRY(bind_ssm_conv(b, &m->conv, channels));
    JT_TRY(jt_bind_vector(b, &m->dt_bias, "ssm_dt.bias", heads, false));
    JT_TRY(jt_bind(b, &m->a, "ssm_a", true, false, 2, (size_t[]){heads, 1}));
    JT_TRY(jt_bind(b, &m->d, "ssm_d", true, false, 2, (size_t[]){heads, 1}));
    JT_TRY(jt_bind(b, &m->norm, "ssm_norm.weight", true, true, 2,
                   (size_t[]){m->groups, inner / m->groups}));
    return jt_bind_matrix(b, &m->out, "ssm_out.weight", d, inner);
}

/* Files of Qwen3-Next hold b and a together, in the order of transformers; those of
 * Qwen3.5 hold them apart, and the heads of values in the order in which ggml repeats
 * keys (conversion/qwen.py of llama.cpp). */
static jt_status bind_delta_gates(jt_binder *b, jt_delta_net *m, bool apart)
{
    size_t d = (size_t)b->p->d_model;
    m->tiled = apart;
    if (!apart)
        return jt_bind_matrix(b, &m->ba, "ssm_ba.weight", 2 * m->v_heads, d);
    JT_TRY(jt_bind_matrix(b, &m->b, "ssm_beta.weight", m->v_heads, d));
    return jt_bind_matrix(b, &m->a, "ssm_alpha.weight", m->v_heads, d);
}

static jt_status bind_delta_net(jt_binder *b, jt_recurrent *layer)
{
    jt_delta_net *m = &layer->delta_net;
    const jt_recurrent_params *p = &b->p->recurrent;
    bool apart = jt_bind_find(b, "ssm_alpha.weight") != NULL;
    size_t d = (size_t)b->p->d_model, inner = (size_t)p->inner;
    JT_TRY(need(b, p->conv_width && inner && p->state && p->rank && p->groups));
    JT_TRY(need_whole(b, "channels", p->inner, p->rank));
    JT_TRY(need_whole(b, "heads", p->rank, p->groups));
    m->k_heads = (size_t)p->groups;
    m->v_heads = (size_t)p->rank;
    m->k_dim = (size_t)p->state;
    m->v_dim = inner / m->v_heads;
    m->norm_eps = b->p->norm_eps;
    size_t channels = 2 * m->k_heads * m->k_dim + inner;
    JT_TRY(jt_bind_matrix(b, &m->qkv, "attn_qkv.weight", channels, d));
    JT_TRY(jt_bind_matrix(b, &m->z, "attn_gate.weight", inner, d));
    JT_TRY(bind_delta_gates(b, m, apart));
    JT_TRY(bind_ssm_conv(b, &m->conv, channels));
    JT_TRY(jt_bind_vector(b, &m->dt_bias, "ssm_dt.bias", m->v_heads, false));
    JT_TRY(jt_bind_vector(b, &m->rate, "ssm_a", m->v_heads, false));
    JT_TRY(jt_bind_vector(b, &m->norm, "ssm_norm.weight", m->v_dim, false));
    return jt_bind_matrix(b, &m->out, "ssm_out.weight", d, inner);
}

/* Whether this is [rows, cols] with dimensions of 1 before and between. */
static bool squeezes_to(const jt_gguf_tensor *t, size_t rows, size_t cols)
{
    uint64_t product = 1;
    int wide = 0;
    for (int i = 0; i + 1 < t->n_dims; i++) {
        wide += t->shape[i] != 1;
        product = t->shape[i] != 1 ? t->shape[i] : product;
    }
    return t->n_dims > 1 && wide <= 1 && product == rows &&
           t->shape[t->n_dims - 1] == cols;
}

/* llama.cpp's converter writes some small tensors of Kimi-Linear as [1, rows, 1, cols],
 * its other programs leave dimensions out of that. */
static jt_status bind_squeezed(jt_binder *b, jt_tensor *out, const char *suffix,
                               size_t rows, size_t cols)
{
    size_t shape[JT_MAX_DIMS] = {rows, cols};
    const jt_gguf_tensor *t = jt_bind_find(b, suffix);
    int n_dims = t && squeezes_to(t, rows, cols) ? t->n_dims : 2;
    for (int i = 0; n_dims > 2 && i < n_dims; i++)
        shape[i] = (size_t)t->shape[i];
    JT_TRY(jt_bind(b, out, suffix, true, false, n_dims, shape));
    out->n_dims = 2;
    out->shape[0] = rows;
    out->shape[1] = cols;
    return JT_OK;
}

static jt_status bind_kimi_delta(jt_binder *b, jt_recurrent *layer)
{
    static const char *const in[] = {"attn_q.weight", "attn_k.weight", "attn_v.weight"};
    static const char *const conv[] = {"ssm_conv1d_q.weight", "ssm_conv1d_k.weight",
                                       "ssm_conv1d_v.weight"};
    jt_kimi_delta *m = &layer->kimi_delta;
    const jt_recurrent_params *p = &b->p->recurrent;
    size_t d = (size_t)b->p->d_model, rank = (size_t)p->head_dim;
    JT_TRY(need(b, p->conv_width && p->head_dim));
    m->heads = (size_t)b->p->n_heads;
    m->dim = (size_t)p->head_dim;
    m->norm_eps = b->p->norm_eps;
    size_t width = m->heads * m->dim;
    for (int i = 0; i < JT_KIMI_QKV; i++) {
        JT_TRY(jt_bind_matrix(b, &m->in[i], in[i], width, d));
        JT_TRY(bind_squeezed(b, &m->conv[i].weight, conv[i], width,
                             (size_t)p->conv_width));
        m->conv[i].silu = true;
    }
    JT_TRY(jt_bind_matrix(b, &m->b, "ssm_beta.weight", m->heads, d));
    JT_TRY(jt_bind_matrix(b, &m->f_a, "ssm_f_a.weight", rank, d));
    JT_TRY(jt_bind_matrix(b, &m->f_b, "ssm_f_b.weight", width, rank));
    JT_TRY(jt_bind_vector(b, &m->dt_bias, "ssm_dt.bias", width, false));
    JT_TRY(bind_squeezed(b, &m->rate, "ssm_a", m->heads, 1));
    JT_TRY(jt_bind_matrix(b, &m->g_a, "ssm_g_a.weight", rank, d));
    JT_TRY(jt_bind_matrix(b, &m->g_b, "ssm_g_b.weight", width, rank));
    JT_TRY(jt_bind_vector(b, &m->norm, "ssm_norm.weight", m->dim, false));
    return jt_bind_matrix(b, &m->out, "attn_output.weight", d, width);
}

static jt_status bind_lightning(jt_binder *b, jt_recurrent *layer)
{
    jt_lightning *m = &layer->lightning;
    size_t d = (size_t)b->p->d_model;
    m->heads = (size_t)b->p->n_heads;
    m->dim = (size_t)b->p->k_dim;
    m->slope_scale = jt_lightning_slope_scale(b->layer, b->p->n_layers);
    size_t width = m->heads * m->dim;
    JT_TRY(jt_bind_matrix(b, &m->qkv, "attn_qkv.weight", 3 * width, d));
    JT_TRY(jt_bind_matrix(b, &m->gate, "attn_gate.weight", width, d));
    JT_TRY(jt_bind_vector(b, &m->norm, "attn_norm_2.weight", width, false));
    return jt_bind_matrix(b, &m->out, "attn_output.weight", d, width);
}

/* A tensor that only this kind of layer has; more particular kinds first. */
static const struct {
    const char *sign;
    jt_recurrent_kind kind;
    jt_status (*bind)(jt_binder *b, jt_recurrent *layer);
} kinds[] = {
    {"shortconv.in_proj.weight", JT_SHORT_CONV, bind_short_conv},
    {"ssm_f_a.weight", JT_KIMI_DELTA, bind_kimi_delta},
    {"attn_norm_2.weight", JT_LIGHTNING, bind_lightning},
    {"ssm_ba.weight", JT_DELTA_NET, bind_delta_net},
    {"ssm_alpha.weight", JT_DELTA_NET, bind_delta_net},
    {"ssm_x.weight", JT_MAMBA, bind_mamba},
    {"ssm_in.weight", JT_MAMBA2, bind_mamba2},
};

jt_status jt_bind_recurrent(jt_binder *b, jt_recurrent *layer)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!jt_bind_find(b, kinds[i].sign))
            continue;
        layer->kind = kinds[i].kind;
        return kinds[i].bind(b, layer);
    }
    return JT_OK;
}
