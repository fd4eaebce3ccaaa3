#include "mixed.h"

#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "scratch.h"

jt_config mixed_config(const char *method)
{
    return (jt_config){.adapter = {.kind = method,
                                   .target = "attn_|ffn_",
                                   .init = "",
                                   .place = "ffn.after|attn.before|ffn.beside",
                                   .activation = "silu",
                                   .marker = "a",
                                   .front = 3,
                                   .text = "a b",
                                   .rank = 3,
                                   .alpha = 5.0,
                                   .experts = MIXED_PARTS,
                                   .temperature = 1.5,
                                   .head_depth = 2,
                                   .head_width = 8,
                                   .layerwise = true}};
}

void mixed_shake(const jt_variables *v)
{
    jt_rng rng = {.seed = 3};
    for (size_t i = 0; i < v->count; i++) {
        const jt_param *p = &v->list[i];
        bool decides = strstr(p->name, "gate") || strstr(p->name, "head");
        for (size_t j = 0; j < p->count * p->rows * p->cols; j++)
            p->value[j] = (decides ? 0.3f : 0.1f) * jt_rng_normal(&rng);
    }
}

void mixed_mark(jt_tuning *tuning, const golden *g)
{
    jt_blend *b = tuning->adapter->blend;
    assert_int_equal(jt_blend_set_markers(b, 0, g->tokens + 3, 2, NULL), JT_OK);
    assert_int_equal(
        jt_blend_set_markers(b, 1, g->tokens + MIXED_DOCUMENT + 1, 2, NULL), JT_OK);
}

/* A prompt ends with the fifth token of the text. */
static void end_prompt(const jt_adapter *a, const golden *g)
{
    for (size_t i = 0; i < a->n_sources; i++) {
        jt_str target;
        if (jt_adapter_source_of(a, i, "p_marker", &target))
            *(int32_t *)a->source[i].t.data = g->tokens[4];
    }
}

void mixed_save(const char *path, const golden *g, const char *method, bool fresh)
{
    jt_err err = {0};
    bool by_rule = strcmp(method, "phi-4") == 0;
    jt_config config = mixed_config(method);
    jt_config_part parts[MIXED_PARTS] = {{"", "", ""}, {"", "", ""}, {"", "", ""}};
    jt_context ctx;
    jt_tuning *tuning;
    jt_variables v;
    if (by_rule) {
        config.adapter.part = parts;
        config.adapter.n_parts = MIXED_PARTS;
    }
    assert_int_equal(jt_context_init(&ctx, 1, NULL, NULL), JT_OK);
    adapted_must(jt_tuning_new(&tuning, &config, g->model, &ctx, &err), &err);
    memset(&v, 0, sizeof v);
    adapted_must(jt_tuning_variables(tuning, &v, &err), &err);
    if (!fresh)
        mixed_shake(&v);
    if (by_rule)
        mixed_mark(tuning, g);
    end_prompt(tuning->adapter, g);
    adapted_must(jt_adapter_save(tuning->adapter, path, JT_ADAPTER_JUNTO, NULL, &err),
                 &err);
    jt_variables_free(&v);
    jt_tuning_free(tuning);
    jt_context_free(&ctx);
}

void mixed_open(jt_adapter **out, const golden *g, const char *method, bool fresh)
{
    scratch folder = scratch_new();
    const char *path = scratch_path(&folder, "mixture.safetensors");
    jt_err err = {0};
    mixed_save(path, g, method, fresh);
    adapted_must(jt_adapter_open(out, path, g->model, &err), &err);
    scratch_free(&folder);
}
