#include "adapt/peft_front.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/files.h"
#include "adapt/front.h"
#include "adapt/made.h"
#include "base/memory.h"
#include "format/gguf_file.h"
#include "model/model.h"

static const char tensor_name[] = "prompt_embeddings";
static const jt_str place_name = {"embedding", 9};

/* What embeddings are multiplied by on their way to the first layer. In transformers
 * the table of Gemma does that by itself, and what does not come out of it is left
 * alone. */
static float scale_of(const jt_model *model)
{
    bool by_table = strncmp(model->family->arch, "gemma", 5) == 0;
    return by_table ? 1.0f : model->params.embedding_scale;
}

/* With virtual tokens transformers leaves the multiplier of Falcon-H1 away, also of the
 * text: what was tuned so is for another model. */
static jt_status check_embeddings(const jt_model *model, jt_err *err)
{
    if (strcmp(model->family->arch, "falcon-h1") != 0)
        return JT_OK;
    return jt_fail(err, JT_E_UNSUPPORTED,
                   "PEFT's virtual tokens in Falcon-H1, whose embeddings transformers "
                   "then takes without their multiplier");
}

/* ---- the order of keys ---- */

/* The rows of a layer that make keys: of a matrix of their own, or of q, k and v. */
static jt_status find_keys(const jt_peft_names *names, int layer, jt_peft_place *place,
                           size_t *first, jt_err *err)
{
    const jt_attention *t = &names->model->layers[layer].attention;
    char target[JT_PEFT_NAME], parameter[JT_PEFT_NAME];
    *first = 0;
    snprintf(target, sizeof target, "blk.%d.attn_k.weight", layer);
    if (!jt_gguf_find(names->model->file, target)) {
        snprintf(target, sizeof target, "blk.%d.attn_qkv.weight", layer);
        *first = (size_t)t->n_heads * (size_t)t->k_dim;
    }
    if (jt_gguf_find(names->model->file, target) &&
        jt_peft_parameter(names, target, parameter, place))
        return JT_OK;
    return jt_fail(err, JT_E_UNSUPPORTED,
                   "a prefix in layer %d, whose keys have no name in transformers",
                   layer);
}

/* order[i]: where number i of the keys [kv_heads * k_dim] of a layer stands in
 * transformers. The rows of their matrix tell, which may be one of q, k and v there. */
static jt_status order_keys(jt_peft_names *names, int layer, uint32_t *order,
                            jt_err *err)
{
    const jt_attention *t = &names->model->layers[layer].attention;
    size_t n = (size_t)t->n_kv_heads * (size_t)t->k_dim, first;
    size_t whole =
        n + (size_t)t->n_heads * (size_t)t->k_dim + (size_t)(t->n_kv_heads * t->v_dim);
    jt_peft_place place;
    jt_status status = JT_OK;
    uint32_t least = UINT32_MAX;
    JT_TRY(find_keys(names, layer, &place, &first, err));
    size_t rows = (size_t)place.tensor->shape[0];
    const uint32_t *map = jt_peft_map(names, &place, rows, &status, err);
    if (status == JT_E_FORMAT)
        map = jt_peft_map(names, &place, whole, &status, err);
    JT_TRY(status);
    for (size_t i = 0; i < n && first + n <= rows; i++)
        least = map[first + i] < least ? map[first + i] : least;
    for (size_t i = 0; i < n && status == JT_OK; i++) {
        order[i] = first + n <= rows ? map[first + i] - least : UINT32_MAX;
        if (order[i] >= n)
            status = jt_fail(err, JT_E_UNSUPPORTED,
                             "a prefix in layer %d, whose keys transformers has in "
                             "an order that is not known",
                             layer);
    }
    return status;
}

/* The tensor of PEFT, and the keys and values of Junto [layers, tokens, n]; to one of
 * the sides. */
