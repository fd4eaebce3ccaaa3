/* Rows of the family table in words. */
#include <stdio.h>
#include <string.h>

#include "junto/model.h"
#include "model/family.h"
#include "model/hf.h"

/* Add ", WHAT" when `yes`. */
static void say(char text[128], bool yes, const char *what)
{
    size_t used = strlen(text);
    if (yes)
        snprintf(text + used, 128 - used, "%s%s", used ? ", " : "", what);
}

static void describe_attention(const jt_family *f, char text[128])
{
    static const char *const norms[] = {[JT_QK_NORM_HEAD] = "norms of q and k per head",
                                        [JT_QK_NORM_WHOLE] = "norms of all q and k"};
    say(text, true, f->latent ? "latent" : "grouped queries");
    say(text, f->qk_norm, norms[f->qk_norm]);
    say(text, f->qk_norm_late, "after the rotation");
    if (f->windows) /* or only where a file says so */
        say(text, f->windows->usual || f->windows->full_every,
            f->windows->chunked ? "chunks" : "windows");
    say(text, f->rope_off_every || (f->windows && f->windows->full_unrotated),
        "layers without rotation");
    say(text, f->softcap > 0.0f, "soft cap");
    say(text, f->attention_gated, "gates");
    say(text, f->recurrent,
        f->abreast ? "beside a state in every layer" : "layers with a state");
}

static void describe_layer(const jt_family *f, char text[128])
{
    static const char *const activations[] = {[JT_SILU] = "SiLU",
                                              [JT_GELU] = "GELU (tanh)",
                                              [JT_GELU_ERF] = "GELU",
                                              [JT_RELU2] = "ReLU^2",
                                              [JT_SWIGLU_OAI] = "clamped SwiGLU"};
    const jt_norm_names *names = jt_family_norms(f);
    bool before = (*names)[JT_BEFORE_ATTENTION], after = (*names)[JT_AFTER_FFN];
    say(text, true, f->norm == JT_NORM_LAYER ? "LayerNorm" : "RMSNorm");
    say(text, f->norm_plain, "without weights");
    say(text, after, before ? "before and after" : "after only");
    say(text, true, activations[f->activation]);
    say(text, f->ffn_plain, "no gate");
    say(text, f->carries_normed, "normed residuals");
    say(text, f->parallel, "attention and FFN in parallel");
    say(text, f->beside, "experts beside a dense FFN");
    say(text, f->layer_inputs, "embeddings of each layer");
    say(text, f->embedding_root || f->embedding_scale > 0.0f || f->logits_divided,
        "multipliers");
}

static void describe_router(const jt_family *f, char text[128])
{
    static const char *const gates[] = {[JT_GATE_SOFTMAX] = "softmax",
                                        [JT_GATE_SIGMOID] = "sigmoid",
                                        [JT_GATE_SQRT_SOFTPLUS] = "sqrt-softplus",
                                        [JT_GATE_SPARSEMIXER] = "SparseMixer"};
    if (f->kind == JT_DENSE)
        return;
    say(text, true, gates[f->gating]);
    say(text, f->gate_after && f->gating == JT_GATE_SOFTMAX, "over the chosen");
    say(text, f->renormalise, "renormalised");
    say(text, f->select, f->select);
    say(text, f->weigh_input, "weights on the input");
}

bool jt_family_describe(size_t i, jt_family_info *info)
{
    const jt_family *f = jt_family_at(i);
    if (!f)
        return false;
    *info = (jt_family_info){
        .name = f->arch,
        .models = f->models ? f->models : f->arch,
        .dense = f->kind != JT_MIXTURES,
        .mixture = f->kind != JT_DENSE,
        .trains = jt_family_trains(f),
        .starts = jt_family_plain(f) && jt_family_trains(f),
    };
    for (size_t j = 0; jt_hf_families[j]; j++)
        info->converts =
            info->converts || strcmp(jt_hf_families[j]->arch, f->arch) == 0;
    describe_attention(f, info->attention);
    describe_layer(f, info->layer);
    describe_router(f, info->router);
    return true;
}
