#include "shrink/mix.h"

#include <string.h>
#include <strings.h>

#include "base/join.h"
#include "model/hf.h"

/* clang-format off */
static const jt_mix mixes[] = {
/*   name          summary                                          file type and types:  bulk        more        side        embedding   output */
    {"q8_0",       "8 bits: all but the same text",                         7, JT_Q8_0,    JT_Q8_0,    JT_Q8_0,    JT_Q8_0,    JT_Q8_0},
    {"q6_k",       "6.6 bits",                                             18, JT_Q6_K,    JT_Q6_K,    JT_Q8_0,    JT_Q6_K,    JT_Q6_K},
    {"q5_k_m",     "5.7 bits",                                             17, JT_Q5_K,    JT_Q6_K,    JT_Q6_K,    JT_Q5_K,    JT_Q6_K},
    {"q5_k_s",     "5.5 bits",                                             16, JT_Q5_K,    JT_Q5_K,    JT_Q6_K,    JT_Q5_K,    JT_Q6_K},
    {"q4_k_m",     "4.8 bits: the usual choice",                           15, JT_Q4_K,    JT_Q6_K,    JT_Q6_K,    JT_Q4_K,    JT_Q6_K},
    {"q4_k_s",     "4.6 bits",                                             14, JT_Q4_K,    JT_Q5_K,    JT_Q5_K,    JT_Q4_K,    JT_Q6_K},
    {"iq4_xs",     "4.3 bits, levels that are denser around zero",         30, JT_IQ4_XS,  JT_Q5_K,    JT_Q5_K,    JT_IQ4_XS,  JT_Q6_K},
    {"iq4_nl",     "4.5 bits, the same in blocks of 32",                   25, JT_IQ4_NL,  JT_Q5_K,    JT_Q5_K,    JT_IQ4_NL,  JT_Q6_K},
    {"q4_0",       "4.5 bits, the simplest format",                         2, JT_Q4_0,    JT_Q4_0,    JT_Q5_0,    JT_Q4_0,    JT_Q6_K},
    {"q4_1",       "5 bits",                                                3, JT_Q4_1,    JT_Q4_1,    JT_Q5_1,    JT_Q4_1,    JT_Q6_K},
    {"q5_0",       "5.5 bits",                                              8, JT_Q5_0,    JT_Q5_0,    JT_Q8_0,    JT_Q5_0,    JT_Q6_K},
    {"q5_1",       "6 bits",                                                9, JT_Q5_1,    JT_Q5_1,    JT_Q8_0,    JT_Q5_1,    JT_Q6_K},
    {"q3_k_l",     "4.1 bits",                                             13, JT_Q3_K,    JT_Q5_K,    JT_Q5_K,    JT_Q3_K,    JT_Q6_K},
    {"q3_k_m",     "3.9 bits",                                             12, JT_Q3_K,    JT_Q4_K,    JT_Q5_K,    JT_Q3_K,    JT_Q6_K},
    {"q3_k_s",     "3.5 bits",                                             11, JT_Q3_K,    JT_Q3_K,    JT_Q4_K,    JT_Q3_K,    JT_Q6_K},
    {"iq3_m",      "3.7 bits; wants importance, as all below",             27, JT_IQ3_S,   JT_Q4_K,    JT_Q4_K,    JT_IQ3_S,   JT_Q6_K},
    {"iq3_s",      "3.4 bits",                                             26, JT_IQ3_S,   JT_IQ3_S,   JT_Q4_K,    JT_IQ3_S,   JT_Q6_K},
    {"iq3_xxs",    "3.1 bits",                                             23, JT_IQ3_XXS, JT_IQ3_S,   JT_Q4_K,    JT_IQ3_S,   JT_Q5_K},
    {"q2_k",       "3 bits",                                               10, JT_Q2_K,    JT_Q3_K,    JT_Q4_K,    JT_Q2_K,    JT_Q6_K},
    {"iq2_m",      "2.7 bits",                                             29, JT_IQ2_S,   JT_IQ3_S,   JT_Q4_K,    JT_IQ3_S,   JT_Q5_K},
    {"iq2_s",      "2.5 bits",                                             28, JT_IQ2_S,   JT_IQ2_S,   JT_Q4_K,    JT_IQ3_S,   JT_Q5_K},
    {"iq2_xs",     "2.3 bits",                                             20, JT_IQ2_XS,  JT_IQ2_S,   JT_Q4_K,    JT_Q2_K,    JT_Q5_K},
    {"iq2_xxs",    "2.1 bits",                                             19, JT_IQ2_XXS, JT_IQ2_XS,  JT_Q4_K,    JT_Q2_K,    JT_Q5_K},
    {"mxfp4_moe",  "4.3 bits for routed experts, 8 for everything else",   38, JT_MXFP4,   JT_MXFP4,   JT_Q8_0,    JT_Q8_0,    JT_Q8_0},
    {"nvfp4",      "4.5 bits, scales of 8 bits per 16 values",             39, JT_NVFP4,   JT_NVFP4,   JT_Q6_K,    JT_Q6_K,    JT_Q6_K},
    {"tq2_0",      "2.1 bits, for weights that are -1, 0 and 1",           37, JT_TQ2_0,   JT_TQ2_0,   JT_TQ2_0,   JT_Q4_K,    JT_Q6_K},
    {"tq1_0",      "1.7 bits, for weights that are -1, 0 and 1",           36, JT_TQ1_0,   JT_TQ1_0,   JT_TQ1_0,   JT_Q4_K,    JT_Q6_K},
    {"bf16",       "16 bits",                                              32, JT_BF16,    JT_BF16,    JT_BF16,    JT_BF16,    JT_BF16},
    {"f16",        "16 bits",                                               1, JT_F16,     JT_F16,     JT_F16,     JT_F16,     JT_F16},
    {"f32",        "32 bits",                                               0, JT_F32,     JT_F32,     JT_F32,     JT_F32,     JT_F32},
};
/* clang-format on */
enum { MIXES = sizeof mixes / sizeof *mixes };

