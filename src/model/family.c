#include "model/family.h"

#include <string.h>

#include "junto/model.h"

/* clang-format off */
static const jt_family families[] = {
    /* Llama 1-3, Mistral, SmolLM; with experts: Mixtral. Converters reorder the rows of q
     * and k so that rotation pairs are neighbours. */
    {.arch = "llama", .upcycled = "llama", .gating = JT_GATE_SOFTMAX, .renormalise = true},
    {.arch = "qwen2", .upcycled = "llama", .rope_neox = true},
    /* Weights are the plain softmax values, unless the file says otherwise. */
    {.arch = "qwen2moe", .rope_neox = true, .gating = JT_GATE_SOFTMAX},
    {.arch = "qwen3", .upcycled = "qwen3moe", .rope_neox = true,
     .qk_norm = JT_QK_NORM_HEAD},
    {.arch = "qwen3moe", .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD,
     .gating = JT_GATE_SOFTMAX, .renormalise = true},
    {.arch = "olmoe", .rope_neox = true, .qk_norm = JT_QK_NORM_WHOLE,
     .gating = JT_GATE_SOFTMAX},
    /* Junto's own, for models that no other family describes: any router, shared experts
     * with or without a gate. */
    {.arch = "junto", .rope_neox = true, .qk_norm = JT_QK_NORM_HEAD,
     .gating = JT_GATE_SOFTMAX},
};
/* clang-format on */

enum { FAMILIES = sizeof families / sizeof *families };

const jt_family *jt_family_find(const char *arch, size_t len)
{
    for (size_t i = 0; i < FAMILIES; i++) {
        if (strlen(families[i].arch) == len && memcmp(families[i].arch, arch, len) == 0)
            return &families[i];
    }
    return NULL;
}

const char *jt_family_name(size_t i)
{
    return i < FAMILIES ? families[i].arch : NULL;
}
