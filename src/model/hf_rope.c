/* Rotary position embedding: how config.json says it (transformers 4: rope_theta and
 * rope_scaling, 5: rope_parameters), and the keys and factors of GGUF. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/hf.h"

enum { MOST_DIMS = 65536 };

/* A number of the rope's object, or of config.json itself. */
static double rope_number(const jt_hf_job *job, const char *path, double otherwise)
{
    const json_t *value = jt_hf_config(job, path);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

#define IN_ROPE(name)                                               \
    "rope_parameters." name "|rope_parameters.full_attention." name \
    "|rope_scaling." name

static const char *rope_type(const jt_hf_job *job)
{
    const char *type =
        json_string_value(jt_hf_config(job, IN_ROPE("rope_type") "|" IN_ROPE("type")));
    return type ? type : "default";
}

static double original_context(const jt_hf_job *job)
{
    double now = rope_number(job, "max_position_embeddings", 0.0);
    return rope_number(
        job,
        IN_ROPE("original_max_position_embeddings") "|"
                                                    "original_max_position_embeddings",
        now);
}

static int64_t whole_context(const jt_hf_job *job)
{
    return (int64_t)fmin(fmax(original_context(job), 0.0), 1e9);
}

/* Dimensions of a head. */
static int64_t head_dims(const jt_hf_job *job)
{
    int64_t dims = 0, width = 0, heads = 0;
    if (jt_hf_get_int(job, "attention.key_length", &dims))
        return dims;
    jt_hf_get_int(job, "embedding_length", &width);
    jt_hf_get_int(job, "attention.head_count", &heads);
    return heads ? width / heads : 0;
}

/* ---- to keys ---- */

static jt_status import_yarn(jt_hf_job *job)
{
    static const struct {
        const char *config, *gguf;
    } more[] = {
        {IN_ROPE("extrapolation_factor"), "rope.scaling.yarn_ext_factor"},
        {IN_ROPE("attention_factor") "|" IN_ROPE("attn_factor"),
         "rope.scaling.yarn_attn_factor"},
        {IN_ROPE("beta_fast"), "rope.scaling.yarn_beta_fast"},
        {IN_ROPE("beta_slow"), "rope.scaling.yarn_beta_slow"},
    };
    JT_TRY(
        jt_hf_set_int(job, "rope.scaling.original_context_length", whole_context(job)));
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        const json_t *value = jt_hf_config(job, more[i].config);
        if (json_is_number(value))
            JT_TRY(jt_hf_set_float(job, more[i].gguf, json_number_value(value)));
    }
    return JT_OK;
}

static jt_status set_type(jt_hf_job *job, const char *type)
{
    char key[96];
    snprintf(key, sizeof key, "%s.rope.scaling.type", job->family->arch);
    return jt_gguf_set_str(job->writer, key, type, job->err);
}

static jt_status set_scaling(jt_hf_job *job, const char *type)
{
    JT_TRY(set_type(job, type));
    return jt_hf_set_float(job, "rope.scaling.factor",
                           rope_number(job, IN_ROPE("factor"), 1.0));
}

/* Factors for short and for long texts are tensors; what they are stretched by follows
 * from how much longer texts became (Phi-3; transformers modeling_rope_utils). */
static jt_status import_longrope(jt_hf_job *job)
{
    double before = original_context(job);
    double longer = rope_number(job, "max_position_embeddings", before) / before;
    double usual = longer > 1.0 ? sqrt(1.0 + log(longer) / log(before)) : 1.0;
    JT_TRY(set_type(job, "longrope"));
    JT_TRY(
        jt_hf_set_int(job, "rope.scaling.original_context_length", whole_context(job)));
    return jt_hf_set_float(
        job, "rope.scaling.attn_factor",
        rope_number(job, IN_ROPE("attention_factor") "|" IN_ROPE("long_mscale"),
                    usual));
}

/* A llama3 rope is a table of factors, made later; what it was made from is kept for
 * the way back. */
static const struct {
    const char *config, *key;
    double usual;
} llama3[] = {
    {"factor", "junto.rope.llama3.factor", 8.0},
    {"low_freq_factor", "junto.rope.llama3.low_freq_factor", 1.0},
    {"high_freq_factor", "junto.rope.llama3.high_freq_factor", 4.0},
    {"original_max_position_embeddings", "junto.rope.llama3.original_context_length",
     8192.0},
};
enum { LLAMA3 = sizeof llama3 / sizeof *llama3 };

static double llama3_number(const jt_hf_job *job, int i)
{
    char path[192];
    snprintf(path, sizeof path,
             "rope_parameters.%s|rope_parameters.full_attention.%s|rope_scaling.%s",
             llama3[i].config, llama3[i].config, llama3[i].config);
    return rope_number(job, path, llama3[i].usual);
}

