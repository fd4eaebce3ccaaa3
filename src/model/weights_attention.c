#include "model/bind.h"
#include "model/params.h"

jt_status jt_bind_rope_factors(jt_binder *b, jt_params *p)
{
    jt_rope_params *usual = &p->rope[JT_ROPE_USUAL];
    size_t pairs = usual->dims / 2;
    jt_tensor factors, small, large;
    JT_TRY(jt_bind_vector(b, &factors, "rope_freqs.weight", pairs, true));
    JT_TRY(jt_bind_vector(b, &small, "rope_factors_short.weight", pairs, true));
    JT_TRY(jt_bind_vector(b, &large, "rope_factors_long.weight", pairs, true));
    if (jt_has(&large)) {
        p->rope[JT_ROPE_LONG] = *usual;
        p->rope[JT_ROPE_LONG].pair_factors = large.data;
    }
    usual->pair_factors = jt_has(&factors) ? factors.data : small.data;
    return JT_OK;
}

static bool borrows(const jt_binder *b)
{
    return b->layer >= b->p->n_layers - b->p->borrowers;
}

/* q, k and v, each by itself or all in one; of a layer that reads the keys and values
 * of another only q, though files may have the others, too. */
static jt_status bind_qkv(jt_binder *b, jt_attention *a)
{
    size_t d = (size_t)b->p->d_model, heads = (size_t)a->n_heads;
    size_t q = heads * (size_t)a->k_dim * (a->gated ? 2 : 1);
    size_t k = (size_t)a->n_kv_heads * (size_t)a->k_dim;
    size_t v = (size_t)a->n_kv_heads * (size_t)a->v_dim;
    if (borrows(b)) {
        JT_TRY(jt_bind_matrix(b, &a->q, "attn_q.weight", q, d));
        return jt_bind_vector(b, &a->q_bias, "attn_q.bias", q, true);
    }
    if (jt_bind_find(b, "attn_qkv.weight")) {
        JT_TRY(jt_bind_matrix(b, &a->qkv, "attn_qkv.weight", q + k + v, d));
        JT_TRY(jt_bind_vector(b, &a->qkv_bias, "attn_qkv.bias", q + k + v, true));
        jt_attention_cut(a);
        return JT_OK;
    }
    JT_TRY(jt_bind_matrix(b, &a->q, "attn_q.weight", q, d));
    JT_TRY(jt_bind_matrix(b, &a->k, "attn_k.weight", k, d));
    JT_TRY(jt_bind(b, &a->v, "attn_v.weight", false, v == k && a->v_norm, 2,
                   (size_t[]){v, d}));
    JT_TRY(jt_bind_vector(b, &a->q_bias, "attn_q.bias", q, true));
    JT_TRY(jt_bind_vector(b, &a->k_bias, "attn_k.bias", k, true));
    return jt_bind_vector(b, &a->v_bias, "attn_v.bias", v, true);
}

static jt_status bind_attention(jt_binder *b, jt_attention *a, const jt_family *family)
{
    size_t d = (size_t)b->p->d_model, heads = (size_t)a->n_heads;
    size_t k_dim = (size_t)a->k_dim, kv_heads = (size_t)a->n_kv_heads;
    bool whole = a->qk_norm == JT_QK_NORM_WHOLE;
    JT_TRY(bind_qkv(b, a));
    JT_TRY(jt_bind_matrix(b, &a->o, "attn_output.weight", d, heads * (size_t)a->v_dim));
    JT_TRY(jt_bind_vector(b, &a->o_bias, "attn_output.bias", d, true));
    JT_TRY(jt_bind(b, &a->gate, "attn_gate.weight", false, true, 2,
                   (size_t[]){heads * (size_t)a->v_dim, d}));
    JT_TRY(jt_bind_vector(b, &a->sinks, "attn_sinks.weight", heads, true));
    if (family->qk_norm_optional && !jt_bind_find(b, "attn_q_norm.weight"))
        a->qk_norm = JT_QK_NORM_NONE;
    if (a->qk_norm == JT_QK_NORM_NONE || family->qk_norm_plain)
        return JT_OK;
    JT_TRY(jt_bind_vector(b, &a->q_norm, "attn_q_norm.weight",
                          whole ? heads * k_dim : k_dim, false));
    if (borrows(b))
        return JT_OK;
    return jt_bind_vector(b, &a->k_norm, "attn_k_norm.weight",
                          whole ? kv_heads * k_dim : k_dim, false);
}

