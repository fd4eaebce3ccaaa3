/* The page of a report: report_html.c begins, ends and styles it, report_sections*.c
 * have its sections, report_figures.c what these share, report_tables.c the tables. */
#ifndef JT_WATCH_REPORT_PAGE_H
#define JT_WATCH_REPORT_PAGE_H

#include <stdio.h>

#include "junto/report.h"

enum {
    PAGE_MOST = 8,   /* reports side by side */
    FEW_TOKENS = 100 /* too few of a group to say what serves it */
};

typedef struct page {
    FILE *out;
    const jt_report *const *reports; /* [n] */
    size_t n;
    size_t n_layers;
    char (*layer_names)[8];    /* [layers] */
    const char **layer_labels; /* [layers] pointers to these */
    double *room;              /* of figures: as many numbers as the largest takes */
    uint8_t *levels;           /* of heat maps */
} page;

/* What a trace is called: the last part of its path. */
const char *jt_page_trace(const page *p, size_t i);

/* Tables: an overview with a column per trace; the layers of each; pairs of experts;
 * devoted experts of groups. */
void jt_page_overview(const page *p);
void jt_page_layers(const page *p);
void jt_page_pairs(const page *p, size_t i, bool next);
void jt_page_devoted(const page *p, size_t i, bool classes);

/* ---- what sections share ---- */

/* Begin a section; the caller ends it with "</section>". `title` and `lead` are markup.
 */
void jt_page_section(const page *p, const char *id, const char *title,
                     const char *lead);
/* A figure; of several traces it may belong to one, else `trace` is p->n. */
void jt_page_open_figure(const page *p, size_t trace);
void jt_page_close_figure(const page *p, const char *caption);

/* The key of a chart. */
void jt_page_open_key(const page *p);
void jt_page_key(const page *p, int color, bool faint, const char *name);
void jt_page_close_key(const page *p);
/* That of a chart with a line for each trace, which is called `only` when there is one;
 * and with one by chance for each, unless `chance` is NULL. */
void jt_page_key_traces(const page *p, const char *only, const char *chance);

/* Values of the layers of each trace and, unless `chance` is NULL, what chance gives.
 * NAN is a gap. `high` is the end of the range; 0: as the values need. */
typedef double page_value(const jt_report_layer *layer);
void jt_page_layer_chart(page *p, const char *title, const char *y_title, double high,
                         page_value *value, page_value *chance);

/* ---- sections with their pictures ---- */

void jt_page_load(page *p);
void jt_page_router(page *p);
void jt_page_special(page *p, bool classes);
void jt_page_together(page *p);
void jt_page_locality(page *p);
void jt_page_congestion(page *p);

/* Is there anything to tell apart? */
bool jt_page_has_groups(const page *p, bool classes);
const jt_report_groups *jt_page_groups(const page *p, size_t i, bool classes);
const jt_report_special *jt_page_special_of(const jt_report_layer *layer, bool classes);

#endif
