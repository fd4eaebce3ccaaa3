#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/svg.h"
#include "watch/report_chart.h"
#include "watch/report_page.h"

static void section(const page *p, const char *id, const char *title, const char *lead)
{
    fprintf(p->out, "<section id=\"%s\"><h2>%s</h2>\n<p class=\"lead\">%s</p>\n", id,
            title, lead);
}

/* A figure; with several traces it may belong to one of them. */
static void open_figure(const page *p, size_t trace)
{
    fputs("<figure>", p->out);
    if (p->n > 1 && trace < p->n) {
        fprintf(p->out, "<h3><i class=\"dot c%zu\"></i> ", trace);
        jt_svg_text(p->out, jt_page_trace(p, trace));
        fputs("</h3>\n", p->out);
    }
}

static void close_figure(const page *p, const char *caption)
{
    fprintf(p->out, "<figcaption>%s</figcaption></figure>\n", caption);
}

/* ---- keys ---- */

static void open_key(const page *p)
{
    fputs("<p class=\"key\">", p->out);
}

static void key(const page *p, int color, bool faint, const char *name)
{
    fprintf(p->out, "<span><i class=\"stroke c%d%s\"></i>", color,
            faint ? " faint" : "");
    jt_svg_text(p->out, name);
    fputs("</span> ", p->out);
}

static void close_key(const page *p)
{
    fputs("</p>\n", p->out);
}

/* The key of a chart with a line for each trace; one by chance for each. */
static void key_traces(const page *p, const char *only, const char *chance)
{
    open_key(p);
    for (size_t i = 0; i < p->n; i++)
        key(p, (int)i, false, p->n > 1 ? jt_page_trace(p, i) : only);
    if (chance)
        key(p, 0, true, chance);
    close_key(p);
}

/* ---- charts by layer ---- */

typedef double value_fn(const jt_report_layer *layer);

/* Values of each trace and, when `chance` is there, what chance gives. */
static void layer_chart(page *p, const char *title, const char *y_title, double high,
                        value_fn *value, value_fn *chance)
{
    chart c = {.title = title,
               .x_title = "layer",
               .y_title = y_title,
               .n_x = p->n_layers,
               .ticks = p->layer_labels,
               .high = high};
    double *y = p->room;
    for (size_t i = 0; i < p->n; i++) {
        const jt_report_layer *layers = jt_report_layers(p->reports[i]);
        for (int by_chance = 0; by_chance < (chance ? 2 : 1); by_chance++) {
            for (size_t l = 0; l < p->n_layers; l++)
                y[l] = (by_chance ? chance : value)(&layers[l]);
            c.line[c.n_lines++] = (chart_line){.color = (int)i,
                                               .faint = by_chance,
                                               .dots = !by_chance && p->n_layers < 70,
                                               .n = p->n_layers,
                                               .y = y};
            y += p->n_layers;
        }
    }
    jt_chart_draw(p->out, &c);
}

/* ---- load ---- */

/* Levels of the cells; experts share a column when there are very many. */
static void load_map(page *p, size_t trace)
{
    const jt_report_layer *layers = jt_report_layers(p->reports[trace]);
    size_t most = 1;
    for (size_t l = 0; l < p->n_layers; l++)
        most = (size_t)layers[l].n_experts > most ? (size_t)layers[l].n_experts : most;
    size_t per = (most + HEAT_MOST_COLUMNS - 1) / HEAT_MOST_COLUMNS;
    heat_map m = {.title = "Load of each expert of each layer, relative to the mean of "
                           "its layer",
                  .x_title = "expert",
                  .y_title = "layer",
                  .rows = p->n_layers,
                  .columns = (most + per - 1) / per,
                  .level = p->levels,
                  .names = p->layer_labels,
                  .per_column = (double)per};
    for (size_t l = 0; l < m.rows; l++) {
        size_t n = (size_t)layers[l].n_experts;
        double mean = (double)layers[l].picks / (double)n;
        for (size_t c = 0; c < m.columns; c++) {
            double load = 0.0;
            size_t end = (c + 1) * per < n ? (c + 1) * per : n, first = c * per;
            for (size_t e = first; e < end; e++)
                load += (double)layers[l].load[e];
            p->levels[l * m.columns + c] =
                first < end ? jt_heat_level(load / mean / (double)(end - first))
                            : HEAT_NONE + 1; /* not there */
        }
    }
    jt_heat_map_draw(p->out, &m);
    jt_heat_legend(p->out, "times the mean:", "never");
}

