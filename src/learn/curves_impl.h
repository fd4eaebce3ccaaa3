/* Inside the curves: series of points, and panels that show them. */
#ifndef JT_CURVES_IMPL_H
#define JT_CURVES_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "junto/status.h"

/* ---- series ---- */

typedef enum jt_series_kind {
    JT_SERIES_LOSS,
    JT_SERIES_HELD_OUT,
    JT_SERIES_DOMAIN,
    JT_SERIES_VIOLATION,
    JT_SERIES_WORST,
    JT_SERIES_RATE,
    JT_SERIES_CONGESTION,
    JT_SERIES_INFORMATION,
    JT_SERIES_CHANCE
} jt_series_kind;

typedef struct jt_point {
    double x, y; /* y may be NaN: a gap */
} jt_point;

typedef struct jt_series {
    jt_series_kind kind;
    char name[64];
    jt_point *point; /* x rises */
    size_t n, capacity;
} jt_series;

typedef struct jt_series_set {
    jt_series *item;
    size_t n, capacity;
} jt_series_set;

/* All series of a log; {0} before. Call jt_series_free in every case. */
jt_status jt_series_read(jt_series_set *set, const char *log_path, jt_err *err);
void jt_series_free(jt_series_set *set);
/* The first series of a kind; NULL for none. */
const jt_series *jt_series_find(const jt_series_set *set, jt_series_kind kind);

/* A mean over a window that grows with the series: as many points as `in`, in `out`. */
void jt_series_smooth(const jt_series *in, jt_point *out);

/* What can be seen of `n` points in `columns` columns of equal width: at most the
 * lowest and the highest of each, in order. In place; gives how many are left. */
size_t jt_series_thin(jt_point *point, size_t n, size_t columns);

/* ---- panels ---- */

typedef struct jt_curve {
    jt_point *point;
    size_t n;
    const char *label; /* NULL: not in the legend, and the range is not made for it */
    char color[16];
    bool strong;
} jt_curve;

typedef struct jt_panel {
    const char *title;
    jt_curve *curve;
    size_t n_curves;
    bool from_zero; /* the range of values begins at 0 */
    double last;    /* steps: the right end */
} jt_panel;

enum { JT_PANEL_LEFT = 70, JT_PANEL_WIDTH = 660, JT_PICTURE_WIDTH = 960 };

/* Draw a panel whose frame begins at `top`. */
void jt_panel_draw(FILE *out, const jt_panel *panel, int top, int height);

#endif
