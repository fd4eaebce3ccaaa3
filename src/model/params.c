#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/join.h"
#include "model/model.h"

/* Keys of this architecture, "qwen3moe.block_count", or of another prefix. */
typedef struct reader {
    const jt_gguf *file;
    const jt_family *family;
    const char *prefix;
    jt_err *err;
    char key[128];
} reader;

static const char *key_of(reader *r, const char *name)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->prefix, name);
    return r->key;
}

/* An integer in [low, high]; `otherwise` when the key is missing and that is in the
 * range. On failure *out is `low`. Arrays of one value per layer are refused by name:
 * families that need them come with their own rows. */
static jt_status read_int(reader *r, const char *name, int low, int high, int otherwise,
                          int *out)
{
    int64_t value = otherwise;
    *out = low;
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, key_of(r, name));
    if (kv && !jt_gguf_get_i64(r->file, r->key, &value))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is not a whole number", r->key);
    if (!kv && otherwise < low)
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is missing", r->key);
    if (value < low || value > high)
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is %lld, expected %d to %d",
                       r->key, (long long)value, low, high);
    *out = (int)value;
    return JT_OK;
}

/* A finite number > low; `otherwise` when the key is missing. */
static jt_status read_float(reader *r, const char *name, float low, float otherwise,
                            float *out)
{
    *out = otherwise;
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, key_of(r, name));
    if (kv && !jt_gguf_get_f32(r->file, r->key, out))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is not a number", r->key);
    if (!isfinite(*out) || !(*out > low))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is missing or out of range",
                       r->key);
    return JT_OK;
}

/* True or false; *out stays when the key is missing. */
static jt_status read_bool(reader *r, const char *name, bool *out)
{
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, key_of(r, name));
    if (kv && !jt_gguf_get_bool(r->file, r->key, out))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is not true or false", r->key);
    return JT_OK;
}

/* A name into `text`; `otherwise` when the key is missing. */
static jt_status read_name(reader *r, const char *name, const char *otherwise,
                           char *text, size_t room)
{
    jt_str value = {otherwise, strlen(otherwise)};
    const jt_gguf_kv *kv = jt_gguf_kv_find(r->file, key_of(r, name));
    if (kv && !jt_gguf_get_str(r->file, r->key, &value))
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is not a text", r->key);
    snprintf(text, room, "%.*s", (int)(value.len < room ? value.len : room),
             value.data);
    return JT_OK;
}

static jt_status fail_unknown(reader *r, const char *name,
                              const char *(*known)(size_t i))
{
    char list[200];
    jt_join_names(list, sizeof list, known);
    return jt_fail(r->err, JT_E_FORMAT, "key '%s' is '%s' (known: %s)", r->key, name,
                   list);
}

static jt_status read_rope_scaling(reader *r, jt_params *p)
{
    jt_rope_params *rope = &p->rope;
    jt_str type = {"none", 4};
    jt_gguf_get_str(r->file, key_of(r, "rope.scaling.type"), &type);
    if (type.len == 6 && memcmp(type.data, "linear", 6) == 0)
        rope->scaling = JT_ROPE_LINEAR;
    else if (type.len == 4 && memcmp(type.data, "yarn", 4) == 0)
        rope->scaling = JT_ROPE_YARN;
    else if (type.len != 4 || memcmp(type.data, "none", 4) != 0)
        return jt_fail(r->err, JT_E_UNSUPPORTED,
                       "key '%s' is '%.*s', expected none, linear or yarn", r->key,
                       (int)(type.len < 40 ? type.len : 40), type.data);
    if (rope->scaling == JT_ROPE_NONE)
        return JT_OK;
    JT_TRY(read_float(r, "rope.scaling.factor", 0.0f, 1.0f, &rope->factor));
    if (rope->scaling == JT_ROPE_LINEAR)
        return JT_OK;
    JT_TRY(read_float(r, "rope.scaling.original_context_length", 0.0f,
                      (float)p->n_ctx_train, &rope->original_context));
    JT_TRY(read_float(r, "rope.scaling.attn_factor", -1.0f, 0.0f,
                      &rope->attention_factor));
    JT_TRY(read_float(r, "rope.scaling.yarn_beta_fast", 0.0f, 32.0f, &rope->beta_fast));
    return read_float(r, "rope.scaling.yarn_beta_slow", 0.0f, 1.0f, &rope->beta_slow);
}

static jt_status read_rope(reader *r, jt_params *p)
{
    int dims;
    p->rope.neox = r->family->rope_neox;
    JT_TRY(read_int(r, "rope.dimension_count", 2, p->k_dim, p->k_dim, &dims));
    if (dims % 2)
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is %d, expected an even number",
                       r->key, dims);
    p->rope.dims = (size_t)dims;
    JT_TRY(read_float(r, "rope.freq_base", 1.0f, 10000.0f, &p->rope.base));
    return read_rope_scaling(r, p);
}

