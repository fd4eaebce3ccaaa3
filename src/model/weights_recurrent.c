#include "model/bind.h"

/* The sizes that the kind of layer needs are all there. */
static jt_status need(jt_binder *b, bool given)
{
    if (given)
        return JT_OK;
    return jt_fail(
        b->err, JT_E_FORMAT,
        "tensor '%s' in a model whose keys 'ssm.*' or 'shortconv.l_cache' do "
        "not say its shape",
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

/* A tensor that only this kind of layer has; more particular kinds first. */
static const struct {
    const char *sign;
    jt_recurrent_kind kind;
    jt_status (*bind)(jt_binder *b, jt_recurrent *layer);
} kinds[] = {
    {"shortconv.in_proj.weight", JT_SHORT_CONV, bind_short_conv},
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
