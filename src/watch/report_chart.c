#include "watch/report_chart.h"

#include <math.h>
#include <string.h>

#include "base/svg.h"

enum { LEFT = 52, RIGHT = 18, TOP = 10, BELOW = 42, PLOT = 190 };
enum { PLOT_WIDTH = CHART_WIDTH - LEFT - RIGHT };

/* ---- axes ---- */

static void open_svg(FILE *out, const char *title, int height)
{
    fprintf(out, "<div class=\"wide\"><svg viewBox=\"0 0 %d %d\" role=\"img\"><title>",
            CHART_WIDTH, height);
    jt_svg_text(out, title);
    fputs("</title>\n", out);
}

static void close_svg(FILE *out)
{
    fputs("</svg></div>\n", out);
}

static void axis_titles(FILE *out, const char *x, const char *y, int bottom)
{
    fprintf(out, "<text class=\"x name\" x=\"%d\" y=\"%d\">", LEFT + PLOT_WIDTH / 2,
            bottom + 36);
    jt_svg_text(out, x);
    fprintf(out,
            "</text><text class=\"x name\" transform=\"translate(12 %d) rotate(-90)\">",
            (TOP + bottom) / 2);
    jt_svg_text(out, y);
    fputs("</text>\n", out);
}

/* ---- charts ---- */

static double x_of(const chart *c, size_t i)
{
    return c->n_x < 2 ? LEFT + PLOT_WIDTH / 2.0
                      : LEFT + (double)PLOT_WIDTH * (double)i / (double)(c->n_x - 1);
}

static double y_of(const chart *c, double value)
{
    double share = (value - c->low) / (c->high - c->low);
    return TOP + PLOT * (1.0 - fmin(1.0, fmax(0.0, share)));
}

/* A range with 0 in it that ends at a tick. */
static double fit_range(chart *c)
{
    if (!(c->high > c->low)) {
        double most = 0.0;
        for (size_t l = 0; l < c->n_lines; l++) {
            for (size_t i = 0; i < c->line[l].n; i++)
                most = fmax(most, c->line[l].y[i]);
        }
        c->low = 0.0;
        c->high = most > 0.0 ? most * 1.02 : 1.0;
    }
    double step = jt_tick_step(c->high - c->low, 5);
    c->high = c->low + step * ceil((c->high - c->low) / step - 1e-9);
    return step;
}

static void draw_y_axis(FILE *out, const chart *c, double step)
{
    int digits = step < 1.0 ? (int)ceil(-log10(step) - 1e-9) : 0;
    for (int i = 0; c->low + i * step <= c->high + step / 2.0; i++) {
        double y = y_of(c, c->low + i * step);
        fprintf(out,
                "<path class=\"grid\" d=\"M%d %.1fh%d\"/><text class=\"y\" x=\"%d\" "
                "y=\"%.1f\">%.*f</text>\n",
                LEFT, y, PLOT_WIDTH, LEFT - 7, y + 4.0, digits, c->low + i * step);
    }
}

static void draw_x_axis(FILE *out, const chart *c)
{
    size_t every = 1, fits = 14;
    while (c->n_x > fits * every)
        every *= every % 5 == 2 ? 5 : 2; /* 2, 10, 20, 40, .. */
    for (size_t i = 0; i < c->n_x; i += every) {
        fprintf(out, "<text class=\"x\" x=\"%.1f\" y=\"%d\">", x_of(c, i),
                TOP + PLOT + 17);
        if (c->ticks)
            jt_svg_text(out, c->ticks[i]);
        else
            fprintf(out, "%d", c->first + (int)i);
        fputs("</text>", out);
    }
    fputs("\n", out);
}

static void draw_band(FILE *out, const chart *c, const chart_line *line)
{
    fprintf(out, "<path class=\"band c%d\" d=\"", line->color);
    for (size_t i = 0; i < line->n; i++)
        fprintf(out, "%c%.1f %.1f", i ? 'L' : 'M', x_of(c, i), y_of(c, line->high[i]));
    for (size_t i = line->n; i-- > 0;)
        fprintf(out, "L%.1f %.1f", x_of(c, i), y_of(c, line->low[i]));
    fputs("z\"/>\n", out);
}

static void draw_line(FILE *out, const chart *c, const chart_line *line)
{
    const char *faint = line->faint ? " faint" : "";
    bool down = false; /* the pen: not over gaps */
    fprintf(out, "<path class=\"line c%d%s\" d=\"M0 0", line->color, faint);
    for (size_t i = 0; i < line->n; i++) {
        bool there = !isnan(line->y[i]);
        if (there)
            fprintf(out, "%c%.1f %.1f", down ? 'L' : 'M', x_of(c, i),
                    y_of(c, line->y[i]));
        down = there;
    }
    fputs("\"/>\n", out);
    for (size_t i = 0; i < line->n && line->dots; i++) {
        if (!isnan(line->y[i]))
            fprintf(out, "<circle class=\"dot c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>",
                    line->color, x_of(c, i), y_of(c, line->y[i]));
    }
    fputs("\n", out);
}

