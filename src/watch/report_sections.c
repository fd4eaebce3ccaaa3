/* Who works, how sure the router is, whom experts serve. */
#include "watch/report_chart.h"
#include "watch/report_page.h"

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
        jt_page_open_figure(p, i);
        load_map(p, i);
        jt_page_close_figure(
            p, "Load. Each cell is an expert: orange ones work more than the "
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
    jt_page_section(
        p, "router", "How sure the router is",
        "A low entropy of the scores means that a token knows where to go; a high "
        "evenness of the loads means that all experts are needed.");
    fputs("<div class=\"grid\">", p->out);
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "mean of the tokens", NULL);
    entropy_chart(p);
    jt_page_close_figure(
        p, p->n == 1 ? "Entropy of a token’s scores over that of an undecided "
                       "router. The band holds 80% of the tokens."
                     : "Entropy of a token’s scores over that of an undecided "
                       "router, mean of the tokens.");
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "load", NULL);
    jt_page_layer_chart(p, "Evenness of the load by layer", "entropy, 0 to 1", 1.0,
                        evenness, NULL);
    jt_page_close_figure(
        p, "Entropy of the shares that the experts have in the work: 1 when "
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
                  .y_title = classes ? "class" : "label",
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
        jt_page_section(
            p, "classes", "What kinds of token experts serve",
            "How much the choice of an expert tells of the class of the token: "
            "letters, digits, punctuation, spaces.");
    else
        jt_page_section(
            p, "labels", "What texts experts serve",
            "How much the choice of an expert tells of the label of the text, for "
            "example its domain.");
    fputs("<div class=\"grid\">", p->out);
    jt_page_open_figure(p, p->n);
    jt_page_key_traces(p, "as traced", "by chance");
    jt_page_layer_chart(p, "Information of the expert by layer", "I / H, 0 to 1", 0.0,
                        classes ? class_value : label_value,
                        classes ? class_chance : label_chance);
    jt_page_close_figure(
        p, "Mutual information of expert and group over the entropy of the "
           "group: 0 when all groups use the experts alike, 1 when each expert "
           "serves one group. Dashed: with the groups dealt anew.");
    for (size_t i = 0; i < p->n; i++) {
        if (jt_page_groups(p, i, classes)->n < 2)
            continue;
        const jt_report_layer *layer = most_special(p, i, classes);
        jt_page_open_figure(p, i);
        group_map(p, i, layer, classes);
        fprintf(p->out,
                "<figcaption>Layer %d, where experts say most: orange where an expert "
                "gets more of a group than its share of the tokens.</figcaption>",
                layer->layer);
        jt_page_devoted(p, i, classes);
        jt_page_close_figure(
            p, "Experts with the largest part of their work from a group, "
               "among those that do at least 1% of the group’s. Groups of "
               "fewer than 100 tokens are left out.");
    }
    fputs("</div></section>\n", p->out);
}
