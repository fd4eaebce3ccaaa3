#include "model/recurrent.h"

#define PART(name, field)                   \
    {                                       \
        name, offsetof(jt_recurrent, field) \
    }

static const jt_recurrent_part short_conv_parts[] = {
    PART("shortconv.in_proj.weight", short_conv.in),
    PART("shortconv.conv.weight", short_conv.conv.weight),
    PART("shortconv.out_proj.weight", short_conv.out),
};

static const jt_recurrent_part mamba_parts[] = {
    PART("ssm_in.weight", mamba.in),
    PART("ssm_conv1d.weight", mamba.conv.weight),
    PART("ssm_conv1d.bias", mamba.conv.bias),
    PART("ssm_x.weight", mamba.x),
    PART("ssm_dt_norm.weight", mamba.dt_norm),
    PART("ssm_b_norm.weight", mamba.b_norm),
    PART("ssm_c_norm.weight", mamba.c_norm),
    PART("ssm_dt.weight", mamba.dt),
    PART("ssm_dt.bias", mamba.dt_bias),
    PART("ssm_a", mamba.a),
    PART("ssm_d", mamba.d),
    PART("ssm_out.weight", mamba.out),
};

static const jt_recurrent_part mamba2_parts[] = {
    PART("ssm_in.weight", mamba2.in),
    PART("ssm_conv1d.weight", mamba2.conv.weight),
    PART("ssm_conv1d.bias", mamba2.conv.bias),
    PART("ssm_dt.bias", mamba2.dt_bias),
    PART("ssm_a", mamba2.a),
    PART("ssm_d", mamba2.d),
    PART("ssm_norm.weight", mamba2.norm),
    PART("ssm_out.weight", mamba2.out),
};

static const jt_recurrent_part delta_net_parts[] = {
    PART("attn_qkv.weight", delta_net.qkv),
    PART("attn_gate.weight", delta_net.z),
    PART("ssm_ba.weight", delta_net.ba),
    PART("ssm_beta.weight", delta_net.b),
    PART("ssm_alpha.weight", delta_net.a),
    PART("ssm_conv1d.weight", delta_net.conv.weight),
    PART("ssm_dt.bias", delta_net.dt_bias),
    PART("ssm_a", delta_net.rate),
    PART("ssm_norm.weight", delta_net.norm),
    PART("ssm_out.weight", delta_net.out),
};

static const jt_recurrent_part kimi_delta_parts[] = {
    PART("attn_q.weight", kimi_delta.in[JT_KIMI_Q]),
    PART("attn_k.weight", kimi_delta.in[JT_KIMI_K]),
    PART("attn_v.weight", kimi_delta.in[JT_KIMI_V]),
    PART("ssm_conv1d_q.weight", kimi_delta.conv[JT_KIMI_Q].weight),
    PART("ssm_conv1d_k.weight", kimi_delta.conv[JT_KIMI_K].weight),
    PART("ssm_conv1d_v.weight", kimi_delta.conv[JT_KIMI_V].weight),
    PART("ssm_beta.weight", kimi_delta.b),
    PART("ssm_f_a.weight", kimi_delta.f_a),
    PART("ssm_f_b.weight", kimi_delta.f_b),
    PART("ssm_dt.bias", kimi_delta.dt_bias),
    PART("ssm_a", kimi_delta.rate),
    PART("ssm_g_a.weight", kimi_delta.g_a),
    PART("ssm_g_b.weight", kimi_delta.g_b),
    PART("ssm_norm.weight", kimi_delta.norm),
    PART("attn_output.weight", kimi_delta.out),
};

static const jt_recurrent_part lightning_parts[] = {
    PART("attn_qkv.weight", lightning.qkv),
    PART("attn_gate.weight", lightning.gate),
    PART("attn_norm_2.weight", lightning.norm),
    PART("attn_output.weight", lightning.out),
};

#undef PART

const jt_recurrent_part *jt_recurrent_parts(jt_recurrent_kind kind, size_t *count)
{
    *count = 0;
    switch (kind) {
    case JT_RECURRENT_NONE:
        break;
    case JT_SHORT_CONV:
        *count = sizeof short_conv_parts / sizeof *short_conv_parts;
        return short_conv_parts;
    case JT_MAMBA:
        *count = sizeof mamba_parts / sizeof *mamba_parts;
        return mamba_parts;
    case JT_MAMBA2:
        *count = sizeof mamba2_parts / sizeof *mamba2_parts;
        return mamba2_parts;
    case JT_DELTA_NET:
        *count = sizeof delta_net_parts / sizeof *delta_net_parts;
        return delta_net_parts;
    case JT_KIMI_DELTA:
        *count = sizeof kimi_delta_parts / sizeof *kimi_delta_parts;
        return kimi_delta_parts;
    case JT_LIGHTNING:
        *count = sizeof lightning_parts / sizeof *lightning_parts;
        return lightning_parts;
    }
    return NULL;
}

size_t jt_recurrent_state(const jt_recurrent *layer)
{
    switch (layer->kind) {
    case JT_RECURRENT_NONE:
        break;
    case JT_SHORT_CONV:
        return jt_short_conv_state(&layer->short_conv);
    case JT_MAMBA:
        return jt_mamba_state(&layer->mamba);
    case JT_MAMBA2:
        return jt_mamba2_state(&layer->mamba2);
    case JT_DELTA_NET:
        return jt_delta_net_state(&layer->delta_net);
    case JT_KIMI_DELTA:
        return jt_kimi_delta_state(&layer->kimi_delta);
    case JT_LIGHTNING:
        return jt_lightning_state(&layer->lightning);
    }
    return 0;
}

jt_tensor jt_recurrent_forward(jt_context *ctx, const jt_recurrent *layer, jt_input *x,
                               float *state, const jt_places *places)
{
    switch (layer->kind) {
    case JT_RECURRENT_NONE:
        break;
    case JT_SHORT_CONV:
        return jt_short_conv_forward(ctx, &layer->short_conv, x, state, places);
    case JT_MAMBA:
        return jt_mamba_forward(ctx, &layer->mamba, x, state, places);
    case JT_MAMBA2:
        return jt_mamba2_forward(ctx, &layer->mamba2, x, state, places);
    case JT_DELTA_NET:
        return jt_delta_net_forward(ctx, &layer->delta_net, x, state, places);
    case JT_KIMI_DELTA:
        return jt_kimi_delta_forward(ctx, &layer->kimi_delta, x, state, places);
    case JT_LIGHTNING:
        return jt_lightning_forward(ctx, &layer->lightning, x, state, places);
    }
    return (jt_tensor){0};
}