void jt_chart_draw(FILE *out, const chart *wanted)
{
    chart c = *wanted;
    double step = fit_range(&c);
    open_svg(out, c.title, TOP + PLOT + BELOW);
    draw_y_axis(out, &c, step);
    draw_x_axis(out, &c);
    axis_titles(out, c.x_title, c.y_title, TOP + PLOT);
    for (size_t l = 0; l < c.n_lines; l++) {
        if (c.line[l].low)
            draw_band(out, &c, &c.line[l]);
    }
    for (size_t l = 0; l < c.n_lines; l++) {
        if (c.line[l].n)
            draw_line(out, &c, &c.line[l]);
    }
    close_svg(out);
}

/* ---- heat maps ---- */

uint8_t jt_heat_level(double ratio)
{
    if (!(ratio > 0.0))
        return HEAT_NONE;
    double level = round(log2(ratio)) + HEAT_EVEN;
    return (uint8_t)fmin(HEAT_LEVELS - 1, fmax(0.0, level));
}

/* One path for all cells of a level; neighbours in a row become one box. */
static void draw_level(FILE *out, const heat_map *m, int level)
{
    bool begun = false;
    for (size_t r = 0; r < m->rows; r++) {
        const uint8_t *row = m->level + r * m->columns;
        for (size_t c = 0, end; c < m->columns; c = end) {
            for (end = c + 1; end < m->columns && row[end] == row[c];)
                end++;
            if (row[c] != level)
                continue;
            if (!begun)
                fprintf(out, "<path class=\"h%d\" d=\"", level);
            begun = true;
            fprintf(out, "M%zu %zuh%zuv1h-%zuz", c, r, end - c, end - c);
        }
    }
    if (begun)
        fputs("\"/>\n", out);
}

/* The end of a name says more than its beginning: they may be paths. */
static void draw_name(FILE *out, const char *name, int left, double y)
{
    size_t chars = (size_t)left / 7, len = strlen(name);
    const char *shown = len > chars ? name + len - chars : name;
    while ((*shown & 0xc0) == 0x80)
        shown++;
    fprintf(out, "<text class=\"y\" x=\"%d\" y=\"%.1f\">%s", left - 7, y,
            shown > name ? "…" : "");
    jt_svg_text(out, shown);
    fputs("</text>\n", out);
}

static void draw_columns(FILE *out, const heat_map *m, int left, double wide, int y)
{
    size_t experts = (size_t)((double)m->columns * m->per_column), step = 1;
    while (experts > 12 * step)
        step *= 2;
    for (size_t e = 0; e < experts; e += step)
        fprintf(out, "<text class=\"x\" x=\"%.1f\" y=\"%d\">%zu</text>",
                left + ((double)e + 0.5) / m->per_column * wide, y, e);
    fputs("\n", out);
}

void jt_heat_map_draw(FILE *out, const heat_map *m)
{
    int left = m->long_names ? 3 * LEFT : LEFT;
    double high = fmin(34.0, fmax(3.0, 420.0 / (double)m->rows));
    double wide = (double)(CHART_WIDTH - RIGHT - left) / (double)m->columns;
    int height = (int)ceil(high * (double)m->rows);
    open_svg(out, m->title, TOP + height + BELOW);
    fprintf(out, "<g class=\"heat\" transform=\"translate(%d %d) scale(%.6g %.6g)\">\n",
            left, TOP, wide, high);
    for (int level = 0; level <= HEAT_NONE; level++)
        draw_level(out, m, level);
    fputs("</g>\n", out);
    size_t every = 1;
    while (high * (double)every < 13.0)
        every *= 2;
    for (size_t r = 0; r < m->rows; r += every)
        draw_name(out, m->names[r], left, TOP + high * ((double)r + 0.5) + 4.0);
    draw_columns(out, m, left, wide, TOP + height + 17);
    axis_titles(out, m->x_title, m->y_title, TOP + height);
    close_svg(out);
}

void jt_heat_legend(FILE *out, const char *of_what, const char *none)
{
    static const char *const names[] = {"1/8 or less", "1/4", "1/2",      "1",
                                        "2",           "4",   "8 or more"};
    fputs("<p class=\"key\">", out);
    jt_svg_text(out, of_what);
    for (int level = 0; level < HEAT_LEVELS; level++)
        fprintf(out, " <span><i class=\"h%d\"></i>%s</span>", level, names[level]);
    fprintf(out, " <span><i class=\"h%d\"></i>%s</span></p>\n", HEAT_NONE, none);
}
