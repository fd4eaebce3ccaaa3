#include <math.h>
#include <string.h>

#include "base/svg.h"
#include "base/utf8.h"
#include "learn/curves_impl.h"

enum { LEGEND_LINE = 16, LEGEND_CHARS = 20, MOST_DOTS = 60 };

/* Values from low to high on `size` pixels. */
typedef struct axis {
    double low, high, step; /* of ticks */
    int size;
} axis;

/* ---- axes ---- */

/* An axis over low .. high, however they are. */
static axis make_axis(double low, double high, int size, int ticks)
{
    double least = 1e-9 * fmax(fmax(fabs(low), fabs(high)), 1e-9);
    if (!(high - low > least)) {
        low -= least;
        high += fmax(fabs(high), 1e-9);
    }
    return (axis){low, high, jt_tick_step(high - low, ticks), size};
}

static double place(const axis *a, double value)
{
    return (value - a->low) / (a->high - a->low) * a->size;
}

/* 1200 as 1.2k, 0.0003 as 3e-4 */
static void print_number(FILE *out, double value)
{
    double size = fabs(value);
    if (size != 0.0 && size < 1e-3) {
        int power = (int)floor(log10(size) + 1e-3); /* 9.999 is 10 */
        fprintf(out, "%.3ge%d", value / pow(10.0, power), power);
    } else if (size >= 1e9) {
        fprintf(out, "%.4gG", value * 1e-9);
    } else if (size >= 1e6) {
        fprintf(out, "%.4gM", value * 1e-6);
    } else if (size >= 1e3) {
        fprintf(out, "%.4gk", value * 1e-3);
    } else {
        fprintf(out, "%.4g", value);
    }
}

/* The first and the last multiple of the step on an axis. */
static void find_ticks(const axis *a, long *first, long *last)
{
    *first = (long)ceil(a->low / a->step - 1e-9);
    *last = (long)floor(a->high / a->step + 1e-9);
}

static void draw_ticks(FILE *out, const axis *x, const axis *y, int top)
{
    long first, last;
    find_ticks(y, &first, &last);
    for (long i = first; i <= last; i++) {
        double value = (double)i * y->step, at = top + y->size - place(y, value);
        fprintf(out, "<path class=\"grid\" d=\"M%d %.1fh%d\"/>", JT_PANEL_LEFT, at,
                x->size);
        fprintf(out, "<text class=\"y\" x=\"%d\" y=\"%.1f\">", JT_PANEL_LEFT - 6,
                at + 4);
        print_number(out, value);
        fputs("</text>\n", out);
    }
    find_ticks(x, &first, &last);
    for (long i = first; i <= last; i++) {
        double value = (double)i * x->step, at = JT_PANEL_LEFT + place(x, value);
        fprintf(out, "<path class=\"grid\" d=\"M%.1f %dv%d\"/>", at, top, y->size);
        fprintf(out, "<text class=\"x\" x=\"%.1f\" y=\"%d\">", at, top + y->size + 15);
        print_number(out, value);
        fputs("</text>\n", out);
    }
}

/* ---- curves ---- */

/* The range of the curves that stand in the legend. */
static axis value_axis(const jt_panel *panel, int height)
{
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < panel->n_curves; i++) {
        const jt_curve *curve = &panel->curve[i];
        for (size_t j = 0; curve->label && j < curve->n; j++) {
            low = fmin(low, isfinite(curve->point[j].y) ? curve->point[j].y : low);
            high = fmax(high, isfinite(curve->point[j].y) ? curve->point[j].y : high);
        }
    }
    if (!(low <= high))
        low = high = 0.0;
    bool from_zero = panel->from_zero && low >= 0.0;
    if (from_zero)
        low = 0.0;
    double margin = 0.04 * (high - low);
    low -= from_zero ? 0.0 : margin;
    return make_axis(low, high + margin, height, height / 25);
}

/* Beyond the frame a line need not be true, but its numbers must stay small. */
static double clamped(double at, double size)
{
    return fmin(fmax(at, -size), 2 * size);
}