void jt_page_load(page *p)
{
    fputs("<section id=\"load\" class=\"first\"><div class=\"grid\">", p->out);
    fprintf(p->out, "<figure%s>", p->n > 1 ? " class=\"all\"" : "");
    jt_page_overview(p);
    fputs("</figure>", p->out);
    for (size_t i = 0; i < p->n; i++) {
        open_figure(p, i);
        load_map(p, i);
        close_figure(p, "Load. Each cell is an expert: orange ones work more than the "
                        "mean of their layer, blue ones less; red ones were never "
                        "chosen.");
    }
    fputs("</div></section>\n", p->out);
}

/* ---- router ---- */

static double evenness(const jt_report_layer *layer)
{
    return layer->load_entropy;
}

static void entropy_chart(page *p)
{
    chart c = {.title = "Entropy of the router by layer",
               .x_title = "layer",
               .y_title = "entropy, 0 to 1",
               .n_x = p->n_layers,
               .ticks = p->layer_labels,
               .high = 1.0};
    double *room = p->room;
    for (size_t i = 0; i < p->n; i++) {
        const jt_report_layer *layers = jt_report_layers(p->reports[i]);
        double *y = room, *low = y + p->n_layers, *high = low + p->n_layers;
        for (size_t l = 0; l < p->n_layers; l++) {
            y[l] = layers[l].entropy;
            low[l] = layers[l].entropy_low;
            high[l] = layers[l].entropy_high;
        }
        c.line[c.n_lines++] = (chart_line){.color = (int)i,
                                           .dots = p->n_layers < 70,
                                           .n = p->n_layers,
                                           .y = y,
                                           .low = p->n == 1 ? low : NULL,
                                           .high = high};
        room = high + p->n_layers;
    }
    jt_chart_draw(p->out, &c);
}

void jt_page_router(page *p)
{
    section(p, "router", "How sure the router is",
            "A low entropy of the scores means that a token knows where to go; a high "
            "evenness of the loads means that all experts are needed.");
    fputs("<div class=\"grid\">", p->out);
    open_figure(p, p->n);
    key_traces(p, "mean of the tokens", NULL);
    entropy_chart(p);
    close_figure(p, p->n == 1 ? "Entropy of a token’s scores over that of an undecided "
                                "router. The band holds 80% of the tokens."
                              : "Entropy of a token’s scores over that of an undecided "
                                "router, mean of the tokens.");
    open_figure(p, p->n);
    key_traces(p, "load", NULL);
    layer_chart(p, "Evenness of the load by layer", "entropy, 0 to 1", 1.0, evenness,
                NULL);
    close_figure(p, "Entropy of the shares that the experts have in the work: 1 when "
                    "all have the same.");
    fputs("</div></section>\n", p->out);
}

/* ---- groups ---- */

static double label_value(const jt_report_layer *layer)
{
    return layer->label.information;
}

static double label_chance(const jt_report_layer *layer)
{
    return layer->label.shuffled;
}

static double class_value(const jt_report_layer *layer)
{
    return layer->token_class.information;
}

static double class_chance(const jt_report_layer *layer)
{
    return layer->token_class.shuffled;
}

