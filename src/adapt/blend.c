#include "adapt/blend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "format/gguf_file.h"

static const jt_blend_method methods[] = {
    {.name = "mixlora",
     .what = "experts are the FFN with adapters; a gate per layer, top-k",
     .producer = JT_BY_LAYER,
     .k = 2,
     .renormalise = true,
     .fresh = true},
    {.name = "meteora",
     .what = "adapters of others; a gate per weight, top-k",
     .producer = JT_BY_GATE,
     .k = 2,
     .gate_after = true},
    {.name = "lora-mixer",
     .what = "adapters of others; a gate per weight, learnt over all, then top-k",
     .producer = JT_BY_GATE,
     .k = 3,
     .renormalise = true,
     .learns_all = true},
    {.name = "k-shot",
     .what = "adapters of others, chosen by samples; a gate per weight, top-k",
     .producer = JT_BY_GATE,
     .k = 2,
     .renormalise = true,
     .trains_all = true},
    {.name = "x-lora",
     .what = "adapters of others; a head on the hidden states of a first pass",
     .producer = JT_BY_PASS},
    {.name = "phi-4",
     .what = "adapters of others; a rule for each sequence",
     .producer = JT_BY_RULE,
     .k = 1},
};

const jt_blend_method *jt_blend_method_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strlen(methods[i].name) == len && memcmp(methods[i].name, name, len) == 0)
            return &methods[i];
    }
    return NULL;
}

/* ---- life ---- */

static jt_status no_memory(jt_err *err)
{
    return jt_fail_memory(err, "making a mixture of adapters");
}

jt_status jt_blend_new(jt_blend **out, const jt_blend_method *method, size_t n, int k,
                       jt_err *err)
{
    if (n < 1 || n > JT_BLEND_MOST)
        return jt_fail(err, JT_E_ARG, "a mixture of %zu adapters, expected 1 to %d", n,
                       JT_BLEND_MOST);
    if (k < 0 || (size_t)k > n)
        return jt_fail(err, JT_E_ARG, "a token cannot use %d of %zu adapters", k, n);
    if (k == 0)
        k = method->k && (size_t)method->k < n ? method->k : (int)n;
    jt_blend *b = jt_calloc(1, sizeof *b);
    if (!b)
        return no_memory(err);
    *b = (jt_blend){.method = method,
                    .n = n,
                    .k = k,
                    .gate_after = method->gate_after,
                    .scale = 1.0f,
                    .temperature = 1.0f,
                    .name = jt_calloc(n, sizeof *b->name),
                    .marker_start = jt_calloc(n + 1, sizeof *b->marker_start)};
    if (!b->name || !b->marker_start) {
        jt_blend_free(b);
        return no_memory(err);
    }
    *out = b;
    return JT_OK;
}

static void free_bank(jt_adapter_bank *bank)
{
    free(bank->target);
    free(bank->a.data);
    free(bank->b.data);
    free(bank->gate.data);
}

void jt_blend_free(jt_blend *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n_banks; i++)
        free_bank(&b->bank[i]);
    for (int i = 0; i < JT_HEAD_LAYERS; i++) {
        free(b->head_weight[i].data);
        free(b->head_bias[i].data);
    }
    free(b->bank);
    free(b->name);
    free(b->marker);
    free(b->marker_start);
    free(b);
}

/* ---- banks ---- */

jt_adapter_bank *jt_blend_find(const jt_blend *b, jt_str target)
{
    for (size_t i = 0; i < b->n_banks; i++) {
        const char *name = b->bank[i].target;
        if (strlen(name) == target.len && memcmp(name, target.data, target.len) == 0)
            return &b->bank[i];
    }
    return NULL;
}

/* Zeros. */
static bool make(jt_tensor *t, int n_dims, const size_t *shape)
{
    if (!jt_adapter_make_part(t, n_dims, shape))
        return false;
    memset(t->data, 0, jt_rows(t) * jt_cols(t) * sizeof(float));
    return true;
}

