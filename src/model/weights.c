#include <limits.h>

#include "base/memory.h"
#include "model/bind.h"

static jt_status bind_layer(jt_binder *b, jt_layer *layer, const jt_family *family)
{
    size_t d = (size_t)b->p->d_model;
    JT_TRY(jt_bind_vector(b, &layer->attn_norm, "attn_norm.weight", d, false));
    JT_TRY(jt_bind_vector(b, &layer->ffn_norm, "ffn_norm.weight", d, false));
    JT_TRY(jt_bind_attention(b, &layer->attention, family->qk_norm));
    /* The router's presence tells a mixture from a dense layer: models mix both. */
    layer->is_mixture = jt_bind_find(b, "ffn_gate_inp.weight") != NULL;
    if (!layer->is_mixture)
        return jt_bind_dense(b, &layer->dense);
    if (!b->p->router.n_experts)
        return jt_fail(b->err, JT_E_FORMAT, "tensor '%s' in a model without experts",
                       b->name);
    return jt_bind_mixture(b, &layer->mixture);
}

jt_status jt_weights_bind(jt_model *model, jt_err *err)
{
    jt_params *p = &model->params;
    jt_binder b = {.file = model->file, .p = p, .err = err, .layer = -1};
    size_t d = (size_t)p->d_model;
    const jt_gguf_tensor *embedding = jt_bind_find(&b, "token_embd.weight");
    size_t vocab =
        embedding && embedding->n_dims == 2 ? (size_t)embedding->shape[0] : 0;
    if (vocab > INT32_MAX)
        return jt_fail(err, JT_E_FORMAT, "tensor '%s' has too many rows", b.name);
    p->n_vocab = (int)vocab;
    JT_TRY(jt_bind_matrix(&b, &model->embedding, "token_embd.weight", vocab, d));
    JT_TRY(jt_bind_vector(&b, &model->output_norm, "output_norm.weight", d, false));
    JT_TRY(jt_bind(&b, &model->output, "output.weight", false, true, 2,
                   (size_t[]){vocab, d}));
    if (!jt_has(&model->output))
        model->output = model->embedding;
    jt_tensor factors;
    JT_TRY(jt_bind_vector(&b, &factors, "rope_freqs.weight", p->rope.dims / 2, true));
    p->rope.pair_factors = factors.data;
    model->layers = jt_calloc((size_t)p->n_layers, sizeof *model->layers);
    if (!model->layers)
        return jt_fail_memory(err, "loading a model");
    for (b.layer = 0; b.layer < p->n_layers; b.layer++)
        JT_TRY(bind_layer(&b, &model->layers[b.layer], model->family));
    return JT_OK;
}