/* A row of the map: how much more than its share of group `g` each expert gets. */
static void group_row(uint8_t *level, size_t columns, size_t per,
                      const jt_report_layer *layer, const uint64_t *counts, size_t g,
                      size_t groups)
{
    size_t n = (size_t)layer->n_experts;
    double all = 0.0, of_group = 0.0;
    for (size_t i = 0; i < n * groups; i++) {
        all += (double)counts[i];
        of_group += i % groups == g ? (double)counts[i] : 0.0;
    }
    for (size_t c = 0; c < columns; c++) {
        double mine = 0.0, picks = 0.0;
        for (size_t e = c * per; e < (c + 1) * per && e < n; e++) {
            mine += (double)counts[e * groups + g];
            for (size_t other = 0; other < groups; other++)
                picks += (double)counts[e * groups + other];
        }
        level[c] = picks > 0.0 && of_group > 0.0
                       ? jt_heat_level(mine / picks * all / of_group)
                       : HEAT_NONE;
    }
}

static void group_map(page *p, size_t trace, const jt_report_layer *layer, bool classes)
{
    const jt_report_groups *groups = jt_page_groups(p, trace, classes);
    const uint64_t *counts = jt_page_special_of(layer, classes)->counts;
    const char *names[JT_REPORT_GROUPS];
    size_t n = (size_t)layer->n_experts;
    size_t per = (n + HEAT_MOST_COLUMNS - 1) / HEAT_MOST_COLUMNS;
    heat_map m = {.title =
                      "Share of each group in the work of each expert, relative to "
                      "its share of all tokens",
                  .x_title = "expert",
                  .y_title = "",
                  .long_names = true,
                  .columns = (n + per - 1) / per,
                  .level = p->levels,
                  .names = names,
                  .per_column = (double)per};
    for (size_t g = 0; g < groups->n; g++) {
        uint8_t *level = p->levels + m.rows * m.columns;
        if (groups->tokens[g] < FEW_TOKENS)
            continue;
        group_row(level, m.columns, per, layer, counts, g, groups->n);
        names[m.rows++] = groups->names[g];
    }
    jt_heat_map_draw(p->out, &m);
    jt_heat_legend(p->out, "times chance:", "never");
}

/* The layer whose experts say most about the group. */
static const jt_report_layer *most_special(const page *p, size_t trace, bool classes)
{
    const jt_report_layer *layers = jt_report_layers(p->reports[trace]), *best = layers;
    for (size_t l = 1; l < p->n_layers; l++) {
        if (jt_page_special_of(&layers[l], classes)->information >
            jt_page_special_of(best, classes)->information)
            best = &layers[l];
    }
    return best;
}

void jt_page_special(page *p, bool classes)
{
    if (!jt_page_has_groups(p, classes))
        return;
    if (classes)
        section(p, "classes", "What kinds of token experts serve",
                "How much the choice of an expert tells of the class of the token: "
                "letters, digits, punctuation, spaces.");
    else
        section(p, "labels", "What texts experts serve",
                "How much the choice of an expert tells of the label of the text, for "
                "example its domain.");
    fputs("<div class=\"grid\">", p->out);
    open_figure(p, p->n);
    key_traces(p, "as traced", "by chance");
    layer_chart(p, "Information of the expert by layer", "I / H, 0 to 1", 0.0,
                classes ? class_value : label_value,
                classes ? class_chance : label_chance);
    close_figure(p,
                 "Mutual information of expert and group over the entropy of the "
                 "group: 0 when all groups use the experts alike, 1 when each expert "
                 "serves one group. Dashed: with the groups dealt anew.");
    for (size_t i = 0; i < p->n; i++) {
        if (jt_page_groups(p, i, classes)->n < 2)
            continue;
        const jt_report_layer *layer = most_special(p, i, classes);
        open_figure(p, i);
        group_map(p, i, layer, classes);
        fprintf(p->out,
                "<figcaption>Layer %d, where experts say most: orange where an expert "
                "gets more of a group than its share of the tokens.</figcaption>",
                layer->layer);
        jt_page_devoted(p, i, classes);
        close_figure(p, "Experts with the largest part of their work from a group, "
                        "among those that do at least 1% of the group’s. Groups of "
                        "fewer than 100 tokens are left out.");
    }
    fputs("</div></section>\n", p->out);
}

/* ---- pairs ---- */

/* Not everything is measured in every layer: a gap in the line. */
static double together_bits(const jt_report_layer *layer)
{
    return layer->together.measured ? layer->together.bits : NAN;
}