static bool ends_with(jt_str name, const char *tail)
{
    size_t n = strlen(tail);
    return name.len > n && memcmp(name.data + name.len - n, tail, n) == 0;
}

/* Of an FFN the gate stands with the weight that every FFN has. */
static bool has_gate(const jt_blend *b, jt_str target)
{
    return b->method->producer == JT_BY_GATE ||
           (b->method->producer == JT_BY_LAYER && ends_with(target, ".ffn_up.weight"));
}

jt_status jt_blend_add(jt_blend *b, jt_adapter_bank **out, jt_str target, size_t rows,
                       size_t cols, size_t rank, jt_err *err)
{
    jt_adapter_bank bank = {.rows = rows, .cols = cols, .rank = rank};
    if (rank < 1 || rank > JT_ADAPTER_MOST_RANK)
        return jt_fail(err, JT_E_FORMAT, "'%.*s' has rank %zu, expected 1 to %d",
                       JT_GGUF_SHOW(target), rank, JT_ADAPTER_MOST_RANK);
    if (jt_blend_find(b, target))
        return jt_fail(err, JT_E_FORMAT, "'%.*s' is changed twice",
                       JT_GGUF_SHOW(target));
    bank.target = jt_strndup(target.data, target.len);
    bool made = bank.target && make(&bank.a, 3, (size_t[]){b->n, rank, cols}) &&
                make(&bank.b, 3, (size_t[]){b->n, rows, rank}) &&
                (!has_gate(b, target) || make(&bank.gate, 2, (size_t[]){b->n, cols})) &&
                jt_grow((void **)&b->bank, &b->room, b->n_banks + 1, sizeof bank);
    if (!made) {
        free_bank(&bank);
        return no_memory(err);
    }
    b->bank[b->n_banks] = bank;
    *out = &b->bank[b->n_banks++];
    return JT_OK;
}

jt_status jt_blend_add_head(jt_blend *b, size_t d, int depth, size_t width,
                            bool layerwise, jt_err *err)
{
    if (depth < 1 || depth > JT_HEAD_LAYERS || d < 1 || width < 1)
        return jt_fail(err, JT_E_FORMAT, "a head of %d layers, %zu values wide", depth,
                       width);
    for (int i = 0; i < depth; i++) {
        bool last = i + 1 == depth;
        size_t rows = last ? b->n * (layerwise ? b->n_banks : 1) : width;
        size_t cols = i == 0 ? d : width;
        if (!make(&b->head_weight[i], 2, (size_t[]){rows, cols}) ||
            !make(&b->head_bias[i], 1, (size_t[]){rows}))
            return no_memory(err);
        b->depth = i + 1;
    }
    return JT_OK;
}

bool jt_blend_layerwise(const jt_blend *b)
{
    return b->depth && b->n_banks > 1 &&
           jt_rows(&b->head_weight[b->depth - 1]) == b->n * b->n_banks;
}

bool jt_blend_is_fresh(const jt_blend *b)
{
    for (size_t i = 0; i < b->n_banks; i++) {
        const float *x = b->bank[i].b.data;
        size_t values = jt_rows(&b->bank[i].b) * jt_cols(&b->bank[i].b);
        for (size_t j = 0; j < values; j++) {
            if (x[j] != 0.0f)
                return false;
        }
    }
    return true;
}

/* ---- the rule ---- */

jt_status jt_blend_set_markers(jt_blend *b, size_t i, const int32_t *ids, size_t count,
                               jt_err *err)
{
    size_t start = b->marker_start[i];
    int32_t *more = realloc(b->marker, (start + count + 1) * sizeof *more);
    if (!more)
        return no_memory(err);
    b->marker = more;
    if (count)
        memcpy(more + start, ids, count * sizeof *ids);
    for (size_t j = i + 1; j <= b->n; j++)
        b->marker_start[j] = start + count;
    return JT_OK;
}