const char *jt_mix_name(size_t i)
{
    return i < MIXES ? mixes[i].name : NULL;
}

const char *jt_mix_summary(size_t i)
{
    return i < MIXES ? mixes[i].summary : NULL;
}

jt_status jt_mix_find(jt_mix *out, const char *name, jt_err *err)
{
    enum { GUESSED = 1024 }; /* llama.cpp's value for "look at the tensors" */
    for (size_t i = 0; i < MIXES; i++)
        if (strcasecmp(mixes[i].name, name) == 0) {
            *out = mixes[i];
            return JT_OK;
        }
    jt_dtype t;
    if (jt_dtype_from_name(name, &t) && jt_dtype_is_weight(t) &&
        jt_dtype_can_quantize(t)) {
        *out = (jt_mix){jt_dtype_name(t), "", GUESSED, t, t, t, t, t};
        return JT_OK;
    }
    char names[400];
    jt_join_names(names, sizeof names, jt_mix_name);
    return jt_fail(err, JT_E_ARG, "unknown mix or type '%s' (mixes: %s)", name, names);
}

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

jt_role jt_mix_role(const char *name, int n_dims)
{
    if (jt_hf_wants_f32(name, n_dims))
        return JT_ROLE_PLAIN;
    if (!strcmp(name, "token_embd.weight"))
        return JT_ROLE_EMBEDDING;
    if (!strcmp(name, "output.weight"))
        return JT_ROLE_OUTPUT;
    if (has(name, "_exps."))
        return has(name, "ffn_down") ? JT_ROLE_EXPERT_DOWN : JT_ROLE_EXPERT;
    if (has(name, ".ffn_down"))
        return JT_ROLE_DOWN;
    if (has(name, ".ffn_"))
        return JT_ROLE_FFN;
    if (has(name, ".attn_v.") || has(name, ".attn_v_b.") || has(name, ".attn_kv_b."))
        return JT_ROLE_VALUE;
    return has(name, ".attn_") ? JT_ROLE_ATTENTION : JT_ROLE_OTHER;
}

/* The layers whose down matrices llama.cpp's _M mixes keep better: the first and the
 * last eighth, and every third between. */
static bool matters_more(int layer, int n_layers)
{
    int eighth = n_layers / 8;
    return layer < eighth || layer >= n_layers - eighth || (layer - eighth) % 3 == 2;
}

jt_dtype jt_mix_choose(const jt_mix *mix, jt_role role, const jt_mix_place *place)
{
    bool more = matters_more(place->layer, place->n_layers);
    switch (role) {
    case JT_ROLE_PLAIN:
        return JT_F32;
    case JT_ROLE_EMBEDDING:
        return place->tied ? mix->output : mix->embedding;
    case JT_ROLE_OUTPUT:
        return mix->output;
    case JT_ROLE_VALUE:
        return place->mixture ? mix->side : mix->more;
    case JT_ROLE_EXPERT_DOWN:
        return more ? mix->more : mix->bulk;
    case JT_ROLE_DOWN:
        return place->mixture ? mix->side : more ? mix->more : mix->bulk;
    case JT_ROLE_EXPERT:
        return mix->bulk;
    default:
        return place->mixture ? mix->side : mix->bulk;
    }
}

jt_dtype jt_mix_fit(jt_dtype dtype, uint64_t n)
{
    if (n % jt_dtype_block_values(dtype) == 0)
        return dtype;
    static const jt_dtype instead[JT_DTYPE_COUNT] = {
        [JT_Q4_K] = JT_Q5_0, [JT_Q5_K] = JT_Q5_1, [JT_Q6_K] = JT_Q8_0};
    jt_dtype small = instead[dtype] ? instead[dtype] : JT_IQ4_NL;
    return n % jt_dtype_block_values(small) == 0 ? small : JT_F16;
}
