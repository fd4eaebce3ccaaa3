#include "learn/tuning_blend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/blend_make.h"
#include "adapt/pattern.h"
#include "base/memory.h"
#include "base/random.h"
#include "format/gguf_file.h"
#include "junto/choose.h"
#include "learn/k_shot.h"
#include "model/model.h"

enum { STREAM_BANKS = 1 << 20, STREAM_HEAD = 1 << 21 };

const jt_blend_method *jt_tuning_method(const jt_config *config)
{
    const char *kind = config->adapter.kind;
    return jt_blend_method_find(kind, strlen(kind));
}

typedef struct making {
    const jt_config *config;
    const jt_model *model;
    jt_blend *blend;
    jt_err *err;
    const size_t *chosen; /* [blend->n] numbers of parts, or NULL: all */
} making;

/* ---- first values ---- */

static void uniform(jt_rng *rng, jt_tensor *t, float most)
{
    float *x = t->data;
    for (size_t i = 0; i < jt_rows(t) * jt_cols(t); i++)
        x[i] = (2.0f * jt_rng_float(rng) - 1.0f) * most;
}

static void start_bank(const making *m, size_t i, bool fresh)
{
    const float deviation = 0.02f;
    jt_adapter_bank *bank = &m->blend->bank[i];
    jt_rng rng = {(uint64_t)m->config->train.seed, STREAM_BANKS + i, 0};
    if (fresh)
        uniform(&rng, &bank->a, 1.0f / sqrtf((float)bank->cols));
    float *gate = bank->gate.data;
    for (size_t j = 0; gate && j < m->blend->n * bank->cols; j++)
        gate[j] = deviation * jt_rng_normal(&rng);
}

static void start_head(const making *m)
{
    for (int i = 0; i < m->blend->depth; i++) {
        jt_tensor *w = &m->blend->head_weight[i];
        jt_rng rng = {(uint64_t)m->config->train.seed, STREAM_HEAD + (uint64_t)i, 0};
        float most = 1.0f / sqrtf((float)jt_cols(w));
        uniform(&rng, w, most);
        uniform(&rng, &m->blend->head_bias[i], most);
    }
}

/* ---- fresh adapters ---- */

static bool in_ffn(const char *name)
{
    return strstr(name, ".ffn_gate.weight") || strstr(name, ".ffn_up.weight") ||
           strstr(name, ".ffn_down.weight");
}

static jt_status add_fresh(const making *m, const jt_pattern *pattern)
{
    const jt_gguf *file = jt_model_file(m->model);
    bool ffn = m->blend->method->producer == JT_BY_LAYER;
    for (size_t i = 0; i < jt_gguf_tensor_count(file); i++) {
        const jt_gguf_tensor *t = jt_gguf_tensor_at(file, i);
        jt_adapter_bank *bank;
        size_t shape[3];
        char name[128];
        jt_err ignored;
        snprintf(name, sizeof name, "%.*s", JT_GGUF_SHOW(t->name));
        if (!jt_pattern_matches(pattern, name, false) || (ffn && !in_ffn(name)) ||
            strcmp(name, "token_embd.weight") == 0 ||
            jt_adapter_target(file, t->name, shape, &ignored) != JT_OK || shape[0] != 1)
            continue;
        JT_TRY(jt_blend_add(m->blend, &bank, t->name, shape[1], shape[2],
                            (size_t)m->config->adapter.rank, m->err));
    }
    if (m->blend->n_banks)
        return JT_OK;
    return jt_fail(m->err, JT_E_ARG,
                   "adapter.target: no %s has a name with '%.100s' in it",
                   ffn ? "weight of a dense FFN" : "weight that is one matrix",
                   m->config->adapter.target);
}

static jt_status make_fresh(const making *m)
{
    const jt_config_adapter *c = &m->config->adapter;
    jt_pattern *pattern;
    m->blend->scale = (float)(c->alpha / c->rank);
    JT_TRY(jt_pattern_new(&pattern, c->target, m->err));
    jt_status status = add_fresh(m, pattern);
    jt_pattern_free(pattern);
    return status;
}

/* ---- adapters of others ---- */

/* Without folder and ending: what people know an adapter by. A run's own file has the
 * name of its folder. */
static void set_name(char name[JT_BLEND_NAME], const char *path)
{
    static const char usual[] = "/adapter.safetensors";
    size_t len = strlen(path), tail = sizeof usual - 1;
    if (len > tail && strcmp(path + len - tail, usual) == 0)
        len -= tail;
    size_t start = len;
    while (start > 0 && path[start - 1] != '/')
        start--;
    snprintf(name, JT_BLEND_NAME, "%.*s", (int)(len - start), path + start);
}

static jt_status take(const making *m, jt_adapter **adapters)
{
    const jt_config_adapter *c = &m->config->adapter;
    for (size_t i = 0; i < m->blend->n; i++) {
        const char *path = c->part[m->chosen ? m->chosen[i] : i].path;
        JT_TRY(jt_adapter_open(&adapters[i], path, m->model, m->err));
        set_name(m->blend->name[i], path);
    }
    return jt_blend_take(m->blend, (const jt_adapter *const *)adapters, c->target,
                         m->err);
}