/* A marker is a run of tokens that stands in the text as it is. */
static bool begins(const jt_blend *b, size_t i, const int32_t *ids, size_t count)
{
    size_t first = b->marker_start[i], n = b->marker_start[i + 1] - first;
    return n && n <= count && memcmp(b->marker + first, ids, n * sizeof *ids) == 0;
}

int jt_blend_marker_at(const jt_blend *b, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < b->n; i++) {
        if (begins(b, i, ids, count))
            return (int)i;
    }
    return -1;
}

int jt_blend_rule(const jt_blend *b, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < b->n; i++) {
        for (size_t at = 0; at < count; at++) {
            if (begins(b, i, ids + at, count - at))
                return (int)i;
        }
    }
    return -1;
}

/* ---- parts ---- */

enum { PER_BANK = 3 };

size_t jt_blend_parts(const jt_blend *b)
{
    return PER_BANK * b->n_banks + 2 * (size_t)b->depth;
}

/* Parts that are empty (no gate) have an empty tensor. */
jt_blend_part jt_blend_part_at(const jt_blend *b, size_t i)
{
    static const char *const names[PER_BANK] = {"mix_a", "mix_b", "mix_gate"};
    jt_blend_part p = {.decides = true};
    size_t layer = i < PER_BANK * b->n_banks ? 0 : i - PER_BANK * b->n_banks;
    if (i >= PER_BANK * b->n_banks) {
        snprintf(p.name, sizeof p.name, "mix.head.%zu.%s", layer / 2,
                 layer % 2 ? "bias" : "weight");
        p.tensor = (jt_tensor *)(layer % 2 ? b->head_bias : b->head_weight) + layer / 2;
        return p;
    }
    jt_adapter_bank *bank = &b->bank[i / PER_BANK];
    jt_tensor *const tensors[PER_BANK] = {&bank->a, &bank->b, &bank->gate};
    snprintf(p.name, sizeof p.name, "%s.%s", bank->target, names[i % PER_BANK]);
    p.tensor = tensors[i % PER_BANK];
    p.decides = i % PER_BANK == 2;
    return p;
}

/* ---- checks ---- */

jt_status jt_blend_check(const jt_blend *b, jt_err *err)
{
    if (!isfinite(b->scale) || !isfinite(b->temperature) || b->temperature <= 0.0f)
        return jt_fail(err, JT_E_FORMAT, "scale %g or temperature %g makes no sense",
                       (double)b->scale, (double)b->temperature);
    for (size_t i = 0; i < jt_blend_parts(b); i++) {
        jt_blend_part p = jt_blend_part_at(b, i);
        size_t n = jt_has(p.tensor) ? jt_rows(p.tensor) * jt_cols(p.tensor) : 0;
        const float *x = p.tensor->data;
        for (size_t j = 0; j < n; j++) {
            if (!isfinite(x[j]))
                return jt_fail(err, JT_E_FORMAT, "'%s' has a value that is not finite",
                               p.name);
        }
    }
    return JT_OK;
}

jt_status jt_blend_fits(const jt_blend *b, const jt_gguf *file, jt_err *err)
{
    for (size_t i = 0; i < b->n_banks; i++) {
        const jt_adapter_bank *bank = &b->bank[i];
        size_t shape[3];
        JT_TRY(jt_adapter_target(file, (jt_str){bank->target, strlen(bank->target)},
                                 shape, err));
        if (shape[0] != 1 || shape[1] != bank->rows || shape[2] != bank->cols)
            return jt_fail(err, JT_E_FORMAT,
                           "'%s' is for a weight of [1, %zu, %zu], the model has [%zu, "
                           "%zu, %zu]",
                           bank->target, bank->rows, bank->cols, shape[0], shape[1],
                           shape[2]);
    }
    return JT_OK;
}
