/* Experts that go together, locality, congestion. */
#include <math.h>
#include <string.h>

#include "watch/report_chart.h"
#include "watch/report_page.h"

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
    jt_page_section(
        p, "pairs", "Who works with whom",
        "Experts that a token uses together could lie side by side in memory; an "
        "expert that announces one of the next layer lets it be fetched in time.");
    fputs("<div class=\"grid\">", p->out);
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "as traced", "shuffled tokens");
    jt_page_layer_chart(p, "Co-activation by layer", "bits per pair", 0.0,
                        together_bits, together_chance);
    jt_page_close_figure(
        p, "How far the pairs of experts of a token are from pairs drawn by "
           "their loads (divergence, bits): 0 when experts take no notice of "
           "each other.");
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "as traced", "shuffled tokens");
    jt_page_layer_chart(p, "Affinity with the next layer", "bits", 0.0, next_bits,
                        next_chance);
    jt_page_close_figure(
        p, "Mutual information of an expert of a layer and one that the token "
           "uses in the next layer with experts.");
    for (size_t i = 0; i < p->n; i++) {
        jt_page_open_figure(p, i);
        jt_page_pairs(p, i, false);
        jt_page_close_figure(p, "Pairs of one layer that stand out most.");
        jt_page_open_figure(p, i);
        jt_page_pairs(p, i, true);
        jt_page_close_figure(p, "Experts of the next layer that follow most clearly.");
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
                .color = (int)i, .faint = chance, .dots = !chance, .n = n, .y = y};
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
    jt_caching cache;
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
    jt_page_open_key(p);
    for (int i = 0; i < HIT_LINES; i++) {
        const jt_locality_report *l =
            hit_lines[i].shuffled ? &info->shuffled : &info->locality;
        y[0] = 0.0; /* an empty cache */
        memcpy(y + 1, l->hits[hit_lines[i].cache], (n - 1) * sizeof *y);
        c.line[c.n_lines++] = (chart_line){.color = hit_lines[i].shuffled ? i - 1 : i,
                                           .faint = hit_lines[i].shuffled,
                                           .n = n,
                                           .y = y};
        jt_page_key(p, c.line[i].color, c.line[i].faint, hit_lines[i].name);
        y += n;
    }
    jt_page_close_key(p);
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
    jt_page_section(
        p, "locality", "Do neighbours share experts?",
        "If tokens in a row use the same experts, a machine that cannot hold all of "
        "them may keep those. Dashed lines are the same tokens in random order: only "
        "what lies above them is owed to the order of the text, the rest to uneven "
        "loads.");
    fputs("<div class=\"grid\">", p->out);
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "as traced", "shuffled tokens");
    srp_chart(p);
    jt_page_close_figure(p,
                         "Segment routing best performance: the F1 score of one set of "
                         "experts for so many tokens in a row, when the best threshold "
                         "chooses the set.");
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "as traced", "shuffled tokens");
    jt_page_layer_chart(p, "SRP of 16 tokens by layer", "SRP, 0 to 1", 1.0, layer_srp,
                        layer_srp_shuffled);
    jt_page_close_figure(p, "SRP of 16 tokens, layer by layer.");
    for (size_t i = 0; i < p->n; i++) {
        jt_page_open_figure(p, i);
        hits_chart(p, i);
        jt_page_close_figure(
            p, "Share of uses that find their expert in the cache, all layers "
               "together. Belady knows the whole future, and no cache does "
               "better; SCH 16 knows the next 16 tokens.");
    }
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "as traced", "shuffled tokens");
    gap_chart(p);
    jt_page_close_figure(
        p, "How many tokens after its last use an expert is used again; –8 "
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
    jt_page_section(
        p, "congestion", "How hard the load is pushed apart",
        "The congestion coefficient is 0 when tokens go where they like best, and "
        "grows with whatever spreads them, for example a balance loss in training.");
    fputs("<div class=\"grid\">", p->out);
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "as traced", NULL);
    jt_page_layer_chart(p, "Congestion coefficient by layer", "gamma", 0.0, gamma_of,
                        NULL);
    jt_page_close_figure(
        p, "The coefficient whose congestion game comes nearest to the loads; "
           "the quality of an expert is the log of its mean score.");
    fputs("</div></section>\n", p->out);
}
