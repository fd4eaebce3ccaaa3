#include <string.h>

#include "model/params.h"

/* ---- how frequencies and magnitudes are scaled ---- */

static jt_status read_yarn(jt_key_reader *r, jt_rope_params *rope)
{
    JT_TRY(
        jt_key_float(r, "rope.scaling.yarn_beta_fast", 0.0f, 32.0f, &rope->beta_fast));
    JT_TRY(
        jt_key_float(r, "rope.scaling.yarn_beta_slow", 0.0f, 1.0f, &rope->beta_slow));
    JT_TRY(jt_key_float(r, "rope.scaling.yarn_attn_factor", -1.0f, 0.0f,
                        &rope->yarn_magnitude));
    JT_TRY(jt_key_float(r, "rope.scaling.yarn_log_multiplier", -1.0f, 0.0f,
                        &rope->log_multiplier));
    rope->exact_ramp = r->family->yarn_exact;
    if (r->family->yarn_scores && rope->log_multiplier > 0.0f)
        rope->yarn_magnitude = 1.0f;
    return JT_OK;
}

static jt_status read_scaling(jt_key_reader *r, const jt_params *p,
                              jt_rope_params *rope)
{
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};
    jt_str type = {"none", 4};
    int kind = 0;
    jt_gguf_get_str(r->file, jt_key_name(r, "rope.scaling.type"), &type);
    while (kind < 4 && (strlen(names[kind]) != type.len ||
                        memcmp(names[kind], type.data, type.len) != 0))
        kind++;
    if (kind == 4)
        return jt_fail(r->err, JT_E_UNSUPPORTED,
                       "key '%s' is '%.*s', expected none, linear, yarn or longrope",
                       r->key, (int)(type.len < 40 ? type.len : 40), type.data);
    rope->scaling = kind == 3 ? JT_ROPE_NONE : (jt_rope_scaling)kind;
    JT_TRY(jt_key_float(r, "rope.scaling.attn_factor", 0.0f, 1.0f, &rope->magnitude));
    JT_TRY(jt_key_float(r, "rope.scaling.original_context_length", 0.0f,
                        (float)p->n_ctx_train, &rope->original_context));
    if (rope->scaling == JT_ROPE_NONE)
        return JT_OK;
    JT_TRY(jt_key_float(r, "rope.scaling.factor", 0.0f, 1.0f, &rope->factor));
    return rope->scaling == JT_ROPE_YARN ? read_yarn(r, rope) : JT_OK;
}

/* Layers with a window may have a base of their own. */
static jt_status read_local(jt_key_reader *r, jt_params *p)
{
    const jt_windows *windows = r->family->windows;
    const jt_rope_params *usual = &p->rope[JT_ROPE_USUAL];
    float base;
    if (!windows || p->window == 0)
        return JT_OK;
    float otherwise = windows->unscaled ? usual->base : windows->rope_base;
    JT_TRY(jt_key_float(r, "rope.freq_base_swa", -1.0f, otherwise, &base));
    if (base <= 0.0f)
        return JT_OK;
    p->rope[JT_ROPE_LOCAL] = *usual;
    p->rope[JT_ROPE_LOCAL].base = base;
    int most = p->local_k_dim,
        dims = usual->dims < (size_t)most ? (int)usual->dims : most;
    JT_TRY(jt_key_int(r, "rope.dimension_count_swa", 2, most, dims, &dims));
    if (dims % 2)
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is %d, expected an even number",
                       r->key, dims);
    p->rope[JT_ROPE_LOCAL].dims = (size_t)dims;
    if (windows->rope_base > 0.0f || windows->unscaled) /* of training */
        p->rope[JT_ROPE_LOCAL].scaling = JT_ROPE_NONE;
    return JT_OK;
}

static jt_status read_temperature(jt_key_reader *r, jt_params *p)
{
    const jt_temperature *usual = &r->family->temperature;
    float length =
        usual->length > 0.0f ? usual->length : p->rope[JT_ROPE_USUAL].original_context;
    p->temperature = *usual;
    JT_TRY(jt_key_float(r, "attention.temperature_scale", -1.0f, usual->scale,
                        &p->temperature.scale));
    return jt_key_float(r, "attention.temperature_length", 0.0f, length,
                        &p->temperature.length);
}

jt_status jt_params_rope(jt_key_reader *r, jt_params *p)
{
    jt_rope_params *rope = &p->rope[JT_ROPE_USUAL];
    int dims;
    rope->neox = r->family->rope_neox;
    JT_TRY(jt_key_int(r, "rope.dimension_count", 2, p->k_dim, p->k_dim, &dims));
    if (dims % 2)
        return jt_fail(r->err, JT_E_FORMAT, "key '%s' is %d, expected an even number",
                       r->key, dims);
    rope->dims = (size_t)dims;
    JT_TRY(jt_key_float(r, "rope.freq_base", 1.0f, 10000.0f, &rope->base));
    JT_TRY(read_scaling(r, p, rope));
    JT_TRY(read_local(r, p));
    return read_temperature(r, p);
}
