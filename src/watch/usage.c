#include "watch/usage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

typedef struct layer_counts {
    int layer, n_experts;
    uint64_t tokens;
    uint64_t *counts;
    double *weights;
} layer_counts;

struct jt_usage {
    size_t n_counted;
    layer_counts *counted; /* layers with experts */
    int n_layers;
    int *index; /* [n_layers] place in `counted`, -1 for a dense layer */
};

static bool add_layer(jt_usage *usage, int layer, int n_experts)
{
    layer_counts *counted = &usage->counted[usage->n_counted];
    *counted = (layer_counts){
        .layer = layer,
        .n_experts = n_experts,
        .counts = jt_calloc((size_t)n_experts, sizeof *counted->counts),
        .weights = jt_calloc((size_t)n_experts, sizeof *counted->weights),
    };
    usage->index[layer] = (int)usage->n_counted++;
    return counted->counts && counted->weights;
}

jt_status jt_usage_new_layers(jt_usage **out, const int *n_experts, int n_layers,
                              jt_err *err)
{
    jt_usage *usage = jt_calloc(1, sizeof *usage);
    if (!usage)
        return jt_fail_memory(err, "counting experts");
    usage->n_layers = n_layers;
    usage->counted = jt_calloc((size_t)n_layers, sizeof *usage->counted);
    usage->index = jt_calloc((size_t)n_layers, sizeof *usage->index);
    bool good = usage->counted && usage->index;
    for (int layer = 0; layer < n_layers && good; layer++) {
        usage->index[layer] = -1;
        if (n_experts[layer] > 0)
            good = add_layer(usage, layer, n_experts[layer]);
    }
    if (!good) {
        jt_usage_free(usage);
        return jt_fail_memory(err, "counting experts");
    }
    *out = usage;
    return JT_OK;
}

jt_status jt_usage_new(jt_usage **out, const jt_model *model, jt_err *err)
{
    jt_model_info info;
    jt_model_describe(model, &info);
    int *n_experts = jt_calloc((size_t)info.n_layers, sizeof *n_experts);
    if (!n_experts)
        return jt_fail_memory(err, "counting experts");
    for (int layer = 0; layer < info.n_layers; layer++)
        n_experts[layer] = jt_model_layer_experts(model, layer);
    jt_status status = jt_usage_new_layers(out, n_experts, info.n_layers, err);
    free(n_experts);
    return status;
}

void jt_usage_free(jt_usage *usage)
{
    if (!usage)
        return;
    for (size_t i = 0; usage->counted && i < usage->n_counted; i++) {
        free(usage->counted[i].counts);
        free(usage->counted[i].weights);
    }
    free(usage->counted);
    free(usage->index);
    free(usage);
}

void jt_usage_reset(jt_usage *usage)
{
    for (size_t i = 0; i < usage->n_counted; i++) {
        layer_counts *counted = &usage->counted[i];
        size_t n = (size_t)counted->n_experts;
        counted->tokens = 0;
        memset(counted->counts, 0, n * sizeof *counted->counts);
        memset(counted->weights, 0, n * sizeof *counted->weights);
    }
}

static void on_route(void *self, const jt_route_site *site, const jt_route *route)
{
    jt_usage *usage = self;
    int place = site->layer < usage->n_layers ? usage->index[site->layer] : -1;
    if (place < 0)
        return;
    layer_counts *counted = &usage->counted[place];
    counted->tokens += (uint64_t)route->n_tokens;
    size_t slots = (size_t)route->n_tokens * (size_t)route->k;
    for (size_t i = 0; i < slots; i++) {
        int32_t expert = route->expert[i];
        if (expert < 0 || expert >= counted->n_experts)
            continue;
        counted->counts[expert]++;
        counted->weights[expert] += (double)route->weight[i];
    }
}

jt_watcher jt_usage_watcher(jt_usage *usage)
{
    return (jt_watcher){.name = "usage", .self = usage, .on_route = on_route};
}

/* Entropy of the load shares over that of an even load. */
static double load_entropy(const uint64_t *counts, int n_experts)
{
    double total = 0, entropy = 0;
    for (int e = 0; e < n_experts; e++)
        total += (double)counts[e];
    if (total == 0)
        return 0;
    if (n_experts == 1)
        return 1;
    for (int e = 0; e < n_experts; e++) {
        double share = (double)counts[e] / total;
        if (share > 0)
            entropy -= share * log(share);
    }
    return entropy / log(n_experts);
}

size_t jt_usage_layers(const jt_usage *usage)
{
    return usage->n_counted;
}

void jt_usage_layer(const jt_usage *usage, size_t i, jt_layer_usage *out)
{
    const layer_counts *counted = &usage->counted[i];
    *out = (jt_layer_usage){
        .layer = counted->layer,
        .n_experts = counted->n_experts,
        .tokens = counted->tokens,
        .counts = counted->counts,
        .weights = counted->weights,
        .entropy = load_entropy(counted->counts, counted->n_experts),
    };
}
