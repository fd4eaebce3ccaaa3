#include <math.h>

#include "model/params.h"

enum { MAX_HEADS = 4096, MAX_HEAD_DIM = 1024 };

/* Files that count the compressed rows as keys and values have the heads' own lengths
 * under other names. */
static jt_status read_latent(jt_key_reader *r, jt_params *p)
{
    enum { MAX_RANK = 1 << 16 };
    JT_TRY(jt_key_int(r, "attention.kv_lora_rank", 1, MAX_HEAD_DIM, -1, &p->kv_rank));
    JT_TRY(jt_key_int(r, "attention.q_lora_rank", 0, MAX_RANK, 0, &p->q_rank));
    JT_TRY(jt_key_int(r, "attention.key_length_mla", 1, MAX_HEAD_DIM, p->k_dim,
                      &p->k_dim));
    return jt_key_int(r, "attention.value_length_mla", 1, MAX_HEAD_DIM, p->v_dim,
                      &p->v_dim);
}

/* Layers that read the keys and values of others, and embeddings of each layer. */
static jt_status read_shared(jt_key_reader *r, jt_params *p)
{
    enum { MOST = 1 << 16 };
    const struct {
        const char *name;
        int *value;
    } keys[] = {{"attention.shared_kv_layers", &p->borrowers},
                {"embedding_length_per_layer_input", &p->layer_width}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        JT_TRY(jt_key_int(r, keys[i].name, 0, MOST, 0, keys[i].value));
        if (*keys[i].value && !r->family->layer_inputs)
            return jt_fail(r->err, JT_E_UNSUPPORTED,
                           "key '%s' is %d, in a model of the family '%s'", r->key,
                           *keys[i].value, r->family->arch);
    }
    if (p->borrowers >= p->n_layers)
        return jt_fail(r->err, JT_E_FORMAT,
                       "%d of %d layers read the keys and values of another",
                       p->borrowers, p->n_layers);
    return JT_OK;
}

static jt_status read_windows(jt_key_reader *r, jt_params *p)
{
    enum { MAX_WINDOW = 1 << 30 };
    p->local_k_dim = p->k_dim;
    p->local_v_dim = p->v_dim;
    if (!r->family->windows)
        return JT_OK;
    JT_TRY(jt_key_int(r, "attention.key_length_swa", 1, MAX_HEAD_DIM, p->k_dim,
                      &p->local_k_dim));
    JT_TRY(jt_key_int(r, "attention.value_length_swa", 1, MAX_HEAD_DIM, p->v_dim,
                      &p->local_v_dim));
    return jt_key_int(r, "attention.sliding_window", 0, MAX_WINDOW,
                      r->family->windows->usual, &p->window);
}

jt_status jt_params_attention(jt_key_reader *r, jt_params *p)
{
    const jt_family *f = r->family;
    JT_TRY(read_shared(r, p));
    JT_TRY(jt_key_int(r, "attention.head_count", 1, MAX_HEADS, -1, &p->n_heads));
    JT_TRY(jt_key_int(r, "attention.head_count_kv", 1, p->n_heads, p->n_heads,
                      &p->n_kv_heads));
    if (p->n_heads % p->n_kv_heads)
        return jt_fail(r->err, JT_E_FORMAT, "%d heads do not share %d key/value heads",
                       p->n_heads, p->n_kv_heads);
    int usual = p->d_model / p->n_heads;
    JT_TRY(jt_key_int(r, "attention.key_length", 1, MAX_HEAD_DIM, usual, &p->k_dim));
    JT_TRY(jt_key_int(r, "attention.value_length", 1, MAX_HEAD_DIM, usual, &p->v_dim));
    JT_TRY(jt_key_float(r, "attention.output_scale", -1.0f, f->attention_scale,
                        &p->attention_scale)); /* Grok's name for it */
    JT_TRY(jt_key_float(r, "attention.scale", -1.0f, p->attention_scale,
                        &p->attention_scale));
    JT_TRY(jt_key_float(r, "attn_logit_softcapping", -1.0f, f->softcap,
                        &p->attention_softcap));
    JT_TRY(jt_key_float(r, "attention.clamp_kqv", -1.0f, 0.0f, &p->clamp));
    if (f->latent)
        JT_TRY(read_latent(r, p));
    return read_windows(r, p);
}

