#include <limits.h>
#include <stdio.h>

#include "base/memory.h"
#include "model/layer_input.h"

static bool has_norm(const jt_layer *layer, const jt_family *family, int place)
{
    bool mixes = layer->mixer != JT_MIX_NONE;
    if (family->single)
        return place == (mixes ? JT_BEFORE_ATTENTION : JT_BEFORE_FFN);
    if (place == JT_AFTER_INPUT)
        return jt_has(&layer->input_gate);
    return place < JT_BEFORE_EXPERTS || layer->is_mixture;
}

/* The layer whose keys and values the one at hand reads: without own ones, the last
 * that has some and sees as much. */
static jt_status find_keys(jt_binder *b, jt_layer *layers)
{
    jt_layer *layer = &layers[b->layer];
    int i = b->layer, own = b->p->n_layers - b->p->borrowers;
    const jt_attention *a = &layer->attention, *other;
    layer->keys_of = i;
    if (layer->mixer != JT_MIX_ATTENTION || i < own)
        return JT_OK;
    for (i = own - 1; i >= 0; i--) {
        other = &layers[i].attention;
        if (layers[i].mixer != JT_MIX_ATTENTION || other->window != a->window)
            continue;
        if (other->n_kv_heads != a->n_kv_heads || other->k_dim != a->k_dim ||
            other->v_dim != a->v_dim)
            break;
        layer->keys_of = i;
        return JT_OK;
    }
    return jt_fail(b->err, JT_E_FORMAT,
                   "layer %d finds no layer before %d whose keys and values it could "
                   "read",
                   b->layer, own);
}

static jt_status bind_layer(jt_binder *b, jt_layer *layer, const jt_model *model)
{
    const jt_family *family = model->family;
    /* The router's presence tells a mixture from a dense layer: models mix both. */
    layer->is_mixture = jt_bind_find(b, "ffn_gate_inp.weight") != NULL;
    if (layer->is_mixture && !b->p->router.n_experts)
        return jt_fail(b->err, JT_E_FORMAT, "tensor '%s' in a model without experts",
                       b->name);
    JT_TRY(jt_bind_mixer(b, layer, family));
    JT_TRY(find_keys(b, model->layers));
    JT_TRY(jt_bind_layer_input(b, layer));
    for (int place = 0; place < JT_NORM_PLACES; place++) {
        bool there = has_norm(layer, family, place);
        JT_TRY(jt_bind_norm(b, &layer->norm[place], family,
                            there ? (*model->norm_names)[place] : NULL));
    }
    if (family->single && layer->mixer != JT_MIX_NONE)
        return JT_OK;
    if (layer->is_mixture)
        JT_TRY(jt_bind_mixture(b, &layer->mixture, family));
    JT_TRY(jt_bind_vector(b, &layer->scale, "layer_output_scale.weight", 1, true));
    if (layer->is_mixture && family->beside != JT_BESIDE_EXPERTS &&
        family->beside != JT_BESIDE_NORMED)
        return JT_OK;
    return jt_bind_dense(b, &layer->dense, family);
}

/* Of the two sets of names that a family may have, the one in the file. */
static const jt_norm_names *find_norm_names(const jt_model *model)
{
    const jt_norm_names *names = jt_family_norms(model->family);
    const jt_norm_names *other = model->family->norms_or;
    for (int place = 0; other && place < JT_NORM_PLACES; place++) {
        jt_binder b = {.file = model->file};
        char suffix[64];
        if (!(*other)[place] || (*other)[place] == (*names)[place])
            continue;
        snprintf(suffix, sizeof suffix, "%s.weight", (*other)[place]);
        if (jt_bind_find(&b, suffix))
            return other;
    }
    return names;
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
    JT_TRY(jt_bind_layer_inputs(&b, model));
    JT_TRY(jt_bind_norm(&b, &model->output_norm, model->family,
                        jt_family_last_norm(model->family)));
    JT_TRY(jt_bind(&b, &model->output, "output.weight", false, true, 2,
                   (size_t[]){vocab, d}));
    if (!jt_has(&model->output)) {
        model->output = model->embedding;
        model->output.weight = jt_weight_number(model->file, NULL);
    }
    JT_TRY(jt_bind_vector(&b, &model->output_bias, "output.bias", vocab, true));
    JT_TRY(jt_bind_rope_factors(&b, p));
    model->norm_names = find_norm_names(model);
    model->layers = jt_calloc((size_t)p->n_layers, sizeof *model->layers);
    if (!model->layers)
        return jt_fail_memory(err, "loading a model");
    for (b.layer = 0; b.layer < p->n_layers; b.layer++)
        JT_TRY(bind_layer(&b, &model->layers[b.layer], model));
    return JT_OK;
}
