/* X-LoRA as peft has it (peft 0.21, src/peft/tuners/xlora): layers of the head are
 * "internal_xlora_classifier.layers.N.weight" and ".bias", N growing (activations and
 * dropout count, too); the rows of a layerwise last one follow the linear layers in the
 * order of the model's modules. */
#include "adapt/blend_peft.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/blend_make.h"
#include "adapt/files.h"
#include "base/memory.h"
#include "format/gguf_file.h"

enum { MOST_LAYER = 64 };

bool jt_peft_is_xlora(const json_t *config)
{
    const char *type = json_string_value(json_object_get(config, "peft_type"));
    return type && strcmp(type, "XLORA") == 0;
}

typedef struct reader {
    const char *folder;
    const json_t *config;
    const jt_safetensors *file;
    const jt_model *model;
    jt_blend *blend;
    jt_err *err;
} reader;

/* ---- settings ---- */

static double number(const reader *r, const char *key, double usual)
{
    const json_t *value = json_object_get(r->config, key);
    return json_is_number(value) ? json_number_value(value) : usual;
}

static jt_status read_settings(const reader *r)
{
    jt_blend *b = r->blend;
    bool soft = !json_is_false(json_object_get(r->config, "enable_softmax"));
    bool after = json_is_true(json_object_get(r->config, "enable_softmax_topk"));
    if (soft == after)
        return jt_fail(r->err, JT_E_UNSUPPORTED,
                       "adapter_config.json: X-LoRA %s softmax",
                       soft ? "with a second" : "without a");
    if (number(r, "scaling_pass_value", 0.0) != 0.0)
        return jt_fail(r->err, JT_E_UNSUPPORTED,
                       "adapter_config.json: a first pass of X-LoRA with adapters");
    b->gate_after = after;
    b->temperature = after ? 1.0f : (float)number(r, "softmax_temperature", 1.0);
    b->scale = (float)number(r, "global_scaling_weight", 1.0);
    return JT_OK;
}

/* ---- LoRAs ---- */

static jt_status open_all(const reader *r, jt_adapter **adapters)
{
    const char *key;
    json_t *value;
    size_t i = 0;
    json_object_foreach(json_object_get(r->config, "adapters"), key, value)
    {
        char path[PATH_MAX];
        if (*key == '.' || strchr(key, '/') || strlen(key) >= JT_BLEND_NAME)
            return jt_fail(r->err, JT_E_FORMAT, "adapter_config.json: an adapter '%s'",
                           key);
        snprintf(path, sizeof path, "%s/%s", r->folder, key);
        memcpy(r->blend->name[i], key, strlen(key));
        JT_TRY(jt_adapter_read_peft(&adapters[i++], path, r->model, r->err));
    }
    return jt_blend_take(r->blend, (const jt_adapter *const *)adapters, NULL, r->err);
}

static jt_status read_adapters(const reader *r)
{
    size_t n = r->blend->n;
    jt_adapter **adapters = jt_calloc(n, sizeof *adapters);
    if (!adapters)
        return jt_fail_memory(r->err, "reading an adapter");
    jt_status status = open_all(r, adapters);
    for (size_t i = 0; i < n; i++)
        jt_adapter_free(adapters[i]);
    free(adapters);
    return status;
}

/* Linear layers in the order of modules: by layer, then as below. */
static int place_of(const jt_adapter_bank *bank)
{
    static const char *const parts[] = {"attn_q.",      "attn_k.",   "attn_v.",
                                        "attn_output.", "ffn_gate.", "ffn_up.",
                                        "ffn_down."};
    int layer = -1, n = (int)(sizeof parts / sizeof *parts);
    if (sscanf(bank->target, "blk.%d.", &layer) != 1)
        return INT_MAX; /* the output comes last */
    for (int i = 0; i < n; i++) {
        if (strstr(bank->target, parts[i]))
            return layer * n + i;
    }
    return -1;
}

static int by_place(const void *a, const void *b)
{
    int x = place_of(a), y = place_of(b);
    return (x > y) - (x < y);
}