/* Whether the layer of the reader sees a window only. */
static jt_status read_local(jt_key_reader *r, const jt_params *p, bool *local)
{
    enum { MAX_PERIOD = 1 << 20 };
    static const char name[] = "attention.sliding_window_pattern";
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, jt_key_name(r, name));
    const jt_windows *windows = r->family->windows;
    int value;
    *local = false;
    if (!windows || p->window == 0)
        return JT_OK;
    JT_TRY(jt_key_int(r, name, 0, MAX_PERIOD, windows->full_every, &value));
    if (kv && kv->type == JT_GGUF_ARRAY) /* one flag per layer */
        *local = value != 0;
    else
        *local = value == 0 || r->layer % value < value - 1;
    return JT_OK;
}

static jt_rope_use rope_of(jt_key_reader *r, const jt_params *p, bool local)
{
    const jt_family *f = r->family;
    bool on = true;
    if (f->rope_switch)
        jt_gguf_get_bool(r->file, jt_key_name(r, "rope.scaling.finetuned"), &on);
    if (!on)
        return JT_ROPE_OFF;
    if (f->rope_off_every && (r->layer + 1) % f->rope_off_every == 0)
        return JT_ROPE_OFF;
    if (p->window && !local && f->windows->full_unrotated)
        return JT_ROPE_OFF;
    return local && p->rope[JT_ROPE_LOCAL].dims ? JT_ROPE_LOCAL : JT_ROPE_USUAL;
}

/* 1 / sqrt(k_dim), but for the models that count the width instead (Gemma 27B). */
static float scale_of(const jt_key_reader *r, const jt_params *p, int k_dim)
{
    if (p->attention_scale > 0.0f)
        return p->attention_scale;
    const jt_rope_params *rope = &p->rope[JT_ROPE_USUAL];
    bool by_width = r->family->wide_scale_layers == p->n_layers;
    float scale = 1.0f / sqrtf((float)(by_width ? p->d_model / p->n_heads : k_dim));
    if (r->family->yarn_scores && rope->scaling == JT_ROPE_YARN)
        scale *= powf(1.0f + rope->log_multiplier * logf(rope->factor), 2.0f);
    return scale;
}

jt_status jt_params_mixer(jt_key_reader *r, const jt_params *p, jt_attention *a)
{
    const jt_family *f = r->family;
    bool local;
    JT_TRY(read_local(r, p, &local));
    JT_TRY(jt_key_int(r, "attention.head_count", 1, MAX_HEADS, -1, &a->n_heads));
    JT_TRY(jt_key_int(r, "attention.head_count_kv", 1, a->n_heads, a->n_heads,
                      &a->n_kv_heads));
    if (a->n_heads % a->n_kv_heads)
        return jt_fail(r->err, JT_E_FORMAT,
                       "layer %d: %d heads do not share %d key/value heads", r->layer,
                       a->n_heads, a->n_kv_heads);
    a->k_dim = local ? p->local_k_dim : p->k_dim;
    a->v_dim = local ? p->local_v_dim : p->v_dim;
    a->window = local ? p->window : 0;
    a->chunked = local && f->windows->chunked;
    a->rope = rope_of(r, p, local);
    a->scale = scale_of(r, p, a->k_dim);
    a->softcap = p->attention_softcap;
    a->clamp = p->clamp;
    a->norm_eps = p->norm_eps;
    a->qk_norm = f->qk_norm;
    a->norm_late = f->qk_norm_late;
    a->v_norm = f->v_norm;
    a->gated = f->attention_gated;
    if (!f->temperature_unrotated || a->rope == JT_ROPE_OFF)
        a->temperature = p->temperature;
    if ((f->qk_norm_rotated && a->rope == JT_ROPE_OFF) ||
        (f->qk_norm_not && f->qk_norm_not == p->router.n_experts))
        a->qk_norm = JT_QK_NORM_NONE;
    return JT_OK;
}

jt_status jt_params_latent(jt_key_reader *r, const jt_params *p, jt_latent *l)
{
    JT_TRY(jt_params_mixer(r, p, &l->attention));
    l->rank = p->kv_rank;
    l->rope = (int)p->rope[JT_ROPE_USUAL].dims;
    l->nope = p->k_dim - l->rope;
    l->v_dim = p->v_dim;
    if (l->nope <= 0)
        return jt_fail(r->err, JT_E_FORMAT,
                       "%d values of heads of %d are rotated, which leaves none",
                       l->rope, p->k_dim);
    l->attention.n_kv_heads = 1;
    l->attention.k_dim = l->rank + l->rope;
    l->attention.v_dim = l->rank;
    return JT_OK;
}