static jt_status exchange_prefix(float *peft, const jt_adapter *a, bool reads,
                                 jt_peft_names *names, jt_err *err)
{
    const jt_tensor *k = &a->source[0].t, *v = &a->source[1].t;
    size_t layers = k->shape[0], tokens = k->shape[1], n = k->shape[2];
    uint32_t *order = jt_alloc(n, sizeof *order);
    jt_status status =
        order ? JT_OK : jt_fail_memory(err, "reading or writing an adapter");
    for (size_t layer = 0; layer < layers && status == JT_OK; layer++) {
        status = order_keys(names, (int)layer, order, err);
        for (size_t t = 0; t < tokens && status == JT_OK; t++) {
            float *at = peft + (t * layers + layer) * 2 * n;
            float *key = jt_row(k, layer * tokens + t);
            float *value = jt_row(v, layer * tokens + t);
            for (size_t i = 0; i < n; i++) {
                if (reads)
                    key[i] = at[order[i]];
                else
                    at[order[i]] = key[i];
            }
            memcpy(reads ? value : at + n, reads ? at + n : value, n * sizeof *at);
        }
    }
    free(order);
    return status;
}

/* ---- in ---- */

/* What the configuration says, where it says something. */
static jt_status expect(const json_t *config, const char *key, size_t number,
                        jt_err *err)
{
    const json_t *value = json_object_get(config, key);
    if (!value || json_is_null(value) ||
        (json_is_integer(value) && json_integer_value(value) == (json_int_t)number))
        return JT_OK;
    return jt_fail(err, JT_E_FORMAT,
                   "adapter_config.json: '%s' is another number than %zu, which the "
                   "model or the tensor has",
                   key, number);
}

static jt_status find_tensor(const json_t *config, const jt_safetensors *file,
                             const jt_safetensor **out, jt_err *err)
{
    const json_t *modules = json_object_get(config, "num_transformer_submodules");
    *out = jt_safetensors_find(file, tensor_name);
    if (json_is_integer(modules) && json_integer_value(modules) != 1)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "virtual tokens of models with an encoder and a decoder");
    if (!*out)
        return jt_fail(err, JT_E_FORMAT, "tensor '%s' is missing", tensor_name);
    for (size_t i = 0; i < jt_safetensors_count(file); i++) {
        if (jt_safetensors_at(file, i) != *out)
            return jt_fail(err, JT_E_UNSUPPORTED, "tensor '%.*s' beside virtual tokens",
                           JT_GGUF_SHOW(jt_safetensors_at(file, i)->name));
    }
    if ((*out)->n_dims != 2)
        return jt_fail(err, JT_E_FORMAT, "tensor '%s' is no matrix", tensor_name);
    return expect(config, "num_virtual_tokens", (size_t)(*out)->shape[0], err);
}

static jt_status read_embeddings(jt_adapter *a, const json_t *config,
                                 const jt_safetensor *t, const jt_model *model,
                                 jt_err *err)
{
    size_t at, shape[2] = {(size_t)t->shape[0], (size_t)t->shape[1]};
    float scale = scale_of(model);
    JT_TRY(check_embeddings(model, err));
    JT_TRY(expect(config, "token_dim", shape[1], err));
    JT_TRY(jt_adapter_add_source(a, &at, place_name, "soft_prompt", JT_F32, 2, shape,
                                 err));
    float *e = a->source[at].t.data;
    JT_TRY(jt_safetensor_floats(e, t, err));
    for (size_t i = 0; i < shape[0] * shape[1]; i++)
        e[i] *= scale;
    return a->kind->making->bind(a, 1.0f, err);
}