static void draw_curve(FILE *out, const jt_curve *curve, const axis *x, const axis *y,
                       int top)
{
    fprintf(out, "<path class=\"%s\" stroke=\"%s\" d=\"",
            !curve->label   ? "faint"
            : curve->strong ? "strong"
                            : "line",
            curve->color);
    bool pen = false;
    for (size_t i = 0; i < curve->n; i++) {
        bool there = isfinite(curve->point[i].y);
        if (there)
            fprintf(out, "%c%.1f %.1f", pen ? 'L' : 'M',
                    JT_PANEL_LEFT + place(x, curve->point[i].x),
                    top + y->size - clamped(place(y, curve->point[i].y), y->size));
        pen = there;
    }
    fputs("\"/>\n", out);
    for (size_t i = 0; curve->label && curve->n <= MOST_DOTS && i < curve->n; i++) {
        if (isfinite(curve->point[i].y))
            fprintf(out, "<circle fill=\"%s\" r=\"2.2\" cx=\"%.1f\" cy=\"%.1f\"/>\n",
                    curve->color, JT_PANEL_LEFT + place(x, curve->point[i].x),
                    top + y->size - clamped(place(y, curve->point[i].y), y->size));
    }
}

/* ---- legend ---- */

static void print_label(FILE *out, const char *label)
{
    char cut[4 * LEGEND_CHARS + 4] = "";
    size_t used = 0, chars = 0;
    for (; *label && chars < LEGEND_CHARS; chars++) {
        size_t n = jt_utf8_char(label, strlen(label));
        memcpy(cut + used, n ? label : "?", n ? n : 1);
        used += n ? n : 1;
        label += n ? n : 1;
    }
    jt_svg_text(out, cut);
    fputs(*label ? "…" : "", out);
}

static double last_value(const jt_curve *curve)
{
    size_t n = curve->n;
    while (n > 1 && !isfinite(curve->point[n - 1].y))
        n--;
    return n ? curve->point[n - 1].y : NAN;
}

static void draw_entry(FILE *out, const jt_curve *curve, double at)
{
    int left = JT_PANEL_LEFT + JT_PANEL_WIDTH + 14;
    fprintf(out,
            "<path class=\"strong\" stroke=\"%s\" d=\"M%d %.1fh16\"/>"
            "<text x=\"%d\" y=\"%.1f\">",
            curve->color, left, at - 4, left + 22, at);
    print_label(out, curve->label);
    fprintf(out, "</text><text class=\"y\" x=\"%d\" y=\"%.1f\">", JT_PICTURE_WIDTH - 10,
            at);
    double value = last_value(curve);
    if (isfinite(value))
        print_number(out, value);
    fputs("</text>\n", out);
}

/* Names and last values; what has no room is counted. */
static void draw_legend(FILE *out, const jt_panel *panel, int top, int height)
{
    size_t room = (size_t)(height / LEGEND_LINE), shown = 0, named = 0;
    for (size_t i = 0; i < panel->n_curves; i++)
        named += panel->curve[i].label != NULL;
    size_t most = named > room ? room - 1 : named;
    double at = top + 12;
    for (size_t i = 0; i < panel->n_curves && shown < most; i++) {
        if (!panel->curve[i].label)
            continue;
        draw_entry(out, &panel->curve[i], at);
        at += LEGEND_LINE;
        shown++;
    }
    if (shown < named)
        fprintf(out, "<text x=\"%d\" y=\"%.1f\">and %zu more</text>\n",
                JT_PANEL_LEFT + JT_PANEL_WIDTH + 36, at, named - shown);
}

void jt_panel_draw(FILE *out, const jt_panel *panel, int top, int height)
{
    axis x = make_axis(0.0, panel->last, JT_PANEL_WIDTH, 8);
    x.step = fmax(x.step, 1.0);
    axis y = value_axis(panel, height);
    fprintf(out, "<text class=\"title\" x=\"%d\" y=\"%d\">", JT_PANEL_LEFT, top - 8);
    jt_svg_text(out, panel->title);
    fputs("</text>\n", out);
    draw_ticks(out, &x, &y, top);
    fprintf(
        out,
        "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\">\n",
        JT_PANEL_LEFT, top, x.size, height, JT_PANEL_LEFT, top, x.size, height);
    for (size_t i = 0; i < panel->n_curves; i++)
        draw_curve(out, &panel->curve[i], &x, &y, top);
    fprintf(out, "</svg>\n<path class=\"frame\" d=\"M%d %dh%dv%dh-%dz\"/>\n",
            JT_PANEL_LEFT, top, x.size, height, x.size);
    draw_legend(out, panel, top, height);
}
