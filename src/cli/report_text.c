/* A report for a terminal. */
#include <math.h>
#include <stdlib.h>

#include "report.h"

static void print_groups(const char *title, const jt_report_groups *groups)
{
    for (size_t g = 0; g < groups->n; g++)
        printf("%-12s %s: %llu tokens\n", g ? "" : title, groups->names[g],
               (unsigned long long)groups->tokens[g]);
}

static void print_head(const jt_report_info *info)
{
    const jt_trace_info *t = &info->trace;
    printf("trace        %s\n", t->path);
    printf("model        %s (%s)\n", *t->name ? t->name : "no name", t->family);
    printf("tokens       %llu in %llu text%s", (unsigned long long)t->tokens,
           (unsigned long long)info->texts, info->texts == 1 ? "" : "s");
    if (info->sample < t->tokens)
        printf("; sample of %llu", (unsigned long long)info->sample);
    printf("\n");
    print_groups("labels", &info->labels);
    print_groups("classes", &info->classes);
}

/* "0.53 (0.02)": as it is, and by chance */
static void print_beside(double value, double chance)
{
    printf("  %5.3f (%5.3f)", value, chance);
}

/* A picture is no reason to fail: without memory there is none. */
static void print_loads(const jt_report_info *info, const jt_report_layer *layers)
{
    size_t n = (size_t)info->trace.n_layers;
    jt_layer_usage *loads = calloc(n, sizeof *loads);
    char *text = NULL;
    for (size_t i = 0; loads && i < n; i++)
        loads[i] = (jt_layer_usage){.layer = layers[i].layer,
                                    .n_experts = layers[i].n_experts,
                                    .counts = layers[i].load};
    if (loads && jt_loads_draw(loads, n, cli_columns(), false, &text, NULL) == JT_OK)
        printf("\n%s", text);
    free(text);
    free(loads);
}

static void print_layers(const jt_report_info *info, const jt_report_layer *layers)
{
    printf("\n%-6s %-9s %5s %5s %8s %6s %16s%s%s\n", "layer", "experts", "dead", "busy",
           "busiest", "even", "router entropy",
           info->labels.n > 1 ? "          label" : "",
           info->classes.n > 1 ? "          class" : "");
    for (int i = 0; i < info->trace.n_layers; i++) {
        const jt_report_layer *l = &layers[i];
        printf("%-6d %3d of %-3d %4d %5d %7.2fx %6.3f %5.3f (%.2f-%.2f)", l->layer,
               l->k, l->n_experts, l->dead, l->dominant, l->busiest, l->load_entropy,
               l->entropy, l->entropy_low, l->entropy_high);
        if (info->labels.n > 1)
            print_beside(l->label.information, l->label.shuffled);
        if (info->classes.n > 1)
            print_beside(l->token_class.information, l->token_class.shuffled);
        printf("\n");
    }
    printf("busy: experts with over 4 times the mean load; even: entropy of the loads, "
           "1 = all alike\n");
    if (info->labels.n > 1 || info->classes.n > 1)
        printf("label, class: what the expert says of it, 0 to 1 (by chance)\n");
    if (layers[0].congested) {
        printf("\ncongestion  ");
        for (int i = 0; i < info->trace.n_layers; i++)
            printf(" %.1f", layers[i].gamma);
        printf("   (coefficient, layer by layer)\n");
    }
}

static void print_locality(const jt_report_info *info, const jt_report_layer *layers)
{
    const jt_locality_report *real = &info->locality, *chance = &info->shuffled;
    printf("\nlocality of all layers, and of shuffled tokens\n");
    for (int i = 0; i < JT_SPANS; i++) {
        if (!real->srp[i].segments)
            continue;
        printf(
            "  SRP of %-3d tokens %9.4f  %9.4f   keeps %.2f experts for each that is "
            "used\n",
            jt_segment[i], real->srp[i].value, chance->srp[i].value, real->srp[i].size);
    }
    printf("  %-9s hits at", "cache of");
    size_t size[] = {(size_t)layers[0].k, 2 * (size_t)layers[0].k,
                     4 * (size_t)layers[0].k};
    for (int s = 0; s < 3; s++)
        printf("  %4zu experts      ", size[s]);
    printf("\n");
    for (jt_caching c = 0; c < JT_CACHES; c++) {
        printf("  %-17s", jt_cache_name(c));
        for (int s = 0; s < 3; s++) {
            size_t at = size[s] < real->n_sizes ? size[s] : real->n_sizes;
            printf("  %6.4f  (%6.4f)", real->hits[c][at - 1], chance->hits[c][at - 1]);
        }
        printf("\n");
    }
}

static void print_pairs(const char *title, const char *join, const jt_report_info *info,
                        const jt_report_layer *layers, bool next)
{
    enum { SHOWN = 3 };
    printf("\n%s\n", title);
    for (int i = 0; i < info->trace.n_layers; i++) {
        const jt_report_pairs *p = next ? &layers[i].next : &layers[i].together;
        if (!p->measured)
            continue;
        printf("layer %-4d %.4f bits (%.4f)", layers[i].layer, p->bits, p->chance);
        for (size_t j = 0; j < p->n_top && j < SHOWN; j++)
            printf("   %d%s%d %.1f%% x%.1f", p->top[j].a, join, p->top[j].b,
                   100.0 * p->top[j].share, p->top[j].lift);
        printf("\n");
    }
}

void report_print(const jt_report *report)
{
    const jt_report_info *info = jt_report_about(report);
    const jt_report_layer *layers = jt_report_layers(report);
    print_head(info);
    print_loads(info, layers);
    print_layers(info, layers);
    print_locality(info, layers);
    print_pairs("experts of a layer that work together (share of tokens, times chance)",
                "+", info, layers, false);
    print_pairs("experts of the next layer that follow", ">", info, layers, true);
}
