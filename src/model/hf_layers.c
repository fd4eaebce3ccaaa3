/* What differs from layer to layer: lists in config.json, arrays in GGUF. */
#include <stdio.h>
#include <string.h>

#include "format/gguf_writer.h"
#include "model/family.h"
#include "model/hf.h"

enum { NAME_BYTES = 160 };

jt_status jt_hf_layers(jt_hf_job *job, int *count)
{
    int64_t layers = 0, predictors = 0;
    jt_hf_get_int(job, "block_count", &layers);
    jt_hf_get_int(job, "nextn_predict_layers", &predictors);
    layers -= predictors;
    if (layers < 1 || layers > JT_HF_MOST_LAYERS)
        return jt_fail(job->err, JT_E_FORMAT, "%lld layers, expected 1 to %d",
                       (long long)layers, JT_HF_MOST_LAYERS);
    *count = (int)layers;
    return JT_OK;
}

jt_status jt_hf_set_ints(jt_hf_job *job, const char *name, const int32_t *values,
                         int count)
{
    char key[NAME_BYTES];
    snprintf(key, sizeof key, "%s.%s", job->family->arch, name);
    return jt_gguf_set_i32s(job->writer, key, values, (uint64_t)count, job->err);
}

jt_status jt_hf_set_flags(jt_hf_job *job, const char *name, const bool *values,
                          int count)
{
    char key[NAME_BYTES];
    snprintf(key, sizeof key, "%s.%s", job->family->arch, name);
    return jt_gguf_set_bools(job->writer, key, values, (uint64_t)count, job->err);
}

bool jt_hf_layer_has(const jt_hf_job *job, int layer, const char *name)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    return jt_gguf_find(job->file, full) != NULL;
}

bool jt_hf_layer_is(const jt_hf_job *job, const char *path, int layer,
                    const char *words)
{
    const json_t *list = jt_hf_config(job, path);
    const char *word = json_string_value(json_array_get(list, (size_t)layer));
    size_t len = word ? strlen(word) : 0;
    for (const char *at = words; word && *at; at += strcspn(at, "|")) {
        at += *at == '|';
        if (strcspn(at, "|") == len && memcmp(at, word, len) == 0)
            return true;
    }
    return false;
}

jt_status jt_hf_put_layers(jt_hf_job *job, const char *path, const char *name,
                           const char *yes, const char *no)
{
    int layers = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    json_t *list = json_array();
    for (int i = 0; i < layers; i++)
        json_array_append_new(list,
                              json_string(jt_hf_layer_has(job, i, name) ? yes : no));
    return jt_hf_put(job, path, list);
}

/* ---- heads ----
 * Layers without attention have no heads of keys in GGUF. */

/* attention.head_count_kv: the heads of layers with attention, 0 for the others. */
jt_status jt_hf_set_kv_heads(jt_hf_job *job, const bool *attention, int layers)
{
    int32_t heads[JT_HF_MOST_LAYERS];
    const json_t *said = jt_hf_config(job, "num_key_value_heads|num_attention_heads");
    json_int_t count = json_integer_value(said);
    if (count < 1 || count > INT16_MAX)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: 'num_key_value_heads' makes no sense");
    for (int i = 0; i < layers; i++)
        heads[i] = attention[i] ? (int32_t)count : 0;
    return jt_hf_set_ints(job, "attention.head_count_kv", heads, layers);
}

/* From a list of kinds. */
jt_status jt_hf_import_kinds(jt_hf_job *job, const char *path, const char *words)
{
    bool attention[JT_HF_MOST_LAYERS];
    int layers = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    if (json_array_size(jt_hf_config(job, path)) != (size_t)layers)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: '%s' does not say what all %d layers are", path,
                       layers);
    for (int i = 0; i < layers; i++)
        attention[i] = jt_hf_layer_is(job, path, i, words);
    return jt_hf_set_kv_heads(job, attention, layers);
}

