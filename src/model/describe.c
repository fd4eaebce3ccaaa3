#include <string.h>

#include "format/gguf_file.h"
#include "model/cache.h"

static uint64_t values_of(const jt_tensor *t)
{
    return jt_has(t) ? (uint64_t)jt_rows(t) * jt_cols(t) : 0;
}

static uint64_t bytes_of(const jt_tensor *t)
{
    uint64_t bytes = 0;
    for (size_t i = 0; t->types && i < t->shape[0]; i++)
        bytes += jt_dtype_row_bytes(t->types[i], jt_cols(t)) * t->shape[1];
    if (t->types || !jt_has(t))
        return bytes;
    return (uint64_t)jt_rows(t) * jt_dtype_row_bytes(t->dtype, jt_cols(t));
}

/* Values and bytes of a bank that a token uses, `used` of its experts. */
static void add_bank(jt_model_info *info, const jt_bank *bank, int used)
{
    for (int p = 0; p < JT_PARTS && bank->n_experts; p++) {
        uint64_t experts = (uint64_t)bank->n_experts, k = (uint64_t)used;
        info->n_active_params += values_of(&bank->part[p]) / experts * k;
        info->active_bytes += bytes_of(&bank->part[p]) / experts * k;
        info->n_active_params += values_of(&bank->bias[p]) / experts * k;
        info->active_bytes += bytes_of(&bank->bias[p]) / experts * k;
    }
}

static void add_tensor(jt_model_info *info, const jt_tensor *t)
{
    info->n_active_params += values_of(t);
    info->active_bytes += bytes_of(t);
}

/* Of a table a token reads one row. */
static void add_row(jt_model_info *info, const jt_tensor *table)
{
    if (!jt_has(table))
        return;
    info->n_active_params += (uint64_t)jt_cols(table);
    info->active_bytes += jt_dtype_row_bytes(table->dtype, jt_cols(table));
}

static void max_into(int *most, size_t value)
{
    if ((size_t)*most < value)
        *most = (int)value;
}

static void add_norm(jt_model_info *info, const jt_norm *norm)
{
    add_tensor(info, &norm->weight);
    add_tensor(info, &norm->bias);
}

static void add_mixture(jt_model_info *info, const jt_mixture *m)
{
    add_tensor(info, &m->router.weight);
    add_tensor(info, &m->router.bias);
    add_tensor(info, &m->router.selection_bias);
    add_tensor(info, &m->router.expert_scale);
    add_tensor(info, &m->shared_gate);
    int experts = m->router.n_experts;
    int used = m->router.k < experts ? m->router.k : experts; /* the rest are null */
    add_bank(info, &m->experts, used);
    add_bank(info, &m->shared, 1);
    info->n_moe_layers++;
    max_into(&info->n_experts, (size_t)experts);
    max_into(&info->n_experts_used, (size_t)used);
    max_into(&info->expert_width, m->experts.width);
    max_into(&info->shared_width, m->shared.width);
}

static void add_recurrent(jt_model_info *info, const jt_layer *layer)
{
    size_t count;
    const jt_recurrent_part *part = jt_recurrent_parts(layer->recurrent.kind, &count);
    for (size_t i = 0; i < count; i++)
        add_tensor(info, (const jt_tensor *)((const char *)&layer->recurrent +
                                             part[i].offset));
}

static void add_layer(jt_model_info *info, const jt_layer *layer)
{
    const jt_attention *a = &layer->attention;
    const jt_latent *l = &layer->latent;
    const jt_tensor *always[] = {&a->q,           &a->k,      &a->v,
                                 &a->o,           &a->q_bias, &a->k_bias,
                                 &a->v_bias,      &a->o_bias, &a->q_norm,
                                 &a->k_norm,      &a->sinks,  &l->q_a,
                                 &l->q_a_norm,    &l->q_b,    &l->kv_a,
                                 &l->kv_a_norm,   &l->kv_b,   &l->k_b,
                                 &l->v_b,         &l->o,      &layer->input_gate,
                                 &layer->input_up};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        add_tensor(info, always[i]);
    for (int place = 0; place < JT_NORM_PLACES; place++)
        add_norm(info, &layer->norm[place]);
    add_recurrent(info, layer);
    add_bank(info, &layer->dense, 1);
    max_into(&info->dense_width, layer->dense.width);
    if (layer->is_mixture)
        add_mixture(info, &layer->mixture);
}

/* Bytes of a tensor by type. */
static void add_types(jt_model_info *info, const jt_gguf_tensor *t)
{
    uint64_t values = 1;
    for (int d = 1; d < t->n_dims; d++)
        values *= t->shape[d];
    for (uint64_t i = 0; t->types && i < t->shape[0]; i++)
        info->dtype_bytes[t->types[i]] += values / jt_dtype_block_values(t->types[i]) *
                                          jt_dtype_block_bytes(t->types[i]);
    if (!t->types)
        info->dtype_bytes[t->dtype] += t->bytes;
}

static void count_file(jt_model_info *info, const jt_gguf *file)
{
    info->file_bytes = jt_gguf_file_bytes(file);
    info->laid_out = file->laid_out;
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        static const char training[] = "junto.train/"; /* state of a checkpoint */
        uint64_t values = 1;
        if (t->name.len >= sizeof training - 1 &&
            memcmp(t->name.data, training, sizeof training - 1) == 0)
            continue;
        for (int d = 0; d < t->n_dims; d++)
            values *= t->shape[d];
        info->n_params += values;
        add_types(info, t);
    }
}

void jt_model_describe(const jt_model *model, jt_model_info *info)
{
    const jt_params *p = &model->params;
    *info = (jt_model_info){
        .path = jt_gguf_path(model->file),
        .family = model->family->arch,
        .n_layers = p->n_layers,
        .d_model = p->d_model,
        .n_heads = p->n_heads,
        .n_kv_heads = p->n_kv_heads,
        .head_dim = p->k_dim,
        .n_ctx_train = p->n_ctx_train,
        .n_vocab = p->n_vocab,
    };
    jt_gguf_get_str(model->file, "general.name", &info->name);
    count_file(info, model->file);
    for (int i = 0; i < p->n_layers; i++) {
        add_layer(info, &model->layers[i]);
        info->kv_bytes_per_token +=
            jt_cache_token_bytes(&model->layers[i], JT_F16, JT_F16);
        info->state_bytes += jt_cache_state_bytes(&model->layers[i]);
    }
    add_norm(info, &model->output_norm);
    add_tensor(info, &model->output);
    add_tensor(info, &model->output_bias);
    if (model->output.data != model->embedding.data)
        add_row(info, &model->embedding);
    add_row(info, &model->layer_embedding);
    add_tensor(info, &model->layer_projection);
    add_tensor(info, &model->layer_norm);
}