static jt_status take_parts(const making *m)
{
    size_t n = m->blend->n;
    jt_adapter **adapters = jt_calloc(n, sizeof *adapters);
    if (!adapters)
        return jt_fail_memory(m->err, "reading adapters");
    jt_status status = take(m, adapters);
    for (size_t i = 0; i < n; i++)
        jt_adapter_free(adapters[i]);
    free(adapters);
    return status;
}

/* ---- markers ---- */

jt_status jt_tuning_marker(jt_tokens *ids, const jt_model *model, const char *text,
                           const char *key, jt_err *err)
{
    const jt_tokenizer *tok = jt_model_tokenizer(model);
    if (!tok)
        return jt_fail(err, JT_E_ARG, "%s: the model has no tokenizer", key);
    return jt_encode(tok, text, strlen(text), JT_ENCODE_PARSE_SPECIAL, ids, err);
}

static jt_status set_markers(const making *m)
{
    const jt_config_adapter *c = &m->config->adapter;
    for (size_t i = 0; i < m->blend->n; i++) {
        size_t part = m->chosen ? m->chosen[i] : i;
        const char *marker = part < c->n_parts ? c->part[part].marker : "";
        char key[48];
        jt_tokens ids = {0};
        if (!*marker)
            continue;
        snprintf(key, sizeof key, "adapter.part.%zu.marker", part);
        jt_status status = jt_tuning_marker(&ids, m->model, marker, key, m->err);
        if (status == JT_OK)
            status = jt_blend_set_markers(m->blend, i, ids.ids, ids.count, m->err);
        free(ids.ids);
        JT_TRY(status);
    }
    return JT_OK;
}

/* ---- the whole ---- */

static jt_status fill(const making *m, bool fresh)
{
    const jt_config_adapter *c = &m->config->adapter;
    jt_producer producer = m->blend->method->producer;
    JT_TRY(fresh ? make_fresh(m) : take_parts(m));
    m->blend->temperature = (float)c->temperature;
    JT_TRY(set_markers(m));
    size_t d = (size_t)m->model->params.d_model;
    if (producer == JT_BY_PASS)
        JT_TRY(jt_blend_add_head(m->blend, d, c->head_depth,
                                 c->head_width ? (size_t)c->head_width : d,
                                 c->layerwise, m->err));
    for (size_t i = 0; i < m->blend->n_banks; i++)
        start_bank(m, i, fresh);
    start_head(m);
    return JT_OK;
}

/* Parts are all files, or all fresh. */
static jt_status look_at_parts(const jt_config_adapter *c, size_t *files, jt_err *err)
{
    *files = 0;
    for (size_t i = 0; i < c->n_parts; i++)
        *files += *c->part[i].path != '\0';
    if (*files && *files != c->n_parts)
        return jt_fail(err, JT_E_ARG, "adapter.part: give all of them a path, or none");
    return JT_OK;
}

jt_status jt_tuning_blend(jt_blend **out, const jt_config *config,
                          const jt_model *model, jt_err *err)
{
    const jt_config_adapter *c = &config->adapter;
    const jt_blend_method *method = jt_tuning_method(config);
    size_t files, chosen[JT_GROUP_MOST];
    size_t n = c->n_parts ? c->n_parts : (size_t)c->experts;
    making m = {config, model, NULL, err, NULL};
    JT_TRY(look_at_parts(c, &files, err));
    if (files && c->choose) {
        JT_TRY(jt_k_shot_choose(chosen, config, model, err));
        m.chosen = chosen;
        n = (size_t)c->choose;
    }
    if (files && method->fresh)
        return jt_fail(err, JT_E_ARG, "adapter.part: %s begins with LoRAs of its own",
                       method->name);
    JT_TRY(jt_blend_new(&m.blend, method, n, c->top_k, err));
    jt_status status = fill(&m, files == 0);
    if (status == JT_OK)
        *out = m.blend;
    else
        jt_blend_free(m.blend);
    return status;
}

bool jt_tuning_trains(const jt_config *config, const jt_blend_part *part)
{
    const jt_config_adapter *c = &config->adapter;
    bool fresh = c->n_parts == 0 || !*c->part[0].path;
    if (jt_tuning_method(config)->producer == JT_BY_RULE)
        return jt_has(part->tensor); /* nothing else could be trained */
    return jt_has(part->tensor) && (part->decides || fresh || c->train_experts ||
                                    jt_tuning_method(config)->trains_all);
}

jt_gate_loss jt_tuning_gate_loss(const jt_config *config, const jt_blend *blend)
{
    const jt_config_adapter *c = &config->adapter;
    bool by_label = strcmp(blend->method->name, "meteora") == 0;
    bool shaped = strcmp(blend->method->name, "lora-mixer") == 0;
    bool gates = blend->method->producer == JT_BY_GATE;
    return (jt_gate_loss){.beta = by_label ? (float)c->gate_loss : 0.0f,
                          .alpha = shaped ? (float)c->balance : 0.0f,
                          .lambda = shaped ? (float)c->entropy : 0.0f,
                          .gates = gates ? (int)blend->n_banks : 1,
                          .n = (int)blend->n,
                          .k = blend->k};
}