static jt_status read_attention(reader *r, jt_params *p)
{
    enum { MAX_HEADS = 4096, MAX_HEAD_DIM = 512 };
    JT_TRY(read_int(r, "attention.head_count", 1, MAX_HEADS, -1, &p->n_heads));
    JT_TRY(read_int(r, "attention.head_count_kv", 1, p->n_heads, p->n_heads,
                    &p->n_kv_heads));
    if (p->n_heads % p->n_kv_heads)
        return jt_fail(r->err, JT_E_FORMAT, "%d heads do not share %d key/value heads",
                       p->n_heads, p->n_kv_heads);
    int usual = p->d_model / p->n_heads;
    JT_TRY(read_int(r, "attention.key_length", 1, MAX_HEAD_DIM, usual, &p->k_dim));
    JT_TRY(read_int(r, "attention.value_length", 1, MAX_HEAD_DIM, usual, &p->v_dim));
    JT_TRY(
        read_float(r, "attention.layer_norm_rms_epsilon", 0.0f, -1.0f, &p->norm_eps));
    return read_float(r, "attention.clamp_kqv", -1.0f, 0.0f, &p->clamp);
}

/* What other programs know of a router, too. */
static jt_status read_common_router(reader *r, jt_router *router)
{
    enum { SOFTMAX = 1, SIGMOID = 2 };
    int gating;
    JT_TRY(read_int(r, "expert_used_count", 1, jt_router_rows(router), 0, &router->k));
    JT_TRY(read_int(r, "expert_gating_func", SOFTMAX, SIGMOID,
                    r->family->gating == JT_GATE_SIGMOID ? SIGMOID : SOFTMAX, &gating));
    router->gating = gating == SIGMOID ? JT_GATE_SIGMOID : JT_GATE_SOFTMAX;
    router->renormalise = r->family->renormalise;
    JT_TRY(read_bool(r, "expert_weights_norm", &router->renormalise));
    JT_TRY(read_float(r, "expert_weights_scale", -1.0f, 1.0f, &router->scale));
    if (router->scale == 0.0f) /* converters write 0 for "none" */
        router->scale = 1.0f;
    JT_TRY(
        read_int(r, "expert_group_count", 0, router->n_experts, 0, &router->n_groups));
    return read_int(r, "expert_group_used_count", 0, router->n_groups, 0,
                    &router->groups_used);
}

/* The slots that only Junto has keys for. */
static jt_status read_own_router(reader *r, jt_router *router)
{
    char name[40];
    JT_TRY(read_name(r, "score", "linear", name, sizeof name));
    router->scorer = jt_scorer_find(name);
    if (!router->scorer)
        return fail_unknown(r, name, jt_scorer_name);
    const char *usual = router->n_groups > 1 ? "group_limited" : "topk";
    JT_TRY(read_name(r, "select", usual, name, sizeof name));
    router->selector = jt_selector_find(name);
    if (!router->selector)
        return fail_unknown(r, name, jt_selector_name);
    router->gate_after = r->family->gate_after;
    JT_TRY(read_bool(r, "gate_after", &router->gate_after));
    JT_TRY(read_float(r, "temperature", 0.0f, 1.0f, &router->temperature));
    JT_TRY(read_float(r, "top_p", 0.0f, 1.0f, &router->top_p));
    return read_int(r, "group_best", 0, router->n_experts, 0, &router->group_best);
}

static jt_status read_router(reader *r, jt_router *router)
{
    enum { MAX_EXPERTS = 65536 };
    reader own = *r;
    own.prefix = "junto.router";
    JT_TRY(read_int(r, "expert_count", 0, MAX_EXPERTS, 0, &router->n_experts));
    if (!router->n_experts)
        return JT_OK;
    JT_TRY(read_int(&own, "null_experts", 0, MAX_EXPERTS, 0, &router->n_null));
    JT_TRY(read_common_router(r, router));
    JT_TRY(read_own_router(&own, router));
    jt_status status = jt_router_check(router, r->err);
    return status == JT_OK ? JT_OK : jt_fail_within(r->err, JT_E_FORMAT, "router keys");
}

jt_status jt_params_read(jt_params *out, const jt_gguf *file, const jt_family *family,
                         jt_err *err)
{
    enum { MAX_LAYERS = 4096, MAX_WIDTH = 1 << 20 };
    jt_params p = {0};
    reader r = {.file = file, .family = family, .prefix = family->arch, .err = err};
    JT_TRY(read_int(&r, "block_count", 1, MAX_LAYERS, -1, &p.n_layers));
    JT_TRY(read_int(&r, "embedding_length", 1, MAX_WIDTH, -1, &p.d_model));
    JT_TRY(read_int(&r, "context_length", 1, INT_MAX / 2, -1, &p.n_ctx_train));
    JT_TRY(read_attention(&r, &p));
    JT_TRY(read_router(&r, &p.router));
    JT_TRY(read_rope(&r, &p));
    *out = p;
    return JT_OK;
}
