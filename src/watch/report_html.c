/* The page: its beginning, style and end. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/svg.h"
#include "watch/report_chart.h"
#include "watch/report_page.h"

static const char style[] =
    ":root{color-scheme:light dark;--paper:#fcfbf8;--ink:#23272d;--soft:#686d75;"
    "--line:#e3e0d9;--card:#fff;--c0:#1f6699;--c1:#c2591e;--c2:#2f7d57;--c3:#7b4fa3;"
    "--c4:#b0872a;--c5:#b83a5e;--c6:#3c8f9d;--c7:#6b6b6b;--h0:#2a6694;--h1:#6f9fc2;"
    "--h2:#b7cfde;--h3:#eae7e0;--h4:#efcba6;--h5:#dd9253;--h6:#b3551a;--h7:#a3123a}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#e6e3dd;"
    "--soft:#9aa1aa;--line:#2c3138;--card:#1a1e23;--c0:#6fb1e4;--c1:#f09a5f;"
    "--c2:#6fc79b;--c3:#bd97e0;--c4:#d9b766;--c5:#f08aa6;--c6:#7fc9d4;--c7:#a8a8a8;"
    "--h0:#6cb0e0;--h1:#457ba3;--h2:#2f4c62;--h3:#2b2f35;--h4:#5c4433;--h5:#a76934;"
    "--h6:#f19a4f;--h7:#ff4d76}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);"
    "font:16px/1.55 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Noto "
    "Sans\",sans-serif}"
    "main{max-width:1180px;margin:0 auto;padding:2.5rem 1.25rem 4rem}"
    "header{margin-bottom:.75rem}.over{margin:0;color:var(--soft);font-size:.85rem;"
    "letter-spacing:.06em;text-transform:uppercase}"
    "h1{margin:.1rem 0 .3rem;font-size:2rem;line-height:1.2;font-weight:650}"
    "h2{margin:0 0 .2rem;font-size:1.3rem;font-weight:650}"
    "h3{margin:0 0 .6rem;font-size:.95rem;font-weight:600;overflow-wrap:anywhere}"
    "header p,.lead{margin:0 0 1.1rem;color:var(--soft);max-width:68ch}"
    "section{margin-top:2.75rem;padding-top:1.5rem;border-top:1px solid var(--line)}"
    "nav a{color:var(--c0);margin-right:1rem;text-decoration:none;white-space:nowrap}"
    "section.first{margin-top:1.1rem;padding:0;border:0}figure.all{grid-column:1/-1}"
    "nav a:hover{text-decoration:underline}nav{line-height:1.9}\n"
    ".grid{display:grid;gap:1rem;align-items:start;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr))}"
    "figure{margin:0;padding:1rem 1rem .9rem;background:var(--card);min-width:0;"
    "border:1px solid var(--line);border-radius:8px}"
    "figcaption,.note{margin:.5rem 0 0;color:var(--soft);font-size:.85rem;"
    "line-height:1.45}.wide{overflow-x:auto}svg{display:block;width:100%;"
    "min-width:400px;height:auto}\n"
    "text{font-size:12px;fill:var(--soft)}.x{text-anchor:middle}.y{text-anchor:end}"
    ".name{fill:var(--ink)}.grid path.grid,svg .grid{stroke:var(--line);fill:none}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".line.faint{stroke-width:1.5;stroke-dasharray:5 4;opacity:.75}"
    ".band{stroke:none;opacity:.14}.heat{shape-rendering:crispEdges}"
    ".key{margin:0 0 .6rem;font-size:.82rem;color:var(--soft)}.heat+.key{margin-top:0}"
    ".key span{white-space:nowrap;margin-right:.8rem}.key i,i.dot{display:inline-block;"
    "width:.8em;height:.8em;border-radius:2px;margin-right:.35em;vertical-align:-.05em}"
    "i.dot{border-radius:50%}.key i.stroke{height:0;width:1.5em;border-radius:0;"
    "border-top-width:2px;border-top-style:solid;background:none;"
    "vertical-align:.25em}"
    ".key i.stroke.faint{border-top-style:dashed}\n"
    "table{border-collapse:collapse;width:100%;font-size:.88rem;"
    "font-variant-numeric:tabular-nums}th,td{padding:.34rem .6rem;text-align:right;"
    "border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}"
    "thead th{color:var(--soft);font-weight:500;vertical-align:bottom}"
    "th:first-child,td:first-child,.words{text-align:left}.words{white-space:normal}"
    "tbody th{font-weight:500}small{color:var(--soft);font-size:.92em}"
    ".overview{font-size:.92rem}.overview th:first-child{min-width:13rem}"
    ".overview th:first-child{white-space:normal}.overview th small{display:block;"
    "font-weight:400;font-size:.85em}.item{white-space:nowrap;margin-right:.9rem}"
    "details{margin-top:1rem}summary{cursor:pointer;color:var(--c0)}"
    "tr:last-child>*{border-bottom:0}footer{margin-top:3rem;color:var(--soft);"
    "font-size:.85rem;max-width:80ch}\n";

/* Classes of colours: strokes of lines, fills of dots, bands and cells. */
static void write_colors(FILE *out)
{
    for (int i = 0; i < PAGE_MOST; i++)
        fprintf(out,
                ".line.c%d,i.c%d{stroke:var(--c%d);border-color:var(--c%d)}"
                ".dot.c%d,.band.c%d,i.dot.c%d{fill:var(--c%d);background:var(--c%d)}\n",
                i, i, i, i, i, i, i, i, i);
    for (int i = 0; i <= HEAT_NONE; i++)
        fprintf(out, ".h%d{fill:var(--h%d);background:var(--h%d)}\n", i, i, i);
}

