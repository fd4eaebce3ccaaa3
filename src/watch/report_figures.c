/* What the sections of a page share: figures, keys of charts, charts by layer. */
#include "base/svg.h"
#include "watch/report_chart.h"
#include "watch/report_page.h"

void jt_page_section(const page *p, const char *id, const char *title, const char *lead)
{
    fprintf(p->out, "<section id=\"%s\"><h2>%s</h2>\n<p class=\"lead\">%s</p>\n", id,
            title, lead);
}

void jt_page_open_figure(const page *p, size_t trace)
{
    fputs("<figure>", p->out);
    if (p->n > 1 && trace < p->n) {
        fprintf(p->out, "<h3><i class=\"dot c%zu\"></i> ", trace);
        jt_svg_text(p->out, jt_page_trace(p, trace));
        fputs("</h3>\n", p->out);
    }
}

void jt_page_close_figure(const page *p, const char *caption)
{
    fprintf(p->out, "<figcaption>%s</figcaption></figure>\n", caption);
}

/* ---- keys ---- */

void jt_page_open_key(const page *p)
{
    fputs("<p class=\"key\">", p->out);
}

void jt_page_key(const page *p, int color, bool faint, const char *name)
{
    fprintf(p->out, "<span><i class=\"stroke c%d%s\"></i>", color,
            faint ? " faint" : "");
    jt_svg_text(p->out, name);
    fputs("</span> ", p->out);
}

void jt_page_close_key(const page *p)
{
    fputs("</p>\n", p->out);
}

void jt_page_key_traces(const page *p, const char *only, const char *chance)
{
    jt_page_open_key(p);
    for (size_t i = 0; i < p->n; i++)
        jt_page_key(p, (int)i, false, p->n > 1 ? jt_page_trace(p, i) : only);
    if (chance)
        jt_page_key(p, 0, true, chance);
    jt_page_close_key(p);
}

/* ---- charts by layer ---- */

void jt_page_layer_chart(page *p, const char *title, const char *y_title, double high,
                         page_value *value, page_value *chance)
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
