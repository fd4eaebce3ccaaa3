#include <string.h>

#include "model/params.h"

static jt_status read_rope_scaling(jt_key_reader *r, jt_params *p)
{
    jt_rope_params *rope = &p->rope;
    jt_str type = {"none", 4};
    jt_gguf_get_str(r->file, jt_key_name(r, "rope.scaling.type"), &type);
    if (type.len == 6 && memcmp(type.data, "linear", 6) == 0)
        rope->scaling = JT_ROPE_LINEAR;
    else if (type.len == 4 && memcmp(type.data, "yarn", 4) == 0)
        rope->scaling = JT_ROPE_YARN;
    else if (type.len != 4 || memcmp(type.data, "none", 4) != 0)
        return jt_fail(r->err, JT_E_UNSUPPORTED,
                       "key '%s' is '%.*s', expected none, linear or yarn", r->key,
                       (int)(type.len < 40 ? type.len : 40), type.data);
    if (rope->scaling == JT_ROPE_NONE)
        return JT_OK;
    JT_TRY(jt_key_float(r, "rope.scaling.factor", 0.0f, 1.0f, &rope->factor));
    if (rope->scaling == JT_ROPE_LINEAR)
        return JT_OK;
    JT_TRY(jt_key_float(r, "rope.scaling.original_context_length", 0.0f,
                        (float)p->n_ctx_train, &rope->original_context));
    JT_TRY(jt_key_float(r, "rope.scaling.attn_factor", -1.0f, 0.0f,
                        &rope->attention_factor));
    JT_TRY(
        jt_key_float(r, "rope.scaling.yarn_beta_fast", 0.0f, 32.0f, &rope->beta_fast));
    return jt_key_float(r, "rope.scaling.yarn_beta_slow", 0.0f, 1.0f, &rope->beta_slow);
}

jt_status jt_params_rope(jt_key_reader *r, jt_params *p)
{
    int dims;
    p->rope.neox = r->family->rope_neox;
    JT_TRY(jt_key_int(r, "rope.dimension_count", 2, p->k_dim, p->k_dim, &dims));
    if (dims % 2)
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is %d, expected an even number",
                       r->key, dims);
    p->rope.dims = (size_t)dims;
    JT_TRY(jt_key_float(r, "rope.freq_base", 1.0f, 10000.0f, &p->rope.base));
    return read_rope_scaling(r, p);
}

jt_status jt_params_attention(jt_key_reader *r, jt_params *p)
{
    enum { MAX_HEADS = 4096, MAX_HEAD_DIM = 512 };
    JT_TRY(jt_key_int(r, "attention.head_count", 1, MAX_HEADS, -1, &p->n_heads));
    JT_TRY(jt_key_int(r, "attention.head_count_kv", 1, p->n_heads, p->n_heads,
                      &p->n_kv_heads));
    if (p->n_heads % p->n_kv_heads)
        return jt_fail(r->err, JT_E_FORMAT, "%d heads do not share %d key/value heads",
                       p->n_heads, p->n_kv_heads);
    int usual = p->d_model / p->n_heads;
    JT_TRY(jt_key_int(r, "attention.key_length", 1, MAX_HEAD_DIM, usual, &p->k_dim));
    JT_TRY(jt_key_int(r, "attention.value_length", 1, MAX_HEAD_DIM, usual, &p->v_dim));
    JT_TRY(
        jt_key_float(r, "attention.layer_norm_rms_epsilon", 0.0f, -1.0f, &p->norm_eps));
    return jt_key_float(r, "attention.clamp_kqv", -1.0f, 0.0f, &p->clamp);
}