/* ---- what sections ask ---- */

const char *jt_page_trace(const page *p, size_t i)
{
    const char *path = jt_report_about(p->reports[i])->trace.path;
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

const jt_report_groups *jt_page_groups(const page *p, size_t i, bool classes)
{
    const jt_report_info *info = jt_report_about(p->reports[i]);
    return classes ? &info->classes : &info->labels;
}

const jt_report_special *jt_page_special_of(const jt_report_layer *layer, bool classes)
{
    return classes ? &layer->token_class : &layer->label;
}

bool jt_page_has_groups(const page *p, bool classes)
{
    for (size_t i = 0; i < p->n; i++) {
        if (jt_page_groups(p, i, classes)->n > 1)
            return true;
    }
    return false;
}

/* ---- the page ---- */

static void write_head(const page *p)
{
    const jt_trace_info *t = &jt_report_about(p->reports[0])->trace;
    const char *name = *t->name ? t->name : "(a model without a name)";
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>"
          "<meta name=\"generator\" content=\"junto " JT_VERSION "\"/><title>Routing "
          "of ",
          p->out);
    jt_svg_text(p->out, name);
    fputs("</title>\n<style>\n", p->out);
    fputs(style, p->out);
    write_colors(p->out);
    fputs("</style></head>\n<body><main><header><p class=\"over\">Junto routing "
          "report</p><h1>",
          p->out);
    jt_svg_text(p->out, name);
    fputs("</h1><p>Family ", p->out);
    jt_svg_text(p->out, t->family);
    fprintf(p->out, ", %zu layer%s with experts", p->n_layers,
            p->n_layers == 1 ? "" : "s");
    bool same = true;
    for (int i = 1; i < t->n_layers; i++)
        same = same && t->layers[i].k == t->layers[0].k &&
               t->layers[i].n_experts == t->layers[0].n_experts;
    if (same)
        fprintf(p->out, "; a token uses %d of %d in each", t->layers[0].k,
                t->layers[0].n_experts);
    fputs(". ", p->out);
    if (p->n == 1) {
        fputs("From the trace ", p->out);
        jt_svg_text(p->out, jt_page_trace(p, 0));
        fputs(".", p->out);
    } else {
        fprintf(p->out, "%zu traces side by side.", p->n);
    }
    fputs("</p></header>\n", p->out);
}

