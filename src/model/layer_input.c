#include "model/layer_input.h"

#include <math.h>

jt_status jt_bind_layer_inputs(jt_binder *b, jt_model *model)
{
    size_t n = (size_t)b->p->layer_width, all = n * (size_t)b->p->n_layers;
    if (!n)
        return JT_OK;
    JT_TRY(jt_bind_matrix(b, &model->layer_embedding, "per_layer_token_embd.weight",
                          (size_t)b->p->n_vocab, all));
    JT_TRY(jt_bind_matrix(b, &model->layer_projection, "per_layer_model_proj.weight",
                          all, (size_t)b->p->d_model));
    return jt_bind_vector(b, &model->layer_norm, "per_layer_proj_norm.weight", n,
                          false);
}

jt_status jt_bind_layer_input(jt_binder *b, jt_layer *layer)
{
    size_t n = (size_t)b->p->layer_width, d = (size_t)b->p->d_model;
    if (!n)
        return JT_OK;
    JT_TRY(jt_bind_matrix(b, &layer->input_gate, "inp_gate.weight", n, d));
    return jt_bind_matrix(b, &layer->input_up, "proj.weight", d, n);
}

/* h goes on, while a product of it is on the tape. */
static jt_input read(jt_context *ctx, const jt_tensor *h)
{
    return jt_input_of(ctx->tape ? jt_copy(ctx, h) : *h);
}

jt_tensor jt_layer_inputs(jt_context *ctx, const jt_model *model, const int32_t *ids,
                          const jt_tensor *h)
{
    const jt_params *p = &model->params;
    const jt_tensor none = {0};
    if (!p->layer_width)
        return none;
    jt_input x = read(ctx, h);
    jt_tensor e = jt_embed(ctx, &model->layer_embedding, ids, jt_rows(h));
    jt_scale(ctx, &e, sqrtf((float)p->layer_width));
    jt_tensor made = jt_linear(ctx, &x, &model->layer_projection, &none);
    jt_scale(ctx, &made, 1.0f / sqrtf((float)p->d_model));
    jt_tensor inputs = jt_rms_norm(ctx, &made, &model->layer_norm, p->norm_eps);
    jt_add_to(ctx, &inputs, &e);
    jt_scale(ctx, &inputs, sqrtf(0.5f));
    return inputs;
}

void jt_layer_input_add(jt_context *ctx, const jt_model *model, int index,
                        const jt_tensor *inputs, jt_tensor *h)
{
    const jt_layer *layer = &model->layers[index];
    const jt_tensor none = {0};
    if (!jt_has(inputs))
        return;
    size_t n = (size_t)model->params.layer_width;
    jt_input x = read(ctx, h);
    jt_tensor gate = jt_linear(ctx, &x, &layer->input_gate, &none);
    jt_tensor own = jt_take(ctx, inputs, jt_cols(inputs), (size_t)index * n, n);
    jt_input gated = jt_input_of(jt_glu(ctx, model->family->activation, &gate, &own));
    jt_tensor y = jt_linear(ctx, &gated, &layer->input_up, &none);
    y = jt_norm_forward(ctx, &layer->norm[JT_AFTER_INPUT], &y);
    jt_add_to(ctx, h, &y);
}