static double together_chance(const jt_report_layer *layer)
{
    return layer->together.measured ? layer->together.chance : NAN;
}

static double next_bits(const jt_report_layer *layer)
{
    return layer->next.measured ? layer->next.bits : NAN;
}

static double next_chance(const jt_report_layer *layer)
{
    return layer->next.measured ? layer->next.chance : NAN;
}

void jt_page_together(page *p)
{
    section(p, "pairs", "Who works with whom",
            "Experts that a token uses together could lie side by side in memory; an "
            "expert that announces one of the next layer lets it be fetched in time.");
    fputs("<div class=\"grid\">", p->out);
    open_figure(p, p->n);
    key_traces(p, "as traced", "shuffled tokens");
    layer_chart(p, "Co-activation by layer", "bits per pair", 0.0, together_bits,
                together_chance);
    close_figure(p, "How far the pairs of experts of a token are from pairs drawn by "
                    "their loads (divergence, bits): 0 when experts take no notice of "
                    "each other.");
    open_figure(p, p->n);
    key_traces(p, "as traced", "shuffled tokens");
    layer_chart(p, "Affinity with the next layer", "bits", 0.0, next_bits, next_chance);
    close_figure(p, "Mutual information of an expert of a layer and one that the token "
                    "uses in the next layer with experts.");
    for (size_t i = 0; i < p->n; i++) {
        open_figure(p, i);
        jt_page_pairs(p, i, false);
        close_figure(p, "Pairs of one layer that stand out most.");
        open_figure(p, i);
        jt_page_pairs(p, i, true);
        close_figure(p, "Experts of the next layer that follow most clearly.");
    }
    fputs("</div></section>\n", p->out);
}

/* ---- locality ---- */

static void srp_chart(page *p)
{
    static const char *const ticks[JT_SPANS] = {"4", "16", "64", "256"};
    chart c = {.title = "SRP by length of the segment",
               .x_title = "tokens in a row",
               .y_title = "SRP, 0 to 1",
               .n_x = JT_SPANS,
               .ticks = ticks,
               .high = 1.0};
    double *y = p->room;
    for (size_t i = 0; i < p->n; i++) {
        const jt_report_info *info = jt_report_about(p->reports[i]);
        for (int chance = 0; chance < 2; chance++) {
            const jt_locality_report *l = chance ? &info->shuffled : &info->locality;
            size_t n = 0;
            for (; n < JT_SPANS && l->srp[n].segments; n++)
                y[n] = l->srp[n].value;
            c.line[c.n_lines++] = (chart_line){
                .color = (int)i, .faint = chance, .dots = true, .n = n, .y = y};
            y += JT_SPANS;
        }
    }
    jt_chart_draw(p->out, &c);
}

static void gap_chart(page *p)
{
    static const char *const ticks[JT_GAPS] = {"1",   "2",   "–4",   "–8",   "–16",
                                               "–32", "–64", "–128", "–256", "–512",
                                               "–1k", "–2k", "–4k",  "more"};
    chart c = {.title = "Tokens between two uses of an expert",
               .x_title = "tokens since the last use",
               .y_title = "share of uses",
               .n_x = JT_GAPS,
               .ticks = ticks};
    for (size_t i = 0; i < p->n; i++) {
        const jt_report_info *info = jt_report_about(p->reports[i]);
        c.line[c.n_lines++] = (chart_line){
            .color = (int)i, .dots = true, .n = JT_GAPS, .y = info->locality.gaps};
        c.line[c.n_lines++] = (chart_line){
            .color = (int)i, .faint = true, .n = JT_GAPS, .y = info->shuffled.gaps};
    }
    jt_chart_draw(p->out, &c);
}

/* Caches of a figure, and whose shuffled tokens stand beside them. */
static const struct {
    jt_cache cache;
    bool shuffled;
    const char *name;
} hit_lines[] = {{JT_CACHE_BELADY, false, "Belady"},
                 {JT_CACHE_SCH_16, false, "SCH 16"},
                 {JT_CACHE_LFU, false, "LFU"},
                 {JT_CACHE_LRU, false, "LRU"},
                 {JT_CACHE_LRU, true, "LRU, shuffled tokens"}};