jt_status jt_hf_import_rope(jt_hf_job *job)
{
    const char *type = rope_type(job);
    JT_TRY(jt_hf_set_float(
        job, "rope.freq_base",
        rope_number(job, IN_ROPE("rope_theta") "|rope_theta", 10000.0)));
    if (strcmp(type, "linear") == 0)
        return set_scaling(job, "linear");
    if (strcmp(type, "yarn") == 0) {
        JT_TRY(set_scaling(job, "yarn"));
        return import_yarn(job);
    }
    if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0)
        return import_longrope(job);
    for (int i = 0; i < LLAMA3 && strcmp(type, "llama3") == 0; i++)
        JT_TRY(jt_gguf_set_f32(job->writer, llama3[i].key, (float)llama3_number(job, i),
                               job->err));
    return JT_OK;
}

/* Wavelengths that a longer context asks for are stretched by `factor`, short ones
 * stay, and those between go over smoothly (Llama 3.1; transformers
 * modeling_rope_utils). */
static float llama3_factor(double frequency, const double p[LLAMA3])
{
    double factor = p[0], low = p[1], high = p[2], context = p[3];
    double turns = context * frequency / 6.283185307179586;
    if (turns > high)
        return 1.0f;
    if (turns < low || high <= low)
        return (float)factor;
    double smooth = (turns - low) / (high - low);
    return (float)(1.0 / ((1.0 - smooth) / factor + smooth));
}

static jt_status llama3_factors(jt_hf_job *job, float **factors, size_t *count)
{
    double base = 10000.0, p[LLAMA3];
    int64_t dims = 0;
    jt_hf_get_float(job, "rope.freq_base", &base);
    if (!jt_hf_get_int(job, "rope.dimension_count", &dims))
        dims = head_dims(job);
    if (dims < 2 || dims > MOST_DIMS)
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: heads of %lld dimensions cannot rotate",
                       (long long)dims);
    *factors = jt_arena_alloc(&job->arena, (size_t)dims / 2, sizeof **factors);
    if (!*factors)
        return jt_fail_memory(job->err, "making rope factors");
    for (int i = 0; i < LLAMA3; i++)
        p[i] = llama3_number(job, i);
    *count = (size_t)dims / 2;
    for (size_t i = 0; i < *count; i++)
        (*factors)[i] = llama3_factor(pow(base, -2.0 * (double)i / (double)dims), p);
    return JT_OK;
}

/* Of wide heads the first pairs are rotated, as slowly as the head is wide; the others
 * stand still (Gemma 4). */
static const float still = 1e30f;

static jt_status proportional_factors(jt_hf_job *job, float **factors, size_t *count)
{
    int64_t dims = head_dims(job);
    double share = rope_number(job, IN_ROPE("partial_rotary_factor"), 1.0);
    if (dims < 2 || dims > MOST_DIMS || !(share >= 0.0 && share <= 1.0))
        return jt_fail(job->err, JT_E_FORMAT,
                       "config.json: %g of heads of %lld dimensions cannot rotate",
                       share, (long long)dims);
    *count = (size_t)dims / 2;
    *factors = jt_arena_alloc(&job->arena, *count, sizeof **factors);
    if (!*factors)
        return jt_fail_memory(job->err, "making rope factors");
    for (size_t i = 0; i < *count; i++)
        (*factors)[i] = i < (size_t)(share * (double)dims / 2) ? 1.0f : still;
    return JT_OK;
}

static jt_status listed_factors(jt_hf_job *job, const char *path, float **factors,
                                size_t *count)
{
    const json_t *list = jt_hf_config(job, path);
    size_t n = json_array_size(list);
    if (n < 1 || n > MOST_DIMS)
        return jt_fail(job->err, JT_E_FORMAT, "config.json: no list of factors '%s'",
                       path);
    *factors = jt_arena_alloc(&job->arena, n, sizeof **factors);
    if (!*factors)
        return jt_fail_memory(job->err, "making rope factors");
    for (size_t i = 0; i < n; i++)
        (*factors)[i] = (float)json_number_value(json_array_get(list, i));
    *count = n;
    return JT_OK;
}

const char *const jt_hf_rope_tensors[] = {
    "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight", NULL};

