#include <math.h>
#include <stdarg.h>

#include "base/svg.h"
#include "watch/report_page.h"

static void text(const page *p, const char *words)
{
    jt_svg_text(p->out, words);
}

static void cell(const page *p, const char *format, ...) JT_PRINTF(2, 3);
static void cell(const page *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("<td>", p->out);
    vfprintf(p->out, format, args);
    fputs("</td>", p->out);
    va_end(args);
}

/* A number with its thousands apart. */
static void count_cell(const page *p, uint64_t value)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    fputs("<td>", p->out);
    for (int i = 0; i < len; i++)
        fprintf(p->out, "%s%c", i && (len - i) % 3 == 0 ? "\u202f" : "", digits[i]);
    fputs("</td>", p->out);
}

/* A value, and small beside it what chance gives. */
static void cell_beside(const page *p, double value, double chance)
{
    cell(p, "%.3f <small>(%.3f)</small>", value, chance);
}

/* ---- overview ---- */

typedef void row_fn(const page *p, const jt_report_info *info,
                    const jt_report_layer *layers);

static void row(const page *p, const char *name, const char *meaning, row_fn *fn)
{
    fprintf(p->out, "<tr><th scope=\"row\">%s<small>%s</small></th>", name, meaning);
    for (size_t i = 0; i < p->n; i++)
        fn(p, jt_report_about(p->reports[i]), jt_report_layers(p->reports[i]));
    fputs("</tr>\n", p->out);
}

static void row_tokens(const page *p, const jt_report_info *info,
                       const jt_report_layer *layers)
{
    (void)layers;
    count_cell(p, info->trace.tokens);
}

static void row_texts(const page *p, const jt_report_info *info,
                      const jt_report_layer *layers)
{
    (void)layers;
    count_cell(p, info->texts);
}

static void row_dead(const page *p, const jt_report_info *info,
                     const jt_report_layer *layers)
{
    int dead = 0, all = 0;
    for (int i = 0; i < info->trace.n_layers; i++) {
        dead += layers[i].dead;
        all += layers[i].n_experts;
    }
    cell(p, "%d <small>of %d</small>", dead, all);
}

static void row_busiest(const page *p, const jt_report_info *info,
                        const jt_report_layer *layers)
{
    int most = 0;
    for (int i = 0; i < info->trace.n_layers; i++)
        most = layers[i].busiest > layers[most].busiest ? i : most;
    cell(p, "%.1f× <small>layer %d</small>", layers[most].busiest, layers[most].layer);
}

static void row_even(const page *p, const jt_report_info *info,
                     const jt_report_layer *layers)
{
    double sum = 0.0;
    for (int i = 0; i < info->trace.n_layers; i++)
        sum += layers[i].load_entropy;
    cell(p, "%.3f", sum / info->trace.n_layers);
}

static void row_entropy(const page *p, const jt_report_info *info,
                        const jt_report_layer *layers)
{
    double sum = 0.0;
    for (int i = 0; i < info->trace.n_layers; i++)
        sum += layers[i].entropy;
    cell(p, "%.3f", sum / info->trace.n_layers);
}

static void groups_cell(const page *p, const jt_report_info *info,
                        const jt_report_layer *layers, bool classes)
{
    double value = 0.0, chance = 0.0;
    if ((classes ? &info->classes : &info->labels)->n < 2) {
        cell(p, "–");
        return;
    }
    for (int i = 0; i < info->trace.n_layers; i++) {
        value += jt_page_special_of(&layers[i], classes)->information;
        chance += jt_page_special_of(&layers[i], classes)->shuffled;
    }
    cell_beside(p, value / info->trace.n_layers, chance / info->trace.n_layers);
}

static void row_labels(const page *p, const jt_report_info *info,
                       const jt_report_layer *layers)
{
    groups_cell(p, info, layers, false);
}

static void row_classes(const page *p, const jt_report_info *info,
                        const jt_report_layer *layers)
{
    groups_cell(p, info, layers, true);
}

static void row_srp(const page *p, const jt_report_info *info,
                    const jt_report_layer *layers)
{
    (void)layers;
    if (info->locality.srp[1].segments)
        cell_beside(p, info->locality.srp[1].value, info->shuffled.srp[1].value);
    else
        cell(p, "–");
}

/* Hits of caches that hold twice the experts of a token. */
static void hits_cell(const page *p, const jt_locality_report *real,
                      const jt_locality_report *chance, jt_caching cache, int k)
{
    size_t size = 2 * (size_t)k < real->n_sizes ? 2 * (size_t)k : real->n_sizes;
    cell_beside(p, real->hits[cache][size - 1], chance->hits[cache][size - 1]);
}

static void row_lru(const page *p, const jt_report_info *info,
                    const jt_report_layer *layers)
{
    hits_cell(p, &info->locality, &info->shuffled, JT_CACHE_LRU, layers->k);
}

static void row_sch(const page *p, const jt_report_info *info,
                    const jt_report_layer *layers)
{
    hits_cell(p, &info->locality, &info->shuffled, JT_CACHE_SCH_16, layers->k);
}