enum { HIT_LINES = sizeof hit_lines / sizeof *hit_lines };

static void hits_chart(page *p, size_t trace)
{
    const jt_report_info *info = jt_report_about(p->reports[trace]);
    size_t n = info->locality.n_sizes + 1;
    chart c = {.title = "Hit rate by size of the cache",
               .x_title = "experts that the cache of a layer holds",
               .y_title = "hit rate",
               .n_x = n,
               .high = 1.0};
    double *y = p->room;
    open_key(p);
    for (int i = 0; i < HIT_LINES; i++) {
        const jt_locality_report *l =
            hit_lines[i].shuffled ? &info->shuffled : &info->locality;
        y[0] = 0.0; /* an empty cache */
        memcpy(y + 1, l->hits[hit_lines[i].cache], (n - 1) * sizeof *y);
        c.line[c.n_lines++] = (chart_line){.color = hit_lines[i].shuffled ? i - 1 : i,
                                           .faint = hit_lines[i].shuffled,
                                           .n = n,
                                           .y = y};
        key(p, c.line[i].color, c.line[i].faint, hit_lines[i].name);
        y += n;
    }
    close_key(p);
    jt_chart_draw(p->out, &c);
}

static double layer_srp(const jt_report_layer *layer)
{
    return layer->locality.srp[1].value;
}

static double layer_srp_shuffled(const jt_report_layer *layer)
{
    return layer->shuffled.srp[1].value;
}

void jt_page_locality(page *p)
{
    section(
        p, "locality", "Do neighbours share experts?",
        "If tokens in a row use the same experts, a machine that cannot hold all of "
        "them may keep those. Dashed lines are the same tokens in random order: only "
        "what lies above them is owed to the order of the text, the rest to uneven "
        "loads.");
    fputs("<div class=\"grid\">", p->out);
    open_figure(p, p->n);
    key_traces(p, "as traced", "shuffled tokens");
    srp_chart(p);
    close_figure(p, "Segment routing best performance: the F1 score of one set of "
                    "experts for so many tokens in a row, when the best threshold "
                    "chooses the set.");
    open_figure(p, p->n);
    key_traces(p, "as traced", "shuffled tokens");
    layer_chart(p, "SRP of 16 tokens by layer", "SRP, 0 to 1", 1.0, layer_srp,
                layer_srp_shuffled);
    close_figure(p, "SRP of 16 tokens, layer by layer.");
    for (size_t i = 0; i < p->n; i++) {
        open_figure(p, i);
        hits_chart(p, i);
        close_figure(p, "Share of uses that find their expert in the cache, all layers "
                        "together. Belady knows the whole future, SCH 16 the next 16 "
                        "tokens: no cache can do better with that.");
    }
    open_figure(p, p->n);
    key_traces(p, "as traced", "shuffled tokens");
    gap_chart(p);
    close_figure(p, "How many tokens after its last use an expert is used again; –8 "
                    "means 5 to 8.");
    fputs("</div></section>\n", p->out);
}

/* ---- congestion ---- */

static double gamma_of(const jt_report_layer *layer)
{
    return layer->gamma;
}

void jt_page_congestion(page *p)
{
    if (!jt_report_layers(p->reports[0])->congested)
        return;
    section(
        p, "congestion", "How hard the load is pushed apart",
        "The congestion coefficient is 0 when tokens go where they like best, and "
        "grows with whatever spreads them, for example a balance loss in training.");
    fputs("<div class=\"grid\">", p->out);
    open_figure(p, p->n);
    key_traces(p, "as traced", NULL);
    layer_chart(p, "Congestion coefficient by layer", "gamma", 0.0, gamma_of, NULL);
    close_figure(p, "The coefficient whose congestion game comes nearest to the loads; "
                    "the quality of an expert is the log of its mean score.");
    fputs("</div></section>\n", p->out);
}