jt_status jt_hf_rope_factors(jt_hf_job *job, const char *name, float **factors,
                             size_t *count)
{
    const char *type = rope_type(job);
    bool longrope = strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0;
    *count = 0;
    if (strcmp(name, jt_hf_rope_tensors[0]) == 0 && strcmp(type, "proportional") == 0)
        return proportional_factors(job, factors, count);
    if (strcmp(name, jt_hf_rope_tensors[0]) == 0)
        return strcmp(type, "llama3") == 0 ? llama3_factors(job, factors, count)
                                           : JT_OK;
    if (!longrope)
        return JT_OK;
    return strcmp(name, jt_hf_rope_tensors[1]) == 0
               ? listed_factors(job, IN_ROPE("long_factor"), factors, count)
               : listed_factors(job, IN_ROPE("short_factor"), factors, count);
}

/* ---- to config.json ---- */

#define ROPE "rope_parameters."

static jt_status export_number(jt_hf_job *job, const char *gguf, const char *config)
{
    double value;
    if (!jt_hf_get_float(job, gguf, &value))
        return JT_OK;
    return jt_hf_put(job, config, jt_hf_real((float)value));
}

/* Are the factors of a file those that `p` makes? */
static bool makes(const jt_gguf_tensor *t, double base, const double p[LLAMA3])
{
    const float *factors = t->data;
    double count = (double)t->shape[0];
    for (uint64_t i = 0; i < t->shape[0]; i++) {
        float made = llama3_factor(pow(base, -(double)i / count), p);
        if (fabsf(made - factors[i]) > 1e-4f * made)
            return false;
    }
    return true;
}

/* What the factors of a file were made from: said by keys of Junto, or found among the
 * numbers of published models, which stretch what turns less than once, leave what
 * turns four times, and had a context of a power of two. */
static bool find_llama3(const jt_hf_job *job, double p[LLAMA3])
{
    enum { LEAST = 1 << 4, MOST = 1 << 20 };
    const jt_gguf_tensor *t = jt_gguf_find(job->file, "rope_freqs.weight");
    double base = 10000.0;
    float value;
    int said = 0;
    for (int i = 0; i < LLAMA3; i++) {
        if (jt_gguf_get_f32(job->file, llama3[i].key, &value)) {
            p[i] = (double)value;
            said++;
        }
    }
    if (said == LLAMA3)
        return true;
    if (t->dtype != JT_F32 || t->n_dims != 1 || !t->data)
        return false;
    jt_hf_get_float(job, "rope.freq_base", &base);
    p[0] = (double)((const float *)t->data)[t->shape[0] - 1]; /* of the slowest */
    p[1] = llama3[1].usual;
    p[2] = llama3[2].usual;
    for (int context = LEAST; context <= MOST; context *= 2) {
        p[3] = context;
        if (makes(t, base, p))
            return true;
    }
    return false;
}

static jt_status export_llama3(jt_hf_job *job)
{
    double p[LLAMA3];
    if (!find_llama3(job, p))
        return jt_fail(job->err, JT_E_UNSUPPORTED,
                       "tensor 'rope_freqs.weight' holds factors, but no key says what "
                       "they were made from ('%s')",
                       llama3[0].key);
    JT_TRY(jt_hf_put(job, ROPE "rope_type", json_string("llama3")));
    for (int i = 0; i < LLAMA3; i++) {
        char path[128];
        snprintf(path, sizeof path, ROPE "%s", llama3[i].config);
        bool whole = i == LLAMA3 - 1; /* a number of positions */
        JT_TRY(jt_hf_put(job, path,
                         whole ? json_integer((json_int_t)p[i])
                               : jt_hf_real((float)p[i])));
    }
    return JT_OK;
}

/* Whether the factors are those of proportional_factors: of so many pairs that rotate.
 */
static bool is_proportional(const jt_gguf_tensor *t, uint64_t *turned)
{
    const float *factor = t->data;
    *turned = 0;
    if (t->dtype != JT_F32 || t->n_dims != 1)
        return false;
    while (*turned < t->shape[0] && factor[*turned] == 1.0f)
        ++*turned;
    for (uint64_t i = *turned; i < t->shape[0]; i++) {
        if (factor[i] != still)
            return false;
    }
    return true;
}

static jt_status export_proportional(jt_hf_job *job, uint64_t turned, uint64_t pairs)
{
    JT_TRY(jt_hf_put(job, ROPE "rope_type", json_string("proportional")));
    return jt_hf_put(job, ROPE "partial_rotary_factor",
                     jt_hf_real((float)turned / (float)pairs));
}

