#include <limits.h>
#include <math.h>

#include "model/params.h"

/* Files name the epsilon after the norm, and some after the other one. */
static jt_status read_norm(jt_key_reader *r, jt_params *p)
{
    static const char *const names[] = {"attention.layer_norm_rms_epsilon",
                                        "attention.layer_norm_epsilon"};
    int first = r->family->norm == JT_NORM_LAYER ? 1 : 0;
    bool there = jt_gguf_kv_find(r->file, jt_key_name(r, names[first])) != NULL;
    float usual = r->family->norm_plain ? 1e-5f : -1.0f;
    const char *name = names[there ? first : 1 - first];
    if (!there && !jt_gguf_kv_find(r->file, jt_key_name(r, name)))
        name = names[first];
    return jt_key_float(r, name, 0.0f, usual, &p->norm_eps);
}

static jt_status read_multipliers(jt_key_reader *r, jt_params *p)
{
    const jt_family *f = r->family;
    float embedding = f->embedding_root        ? sqrtf((float)p->d_model)
                      : f->embedding_scale > 0 ? f->embedding_scale
                                               : 1.0f;
    float logits = f->logit_scale > 0.0f ? f->logit_scale : 1.0f;
    JT_TRY(jt_key_float(r, "embedding_scale", 0.0f, embedding, &p->embedding_scale));
    JT_TRY(jt_key_float(r, "residual_scale", 0.0f, 1.0f, &p->residual_scale));
    JT_TRY(jt_key_float(r, "logit_scale", 0.0f, logits, &p->logit_scale));
    p->carried_scale = 1.0f;
    if (f->carries_normed) {
        p->carried_scale = p->residual_scale;
        p->residual_scale = 1.0f;
    }
    if (f->logits_divided)
        p->logit_scale = 1.0f / p->logit_scale;
    return jt_key_float(r, "final_logit_softcapping", -1.0f, 0.0f, &p->logit_softcap);
}

/* Layers that predict the token after the next come last and are not run. */
static jt_status read_layers(jt_key_reader *r, jt_params *p)
{
    enum { MAX_LAYERS = 4096 };
    int predictors;
    JT_TRY(jt_key_int(r, "block_count", 1, MAX_LAYERS, -1, &p->n_layers));
    JT_TRY(jt_key_int(r, "nextn_predict_layers", 0, p->n_layers - 1, 0, &predictors));
    p->n_layers -= predictors;
    return JT_OK;
}

jt_status jt_params_read(jt_params *out, const jt_gguf *file, const jt_family *family,
                         jt_err *err)
{
    enum { MAX_WIDTH = 1 << 20 };
    jt_params p = {0};
    jt_key_reader r = {.file = file,
                       .family = family,
                       .prefix = family->arch,
                       .layer = -1,
                       .err = err};
    JT_TRY(read_layers(&r, &p));
    JT_TRY(jt_key_int(&r, "embedding_length", 1, MAX_WIDTH, -1, &p.d_model));
    JT_TRY(jt_key_int(&r, "context_length", 1, INT_MAX / 2, -1, &p.n_ctx_train));
    JT_TRY(read_norm(&r, &p));
    JT_TRY(read_multipliers(&r, &p));
    JT_TRY(jt_params_attention(&r, &p));
    JT_TRY(jt_params_router(&r, &p.router));
    JT_TRY(jt_params_rope(&r, &p));
    JT_TRY(jt_params_recurrent(&r, &p.recurrent));
    *out = p;
    return JT_OK;
}
