/* The page of a report: report_html.c begins, ends and styles it, report_sections.c has
 * its sections, report_tables.c the tables. */
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

/* Sections with their pictures. */
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