static jt_status read_prefix(jt_adapter *a, const json_t *config,
                             const jt_safetensor *t, jt_peft_names *names, jt_err *err)
{
    const jt_params *params = &names->model->params;
    const jt_attention *first = &names->model->layers[0].attention;
    size_t layers = (size_t)params->n_layers, heads = (size_t)first->n_kv_heads, at;
    size_t n = (size_t)t->shape[1] / 2 / layers;
    size_t shape[3] = {layers, (size_t)t->shape[0], n};
    JT_TRY(jt_front_check_layers(names->model, err));
    JT_TRY(expect(config, "num_layers", layers, err));
    JT_TRY(expect(config, "num_attention_heads", heads, err));
    JT_TRY(expect(config, "token_dim", n, err));
    if (t->shape[1] != 2 * layers * n)
        return jt_fail(err, JT_E_FORMAT,
                       "tensor '%s' has %llu numbers for a token, which are not keys "
                       "and values of %zu layers",
                       tensor_name, (unsigned long long)t->shape[1], layers);
    JT_TRY(
        jt_adapter_add_source(a, &at, place_name, "prefix_k", JT_F32, 3, shape, err));
    JT_TRY(
        jt_adapter_add_source(a, &at, place_name, "prefix_v", JT_F32, 3, shape, err));
    JT_TRY(a->kind->making->bind(a, 1.0f, err));
    JT_TRY(a->kind->fits(a, names->model, err));
    float *values = jt_alloc(jt_safetensor_values(t), sizeof *values);
    if (!values)
        return jt_fail_memory(err, "reading an adapter");
    jt_status status = jt_safetensor_floats(values, t, err);
    if (status == JT_OK)
        status = exchange_prefix(values, a, true, names, err);
    free(values);
    return status;
}

static jt_status check_values(const jt_adapter *a, jt_err *err)
{
    for (size_t i = 0; i < a->n_sources; i++) {
        const jt_tensor *t = &a->source[i].t;
        for (size_t j = 0; j < jt_rows(t) * jt_cols(t); j++) {
            if (!isfinite(((const float *)t->data)[j]))
                return jt_fail(err, JT_E_FORMAT,
                               "tensor '%s' has a value that is not finite",
                               tensor_name);
        }
    }
    return JT_OK;
}

jt_status jt_peft_read_front(jt_adapter *a, const json_t *config,
                             const jt_safetensors *file, jt_peft_names *names,
                             jt_err *err)
{
    const jt_safetensor *t;
    JT_TRY(find_tensor(config, file, &t, err));
    if (a->kind == &jt_adapter_prefix)
        JT_TRY(read_prefix(a, config, t, names, err));
    else
        JT_TRY(read_embeddings(a, config, t, names->model, err));
    return check_values(a, err);
}

/* ---- out ---- */

json_t *jt_peft_front_config(const jt_adapter *a, const jt_model *model)
{
    const jt_tensor *t = &a->source[0].t;
    bool prefix = a->kind == &jt_adapter_prefix;
    const jt_attention *first = &model->layers[0].attention;
    int heads = prefix ? first->n_kv_heads : first->n_heads;
    json_t *config =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:b}", "peft_type",
                  prefix ? "PREFIX_TUNING" : "PROMPT_TUNING", "peft_version", "0.19.1",
                  "task_type", "CAUSAL_LM", "num_virtual_tokens", (int)a->place[0].rank,
                  "token_dim", (int)jt_cols(t), "num_layers", model->params.n_layers,
                  "num_attention_heads", heads, "num_transformer_submodules", 1,
                  "inference_mode", 1);
    if (config && prefix)
        json_object_set_new(config, "prefix_projection", json_false());
    return config;
}

jt_status jt_peft_write_front(jt_safetensors_writer *out, const jt_adapter *a,
                              jt_peft_names *names, jt_err *err)
{
    const jt_tensor *t = &a->source[0].t;
    bool prefix = a->kind == &jt_adapter_prefix;
    if (!prefix)
        JT_TRY(check_embeddings(names->model, err));
    size_t tokens = a->place[0].rank, n = jt_rows(t) * jt_cols(t) * (prefix ? 2 : 1);
    const uint64_t shape[2] = {tokens, n / tokens};
    float *values = jt_alloc(n, sizeof *values), scale = scale_of(names->model);
    jt_status status =
        values ? jt_safetensors_add(out, tensor_name, JT_ST_F32, 2, shape, err)
               : jt_fail_memory(err, "writing an adapter");
    if (status == JT_OK && prefix)
        status = exchange_prefix(values, a, false, names, err);
    for (size_t i = 0; status == JT_OK && !prefix && i < n; i++)
        values[i] = ((const float *)t->data)[i] / scale;
    if (status == JT_OK)
        status = jt_safetensors_write(out, values, n * sizeof *values, err);
    free(values);
    return status;
}