static jt_status bind_latent_queries(jt_binder *b, jt_latent *l)
{
    size_t d = (size_t)b->p->d_model, q_rank = (size_t)b->p->q_rank;
    size_t q = (size_t)l->attention.n_heads * (size_t)(l->nope + l->rope);
    if (!jt_bind_find(b, "attn_q_a.weight"))
        return jt_bind_matrix(b, &l->q_b, "attn_q.weight", q, d);
    JT_TRY(jt_bind_matrix(b, &l->q_a, "attn_q_a.weight", q_rank, d));
    JT_TRY(jt_bind_vector(b, &l->q_a_norm, "attn_q_a_norm.weight", q_rank, false));
    return jt_bind_matrix(b, &l->q_b, "attn_q_b.weight", q, q_rank);
}

/* Older files hold what makes keys and values as one matrix, newer ones as two. */
static jt_status bind_latent(jt_binder *b, jt_latent *l)
{
    size_t d = (size_t)b->p->d_model, heads = (size_t)l->attention.n_heads;
    size_t rank = (size_t)l->rank, nope = (size_t)l->nope, v_dim = (size_t)l->v_dim;
    JT_TRY(bind_latent_queries(b, l));
    JT_TRY(
        jt_bind_matrix(b, &l->kv_a, "attn_kv_a_mqa.weight", rank + (size_t)l->rope, d));
    JT_TRY(jt_bind_vector(b, &l->kv_a_norm, "attn_kv_a_norm.weight", rank, false));
    JT_TRY(jt_bind_matrix(b, &l->o, "attn_output.weight", d, heads * v_dim));
    if (jt_bind_find(b, "attn_kv_b.weight"))
        return jt_bind_matrix(b, &l->kv_b, "attn_kv_b.weight", heads * (nope + v_dim),
                              rank);
    JT_TRY(jt_bind(b, &l->k_b, "attn_k_b.weight", false, false, 3,
                   (size_t[]){heads, rank, nope}));
    return jt_bind(b, &l->v_b, "attn_v_b.weight", false, false, 3,
                   (size_t[]){heads, v_dim, rank});
}

jt_status jt_bind_mixer(jt_binder *b, jt_layer *layer, const jt_family *family)
{
    jt_key_reader r = {.file = b->file,
                       .family = family,
                       .prefix = family->arch,
                       .layer = b->layer,
                       .err = b->err};
    if (family->recurrent)
        JT_TRY(jt_bind_recurrent(b, &layer->recurrent));
    bool recurrent = layer->recurrent.kind != JT_RECURRENT_NONE;
    if (recurrent && !family->abreast) {
        layer->mixer = JT_MIX_RECURRENT;
        return JT_OK;
    }
    if (family->single && !jt_bind_find(b, "attn_output.weight")) {
        layer->mixer = JT_MIX_NONE;
        return JT_OK;
    }
    if (family->latent) {
        layer->mixer = JT_MIX_LATENT;
        JT_TRY(jt_params_latent(&r, b->p, &layer->latent));
        return bind_latent(b, &layer->latent);
    }
    layer->mixer = recurrent ? JT_MIX_BOTH : JT_MIX_ATTENTION;
    JT_TRY(jt_params_mixer(&r, b->p, &layer->attention));
    return bind_attention(b, &layer->attention, family);
}