static jt_status sort_banks(const reader *r)
{
    jt_blend *b = r->blend;
    for (size_t i = 0; i < b->n_banks; i++) {
        if (place_of(&b->bank[i]) < 0)
            return jt_fail(r->err, JT_E_UNSUPPORTED, "X-LoRA of '%s'",
                           b->bank[i].target);
    }
    qsort(b->bank, b->n_banks, sizeof *b->bank, by_place);
    return JT_OK;
}

/* ---- the head ---- */

static const jt_safetensor *layer_of(const reader *r, int i, const char *part)
{
    char name[128];
    snprintf(name, sizeof name, "base_model.internal_xlora_classifier.layers.%d.%s", i,
             part);
    return jt_safetensors_find(r->file, name);
}

static jt_status fill(const reader *r, jt_tensor *to, const jt_safetensor *from)
{
    if (!from || from->n_dims != to->n_dims ||
        jt_safetensor_values(from) != jt_rows(to) * jt_cols(to) ||
        from->shape[0] != to->shape[0])
        return jt_fail(r->err, JT_E_FORMAT,
                       "the head of X-LoRA is not complete, or does not go with its "
                       "adapters");
    return jt_safetensor_floats(to->data, from, r->err);
}

static jt_status read_head(const reader *r)
{
    jt_blend *b = r->blend;
    const jt_safetensor *weight[JT_HEAD_LAYERS], *bias[JT_HEAD_LAYERS];
    int depth = 0, wanted = (int)number(r, "xlora_depth", 1.0);
    for (int i = 0; i < MOST_LAYER && depth < JT_HEAD_LAYERS; i++) {
        weight[depth] = layer_of(r, i, "weight");
        bias[depth] = layer_of(r, i, "bias");
        depth += weight[depth] && weight[depth]->n_dims == 2;
    }
    if (depth != wanted || depth < 1)
        return jt_fail(r->err, JT_E_FORMAT, "the head of X-LoRA has %d layers, not %d",
                       depth, wanted);
    for (int i = 1; i < depth; i++) { /* before room is made for them */
        if (weight[i]->shape[1] != weight[0]->shape[0])
            return jt_fail(r->err, JT_E_FORMAT, "layers of X-LoRA's head do not fit");
    }
    size_t width = depth > 1 ? (size_t)weight[0]->shape[0] : 1;
    bool layerwise = json_is_true(json_object_get(r->config, "layerwise_scalings"));
    JT_TRY(jt_blend_add_head(b, (size_t)weight[0]->shape[1], depth, width, layerwise,
                             r->err));
    for (int i = 0; i < depth; i++) {
        JT_TRY(fill(r, &b->head_weight[i], weight[i]));
        JT_TRY(fill(r, &b->head_bias[i], bias[i]));
    }
    return jt_blend_check(b, r->err);
}

/* ---- the whole ---- */

static jt_status read_all(reader *r)
{
    static const char name[] = "x-lora";
    const jt_blend_method *method = jt_blend_method_find(name, sizeof name - 1);
    size_t n = json_object_size(json_object_get(r->config, "adapters"));
    double k = number(r, "top_k_lora", 0.0);
    if (!(k >= 0.0 && k <= (double)n))
        return jt_fail(r->err, JT_E_FORMAT, "adapter_config.json: top_k_lora %g of %zu",
                       k, n);
    JT_TRY(jt_blend_new(&r->blend, method, n, (int)k, r->err));
    JT_TRY(read_settings(r));
    JT_TRY(read_adapters(r));
    JT_TRY(sort_banks(r));
    return read_head(r);
}

jt_status jt_blend_read_peft(jt_adapter **out, const char *folder, const json_t *config,
                             const jt_safetensors *file, const jt_model *model,
                             jt_err *err)
{
    reader r = {
        .folder = folder, .config = config, .file = file, .model = model, .err = err};
    jt_adapter *a;
    JT_TRY(jt_adapter_new(&a, &jt_adapter_lora, folder, err));
    jt_status status = jt_adapter_set_model(a, model, err);
    if (status == JT_OK)
        status = read_all(&r);
    a->blend = r.blend;
    if (status == JT_OK)
        *out = a;
    else
        jt_adapter_free(a);
    return status;
}