static jt_status export_yarn(jt_hf_job *job)
{
    int64_t context;
    if (jt_hf_get_int(job, "rope.scaling.original_context_length", &context))
        JT_TRY(jt_hf_put(job, ROPE "original_max_position_embeddings",
                         json_integer(context)));
    JT_TRY(
        export_number(job, "rope.scaling.yarn_attn_factor", ROPE "attention_factor"));
    JT_TRY(export_number(job, "rope.scaling.yarn_ext_factor",
                         ROPE "extrapolation_factor"));
    JT_TRY(export_number(job, "rope.scaling.yarn_beta_fast", ROPE "beta_fast"));
    return export_number(job, "rope.scaling.yarn_beta_slow", ROPE "beta_slow");
}

static jt_status export_factors(jt_hf_job *job, const char *tensor, const char *config)
{
    const jt_gguf_tensor *t = jt_gguf_find(job->file, tensor);
    json_t *list = json_array();
    bool fits = t && t->dtype == JT_F32 && t->n_dims == 1;
    for (uint64_t i = 0; fits && i < t->shape[0]; i++)
        json_array_append_new(list, jt_hf_real(((const float *)t->data)[i]));
    JT_TRY(jt_hf_put(job, config, list));
    return fits ? JT_OK
                : jt_fail(job->err, JT_E_FORMAT, "tensor '%s' is no list of factors",
                          tensor);
}

static jt_status export_longrope(jt_hf_job *job)
{
    int64_t context;
    JT_TRY(export_factors(job, "rope_factors_long.weight", ROPE "long_factor"));
    JT_TRY(export_factors(job, "rope_factors_short.weight", ROPE "short_factor"));
    JT_TRY(jt_hf_put(job, ROPE "rope_type", json_string("longrope")));
    JT_TRY(export_number(job, "rope.scaling.attn_factor", ROPE "attention_factor"));
    if (!jt_hf_get_int(job, "rope.scaling.original_context_length", &context))
        return JT_OK;
    JT_TRY(jt_hf_put(job, "original_max_position_embeddings", json_integer(context)));
    return jt_hf_put(job, ROPE "original_max_position_embeddings",
                     json_integer(context));
}

jt_status jt_hf_export_rope(jt_hf_job *job)
{
    char key[96];
    jt_str type = {"default", 7};
    double base = 10000.0;
    jt_hf_get_float(job, "rope.freq_base", &base);
    JT_TRY(jt_hf_put(job, ROPE "rope_theta", jt_hf_real((float)base)));
    const jt_gguf_tensor *factors = jt_gguf_find(job->file, "rope_freqs.weight");
    uint64_t turned;
    bool made = jt_gguf_kv_find(job->file, llama3[0].key);
    if (factors && !made && is_proportional(factors, &turned))
        return export_proportional(job, turned, factors->shape[0]);
    if (factors)
        return export_llama3(job);
    snprintf(key, sizeof key, "%s.rope.scaling.type", job->family->arch);
    jt_gguf_get_str(job->file, key, &type);
    if (type.len == 4 && memcmp(type.data, "none", 4) == 0)
        type = (jt_str){"default", 7};
    JT_TRY(jt_hf_put(job, ROPE "rope_type", json_stringn(type.data, type.len)));
    JT_TRY(export_number(job, "rope.scaling.factor", ROPE "factor"));
    if (jt_gguf_find(job->file, "rope_factors_long.weight"))
        return export_longrope(job);
    return type.len == 4 && memcmp(type.data, "yarn", 4) == 0 ? export_yarn(job)
                                                              : JT_OK;
}

/* ---- parts of heads ---- */

jt_status jt_hf_import_rope_dims(jt_hf_job *job, double share)
{
    share = rope_number(job, IN_ROPE("partial_rotary_factor") "|partial_rotary_factor",
                        share);
    double dims = share * (double)head_dims(job);
    return jt_hf_set_int(job, "rope.dimension_count",
                         dims >= 0.0 && dims <= MOST_DIMS ? (int64_t)dims : 0);
}

jt_status jt_hf_export_rope_dims(jt_hf_job *job)
{
    int64_t all = head_dims(job), dims = all;
    jt_hf_get_int(job, "rope.dimension_count", &dims);
    double share = all > 0 ? (double)dims / (double)all : 1.0;
    if (share * (double)all < (double)dims) /* what readers round down */
        share = nextafter(share, 2.0);
    return jt_hf_put(job, ROPE "partial_rotary_factor", json_real(share));
}

jt_status jt_hf_export_two_ropes(jt_hf_job *job)
{
    json_t *full = json_object_get(job->config, "rope_parameters");
    json_t *local = json_incref(json_object_get(full, "sliding_attention"));
    json_object_del(full, "sliding_attention");
    json_object_set_new(local, "rope_type", json_string("default"));
    return jt_hf_put(
        job, "rope_parameters",
        json_pack("{s:O,s:o}", "full_attention", full, "sliding_attention", local));
}
