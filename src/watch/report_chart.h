/* Charts and heat maps as inline SVG. Colours are classes that the style of the page
 * gives, so that they follow light and dark. */
#ifndef JT_WATCH_REPORT_CHART_H
#define JT_WATCH_REPORT_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CHART_WIDTH = 560, CHART_MOST_LINES = 24 };

typedef struct chart_line {
    int color;  /* 0 .. 7 */
    bool faint; /* dashed: what chance gives */
    bool dots;  /* with a dot at each value */
    size_t n;   /* values */
    const double *y;
    const double *low, *high; /* with a band between these; or NULL */
} chart_line;

/* Values at the x positions 0, 1, 2, .. */
typedef struct chart {
    const char *title; /* for who cannot see it, and under the pointer */
    const char *x_title, *y_title;
    size_t n_x;               /* positions; at least 1 */
    const char *const *ticks; /* [n_x] names of the positions; NULL: `first` + i */
    int first;
    double low, high; /* of y; high 0: what the lines need */
    size_t n_lines;
    chart_line line[CHART_MOST_LINES];
} chart;

void jt_chart_draw(FILE *out, const chart *chart);

/* Cells [rows, columns] of a level each; HEAT_NONE is the level of what never happened.
 */
enum { HEAT_LEVELS = 7, HEAT_EVEN = 3, HEAT_NONE = 7, HEAT_MOST_COLUMNS = 256 };

typedef struct heat_map {
    const char *title, *x_title, *y_title;
    size_t rows, columns;
    const uint8_t *level;     /* [rows, columns] */
    const char *const *names; /* [rows] */
    bool long_names;          /* more room for them */
    double per_column;        /* experts in one, for the ticks */
} heat_map;

void jt_heat_map_draw(FILE *out, const heat_map *map);

/* Level of a share relative to the mean: steps of 2 from 1/8 to 8. */
uint8_t jt_heat_level(double ratio);
/* What the levels mean, as a row of squares. */
void jt_heat_legend(FILE *out, const char *of_what, const char *none);

#endif