static void write_nav(const page *p)
{
    fputs("<nav><a href=\"#load\">Load</a> <a href=\"#router\">Router</a> ", p->out);
    if (jt_page_has_groups(p, false))
        fputs("<a href=\"#labels\">Labels</a> ", p->out);
    if (jt_page_has_groups(p, true))
        fputs("<a href=\"#classes\">Classes</a> ", p->out);
    fputs("<a href=\"#pairs\">Pairs</a> <a href=\"#locality\">Locality</a> ", p->out);
    if (jt_report_layers(p->reports[0])->congested)
        fputs("<a href=\"#congestion\">Congestion</a> ", p->out);
    fputs("<a href=\"#numbers\">Numbers</a></nav>\n", p->out);
}

static void write_foot(const page *p)
{
    fputs("<footer><p>Loads, entropies, SRP, LRU and the distances between uses are of "
          "all tokens; pairs, the other caches and shuffled tokens of ",
          p->out);
    for (size_t i = 0; i < p->n; i++) {
        const jt_report_info *info = jt_report_about(p->reports[i]);
        const char *join = i == 0 ? "" : i + 1 < p->n ? ", " : " and ";
        fprintf(p->out, "%s%llu", join, (unsigned long long)info->sample);
    }
    fputs(" of them. A cache begins empty with each text, and the first use of an "
          "expert counts as a hit while there is room. SRP and SCH: “Not All Models "
          "Suit Expert Offloading” (arXiv 2505.16056). Made by junto " JT_VERSION
          ".</p></footer></main></body></html>\n",
          p->out);
}

static void write_page(page *p)
{
    write_head(p);
    write_nav(p);
    jt_page_load(p);
    jt_page_router(p);
    jt_page_special(p, false);
    jt_page_special(p, true);
    jt_page_together(p);
    jt_page_locality(p);
    jt_page_congestion(p);
    fputs("<section id=\"numbers\"><h2>The numbers</h2>\n", p->out);
    jt_page_layers(p);
    fputs("</section>\n", p->out);
    write_foot(p);
}

/* Room that the figures need, for the largest of them. */
static bool make_room(page *p)
{
    size_t most = 1, columns = HEAT_MOST_COLUMNS;
    const jt_report_layer *layers = jt_report_layers(p->reports[0]);
    p->n_layers = (size_t)jt_report_about(p->reports[0])->trace.n_layers;
    for (size_t l = 0; l < p->n_layers; l++)
        most = (size_t)layers[l].n_experts > most ? (size_t)layers[l].n_experts : most;
    size_t rows = p->n_layers > JT_REPORT_GROUPS ? p->n_layers : JT_REPORT_GROUPS;
    size_t numbers = (most + 1) * CHART_MOST_LINES + p->n_layers * 3 * PAGE_MOST +
                     JT_SPANS * 2 * PAGE_MOST;
    p->room = jt_alloc(numbers, sizeof *p->room);
    p->levels = jt_alloc(rows * columns, 1);
    p->layer_names = jt_alloc(p->n_layers, sizeof *p->layer_names);
    p->layer_labels = jt_alloc(p->n_layers, sizeof *p->layer_labels);
    if (!p->room || !p->levels || !p->layer_names || !p->layer_labels)
        return false;
    for (size_t l = 0; l < p->n_layers; l++) {
        snprintf(p->layer_names[l], sizeof *p->layer_names, "%d", layers[l].layer);
        p->layer_labels[l] = p->layer_names[l];
    }
    return true;
}

jt_status jt_report_write_html(const jt_report *const *reports, size_t n,
                               const char *path, jt_err *err)
{
    if (n < 1 || n > PAGE_MOST)
        return jt_fail(err, JT_E_ARG, "%zu reports on a page, expected 1 to %d", n,
                       PAGE_MOST);
    JT_TRY(jt_report_check_same(reports, n, err));
    page p = {.reports = reports, .n = n};
    jt_output file = {0};
    jt_status status = make_room(&p) ? JT_OK : jt_fail_memory(err, "writing a report");
    if (status == JT_OK)
        status = jt_output_open(&file, path, err);
    if (status == JT_OK) {
        p.out = file.stream;
        write_page(&p);
        status = jt_output_commit(&file, err);
    }
    free(p.room);
    free(p.levels);
    free(p.layer_names);
    free(p.layer_labels);
    return status;
}