void jt_page_overview(const page *p)
{
    fputs("<div class=\"wide\"><table class=\"overview\">", p->out);
    if (p->n > 1) {
        fputs("<thead><tr><td></td>", p->out);
        for (size_t i = 0; i < p->n; i++) {
            fprintf(p->out, "<th scope=\"col\"><i class=\"dot c%zu\"></i> ", i);
            text(p, jt_page_trace(p, i));
            fputs("</th>", p->out);
        }
        fputs("</tr></thead>", p->out);
    }
    fputs("<tbody>\n", p->out);
    row(p, "Tokens", "that went through the routers", row_tokens);
    row(p, "Texts", "a new one begins where positions start again", row_texts);
    row(p, "Idle experts", "never chosen", row_dead);
    row(p, "Busiest expert", "its load over the mean of its layer", row_busiest);
    row(p, "Evenness of the load", "entropy, 1 = all experts alike; mean of layers",
        row_even);
    row(p, "Doubt of the router", "entropy of its scores, 0 = sure, 1 = all alike",
        row_entropy);
    if (jt_page_has_groups(p, false))
        row(p, "Known of the label",
            "what an expert tells of it, 0 to 1 (by chance); mean of layers",
            row_labels);
    if (jt_page_has_groups(p, true))
        row(p, "Known of the class of token",
            "what an expert tells of it: letters, digits, …; 0 to 1 (by chance)",
            row_classes);
    row(p, "SRP, 16 tokens",
        "how well one set of experts serves 16 tokens in a row (shuffled tokens)",
        row_srp);
    row(p, "Hits of LRU caches",
        "that hold twice as many experts as a token uses (shuffled tokens)", row_lru);
    row(p, "SCH, 16 tokens ahead",
        "the same for caches that see 16 tokens of the future (shuffled tokens)",
        row_sch);
    fputs("</tbody></table></div>\n", p->out);
}

/* ---- layers ---- */

static void layer_row(const page *p, const jt_report_layer *l)
{
    const jt_locality_report *real = &l->locality, *chance = &l->shuffled;
    fprintf(p->out, "<tr><th scope=\"row\">%d</th>", l->layer);
    cell(p, "%d of %d", l->k, l->n_experts);
    cell(p, "%d", l->dead);
    cell(p, "%d", l->dominant);
    cell(p, "%.2f", l->busiest);
    cell(p, "%.3f", l->load_entropy);
    cell(p, "%.3f <small>(%.2f–%.2f)</small>", l->entropy, l->entropy_low,
         l->entropy_high);
    for (int classes = 0; classes < 2; classes++) {
        const jt_report_special *s = jt_page_special_of(l, classes);
        if (jt_page_has_groups(p, classes))
            cell_beside(p, s->information, s->shuffled);
    }
    cell_beside(p, l->together.bits, l->together.chance);
    cell_beside(p, l->next.bits, l->next.chance);
    cell_beside(p, real->srp[1].value, chance->srp[1].value);
    hits_cell(p, real, chance, JT_CACHE_LRU, l->k);
    hits_cell(p, real, chance, JT_CACHE_SCH_16, l->k);
    hits_cell(p, real, chance, JT_CACHE_BELADY, l->k);
    if (l->congested)
        cell(p, "%.2f", l->gamma);
    fputs("</tr>\n", p->out);
}

void jt_page_layers(const page *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const jt_report_layer *layers = jt_report_layers(p->reports[i]);
        fputs("<details><summary>All layers", p->out);
        if (p->n > 1) {
            fputs(" of ", p->out);
            text(p, jt_page_trace(p, i));
        }
        fputs("</summary><div class=\"wide\"><table><thead><tr><th "
              "scope=\"col\">layer</th><th scope=\"col\">experts</th><th "
              "scope=\"col\">idle</th><th scope=\"col\">over 4×</th><th "
              "scope=\"col\">busiest, ×</th><th scope=\"col\">evenness</th><th "
              "scope=\"col\">doubt (10–90%)</th>",
              p->out);
        if (jt_page_has_groups(p, false))
            fputs("<th scope=\"col\">label</th>", p->out);
        if (jt_page_has_groups(p, true))
            fputs("<th scope=\"col\">class</th>", p->out);
        fputs("<th scope=\"col\">pairs, bits</th><th scope=\"col\">next layer, "
              "bits</th><th scope=\"col\">SRP 16</th><th scope=\"col\">LRU 2k</th><th "
              "scope=\"col\">SCH 16, 2k</th><th scope=\"col\">Belady 2k</th>",
              p->out);
        if (layers->congested)
            fputs("<th scope=\"col\">congestion</th>", p->out);
        fputs("</tr></thead><tbody>\n", p->out);
        for (size_t l = 0; l < p->n_layers; l++)
            layer_row(p, &layers[l]);
        fputs(
            "</tbody></table></div><p class=\"note\">In brackets what shuffled tokens "
            "give; 2k: caches of twice as many experts as a token uses.</p>"
            "</details>\n",
            p->out);
    }
}

/* ---- pairs ---- */

typedef struct placed_pair {
    int layer, next_layer;
    const jt_report_pair *pair;
    double says;
} placed_pair;