jt_status jt_hf_export_kv_heads(jt_hf_job *job)
{
    char key[96];
    int64_t most = 0, heads;
    snprintf(key, sizeof key, "%s.attention.head_count_kv", job->family->arch);
    const jt_gguf_kv *kv = jt_gguf_kv_find(job->file, key);
    if (!kv || (kv->type != JT_GGUF_ARRAY && !jt_gguf_get_i64(job->file, key, &most)))
        return JT_OK;
    for (uint64_t i = 0; jt_gguf_item_i64(kv, i, &heads); i++)
        most = heads > most ? heads : most;
    return jt_hf_put(job, "num_key_value_heads", json_integer(most));
}

jt_status jt_hf_import_dense_layers(jt_hf_job *job)
{
    static const char path[] = "mlp_layer_types";
    int layers = 0, dense = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    if (!jt_hf_config(job, path))
        return JT_OK;
    while (dense < layers && jt_hf_layer_is(job, path, dense, "dense"))
        dense++;
    return jt_hf_set_int(job, "leading_dense_block_count", dense);
}

jt_status jt_hf_put_expand(jt_hf_job *job)
{
    int64_t inner = 0, width = 0;
    jt_hf_get_int(job, "ssm.inner_size", &inner);
    jt_hf_get_int(job, "embedding_length", &width);
    if (width < 1 || inner % width)
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "key 'ssm.inner_size' is no multiple of the width");
    return jt_hf_put(job, "mamba_expand", json_integer(inner / width));
}

/* ---- windows ---- */

static const char pattern_name[] = "attention.sliding_window_pattern";

/* Without a key every n-th layer sees everything. */
static bool usual_window(const jt_hf_job *job, int layer)
{
    const jt_family *f = jt_family_find(job->family->arch, strlen(job->family->arch));
    int every = f && f->windows ? f->windows->full_every : 0;
    return every == 0 || layer % every < every - 1;
}

/* The older form is one number, or a word with L for a window. */
static bool configured_window(const jt_hf_job *job, int layer)
{
    const json_t *pattern = jt_hf_config(job, "sliding_window_pattern");
    const char *word = json_string_value(pattern);
    json_int_t every = json_integer_value(pattern);
    if (jt_hf_config(job, "layer_types"))
        return jt_hf_layer_is(job, "layer_types", layer, "sliding_attention");
    if (word && *word)
        return word[(size_t)layer % strlen(word)] == 'L';
    return every > 0 ? (layer + 1) % every != 0 : usual_window(job, layer);
}

jt_status jt_hf_import_pattern(jt_hf_job *job, bool always)
{
    bool local[JT_HF_MOST_LAYERS];
    int layers = 0;
    int64_t window = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    if (!jt_hf_get_int(job, "attention.sliding_window", &window) || window == 0)
        return JT_OK;
    for (int i = 0; i < layers; i++) {
        local[i] = configured_window(job, i);
        always = always || local[i] != usual_window(job, i);
    }
    return always ? jt_hf_set_flags(job, pattern_name, local, layers) : JT_OK;
}

/* What the file says of a layer: a flag of each, every n-th, or nothing. */
static bool file_window(const jt_hf_job *job, int layer)
{
    char key[NAME_BYTES];
    int64_t value;
    snprintf(key, sizeof key, "%s.%s", job->family->arch, pattern_name);
    const jt_gguf_kv *kv = jt_gguf_kv_find(job->file, key);
    if (kv && jt_gguf_item_i64(kv, (uint64_t)layer, &value))
        return value != 0;
    if (kv && jt_gguf_integer(kv, &value))
        return value <= 0 || layer % value < value - 1;
    return usual_window(job, layer);
}

jt_status jt_hf_export_pattern(jt_hf_job *job)
{
    int layers = 0;
    int64_t window = 0;
    JT_TRY(jt_hf_layers(job, &layers));
    jt_hf_get_int(job, "attention.sliding_window", &window);
    json_t *list = json_array();
    for (int i = 0; i < layers; i++)
        json_array_append_new(list, json_string(window && file_window(job, i)
                                                    ? "sliding_attention"
                                                    : "full_attention"));
    if (!window)
        JT_TRY(jt_hf_put(job, "sliding_window", json_null()));
    return jt_hf_put(job, "layer_types", list);
}
