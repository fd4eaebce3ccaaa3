#include <math.h>

#include "model/bind.h"

jt_status jt_bind_attention(jt_binder *b, jt_attention *a, jt_qk_norm qk_norm)
{
    const jt_params *p = b->p;
    size_t d = (size_t)p->d_model, k_dim = (size_t)p->k_dim, v_dim = (size_t)p->v_dim;
    size_t heads = (size_t)p->n_heads, kv_heads = (size_t)p->n_kv_heads;
    JT_TRY(jt_bind_matrix(b, &a->q, "attn_q.weight", heads * k_dim, d));
    JT_TRY(jt_bind_matrix(b, &a->k, "attn_k.weight", kv_heads * k_dim, d));
    JT_TRY(jt_bind_matrix(b, &a->v, "attn_v.weight", kv_heads * v_dim, d));
    JT_TRY(jt_bind_matrix(b, &a->o, "attn_output.weight", d, heads * v_dim));
    JT_TRY(jt_bind_vector(b, &a->q_bias, "attn_q.bias", heads * k_dim, true));
    JT_TRY(jt_bind_vector(b, &a->k_bias, "attn_k.bias", kv_heads * k_dim, true));
    JT_TRY(jt_bind_vector(b, &a->v_bias, "attn_v.bias", kv_heads * v_dim, true));
    JT_TRY(jt_bind_vector(b, &a->o_bias, "attn_output.bias", d, true));
    a->qk_norm = qk_norm;
    if (qk_norm != JT_QK_NORM_NONE) {
        bool whole = qk_norm == JT_QK_NORM_WHOLE;
        JT_TRY(jt_bind_vector(b, &a->q_norm, "attn_q_norm.weight",
                              whole ? heads * k_dim : k_dim, false));
        JT_TRY(jt_bind_vector(b, &a->k_norm, "attn_k_norm.weight",
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