/* Put `x` into the list of the strongest, in order. Gives how many they are now. */
static size_t place_pair(placed_pair *best, size_t n, size_t most, placed_pair x)
{
    if (n == most && x.says <= best[n - 1].says)
        return n;
    size_t at = n < most ? n++ : most - 1;
    for (; at > 0 && best[at - 1].says < x.says; at--)
        best[at] = best[at - 1];
    best[at] = x;
    return n;
}

void jt_page_pairs(const page *p, size_t i, bool next)
{
    enum { SHOWN = 10 };
    const jt_report_layer *layers = jt_report_layers(p->reports[i]);
    placed_pair best[SHOWN];
    size_t n = 0;
    for (size_t l = 0; l < p->n_layers; l++) {
        const jt_report_pairs *pairs = next ? &layers[l].next : &layers[l].together;
        for (size_t j = 0; j < pairs->n_top; j++) {
            const jt_report_pair *pair = &pairs->top[j];
            int after = next ? layers[l + 1].layer : layers[l].layer;
            n = place_pair(best, n, SHOWN,
                           (placed_pair){layers[l].layer, after, pair,
                                         pair->share * log2(pair->lift)});
        }
    }
    fprintf(p->out,
            "<div class=\"wide\"><table><thead><tr><th scope=\"col\">layer · "
            "expert</th><th scope=\"col\">%s</th><th scope=\"col\">tokens</th><th "
            "scope=\"col\">times chance</th></tr></thead><tbody>\n",
            next ? "followed by" : "with");
    for (size_t j = 0; j < n; j++) {
        fputs("<tr>", p->out);
        cell(p, "%d · %d", best[j].layer, best[j].pair->a);
        cell(p, "%d · %d", best[j].next_layer, best[j].pair->b);
        cell(p, "%.1f%%", 100.0 * best[j].pair->share);
        cell(p, "%.1f×", best[j].pair->lift);
        fputs("</tr>\n", p->out);
    }
    fputs("</tbody></table></div>\n", p->out);
}

/* ---- devoted experts ---- */

typedef struct devoted {
    int layer, expert;
    double share, lift;
} devoted;

static uint64_t sum(const uint64_t *value, size_t n, size_t step)
{
    uint64_t all = 0;
    for (size_t i = 0; i < n; i += step)
        all += value[i];
    return all;
}

/* Put the experts of a layer among the `n` that give most of their work to group `g`,
 * the most devoted first; of those with too few picks nothing is known. Gives how many
 * they are now. */
static size_t add_devoted(const jt_report_layer *layer, const uint64_t *counts,
                          size_t groups, size_t g, devoted *best, size_t n, size_t most)
{
    size_t cells = (size_t)layer->n_experts * groups;
    double of_all = (double)sum(counts, cells, 1);
    double of_group = (double)sum(counts + g, cells - g, groups);
    for (int e = 0; e < layer->n_experts; e++) {
        const uint64_t *row = counts + (size_t)e * groups;
        double mine = (double)row[g], share = mine / (double)sum(row, groups, 1);
        if (mine < 0.01 * of_group || !(mine > 0.0) ||
            (n == most && share <= best[n - 1].share))
            continue;
        size_t at = n < most ? n++ : most - 1;
        for (; at > 0 && best[at - 1].share < share; at--)
            best[at] = best[at - 1];
        best[at] = (devoted){layer->layer, e, share, share * of_all / of_group};
    }
    return n;
}

void jt_page_devoted(const page *p, size_t i, bool classes)
{
    enum { SHOWN = 4 };
    const jt_report_groups *groups = jt_page_groups(p, i, classes);
    const jt_report_layer *layers = jt_report_layers(p->reports[i]);
    fprintf(p->out,
            "<div class=\"wide\"><table><thead><tr><th scope=\"col\">%s</th><th "
            "scope=\"col\">tokens</th><th class=\"words\" scope=\"col\">most devoted "
            "experts: layer · expert, share of its work, times chance</th></tr></thead>"
            "<tbody>\n",
            classes ? "class" : "label");
    for (size_t g = 0; g < groups->n; g++) {
        devoted best[SHOWN];
        size_t n = 0;
        if (groups->tokens[g] < FEW_TOKENS)
            continue;
        for (size_t l = 0; l < p->n_layers; l++)
            n = add_devoted(&layers[l], jt_page_special_of(&layers[l], classes)->counts,
                            groups->n, g, best, n, SHOWN);
        fputs("<tr><th scope=\"row\">", p->out);
        text(p, groups->names[g]);
        fputs("</th>", p->out);
        count_cell(p, groups->tokens[g]);
        fputs("<td class=\"words\">", p->out);
        for (size_t j = 0; j < n; j++)
            fprintf(p->out,
                    "<span class=\"item\">%d · %d <small>%.0f%%, %.1f×</small></span> ",
                    best[j].layer, best[j].expert, 100.0 * best[j].share, best[j].lift);
        fputs(n ? "</td></tr>\n" : "–</td></tr>\n", p->out);
    }
    fputs("</tbody></table></div>\n", p->out);
}
