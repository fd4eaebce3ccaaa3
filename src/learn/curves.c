#include "learn/curves.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "learn/curves_impl.h"

enum { TALL = 300, LOW = 150, ABOVE = 34, BELOW = 26, COLUMNS = 400, FADED = 9 };

static const char blue[] = "#0072b2", orange[] = "#d55e00", grey[] = "#555555";
/* Colours that differ also for eyes that see fewer of them (Okabe and Ito). */
static const char *const palette[] = {"#009e73", "#cc79a7", "#e69f00", "#56b4e9",
                                      "#8c6bb1", "#a6761d", "#e7298a", "#66a61e"};

static const char style[] =
    "text{font:12px sans-serif;fill:#333}.title{font-weight:bold;font-size:13px}"
    ".y{text-anchor:end}.x{text-anchor:middle}path{fill:none;stroke-linejoin:round}"
    ".grid{stroke:#e4e4e4}.frame{stroke:#999}.faint{stroke-width:1;opacity:.3}"
    ".line{stroke-width:1.3}.strong{stroke-width:2.2}";

/* A picture in the making: panels below each other. */
typedef struct picture {
    const jt_series_set *set;
    FILE *out;
    int top; /* where the next panel begins */
    double last;
    jt_err *err;
} picture;

/* ---- curves of a panel ---- */

/* Curves are copies of points: smoothed and thinned. */
static jt_status add_curve(const picture *p, jt_panel *panel, const jt_series *series,
                           const char *label, const char *color, bool smooth)
{
    jt_point *point = jt_alloc(series->n, sizeof *point);
    if (!point)
        return jt_fail_memory(p->err, "drawing the curves");
    if (smooth)
        jt_series_smooth(series, point);
    else
        memcpy(point, series->point, series->n * sizeof *point);
    jt_curve *curve = &panel->curve[panel->n_curves++];
    *curve = (jt_curve){.point = point, .label = label};
    curve->n = jt_series_thin(point, series->n, COLUMNS);
    memcpy(curve->color, color, strlen(color) + 1);
    return JT_OK;
}

/* A series of all steps: itself faintly, and its mean. */
static jt_status add_steps(const picture *p, jt_panel *panel, jt_series_kind kind,
                           const char *label, const char *color)
{
    const jt_series *series = jt_series_find(p->set, kind);
    if (!series)
        return JT_OK;
    JT_TRY(add_curve(p, panel, series, NULL, color, false));
    return add_curve(p, panel, series, label, color, true);
}

/* A series of few points, one of its kind. */
static jt_status add_one(const picture *p, jt_panel *panel, jt_series_kind kind,
                         const char *label, const char *color)
{
    const jt_series *series = jt_series_find(p->set, kind);
    if (!series)
        return JT_OK;
    JT_TRY(add_curve(p, panel, series, label, color, false));
    panel->curve[panel->n_curves - 1].strong = true;
    return JT_OK;
}

static size_t count_kind(const jt_series_set *set, jt_series_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < set->n; i++)
        count += set->item[i].kind == kind;
    return count;
}

/* From blue for the first of n to red for the last. */
static void ramp(char *color, size_t size, size_t i, size_t n)
{
    double at = n > 1 ? (double)i / (double)(n - 1) : 0.0;
    snprintf(color, size, "#%02x%02x%02x", (int)(30 + 190 * at),
             (int)(110 - 60 * fabs(2 * at - 1)), (int)(200 - 160 * at));
}

/* All series of a kind, in the order of the ramp or in distinct colours. */
static jt_status add_points(const picture *p, jt_panel *panel, jt_series_kind kind,
                            bool ordered)
{
    size_t n = count_kind(p->set, kind), k = 0;
    for (size_t i = 0; i < p->set->n; i++) {
        const jt_series *series = &p->set->item[i];
        if (series->kind != kind)
            continue;
        char color[FADED];
        snprintf(color, sizeof color, "%s",
                 palette[k % (sizeof palette / sizeof *palette)]);
        if (ordered)
            ramp(color, sizeof color, k, n);
        JT_TRY(add_curve(p, panel, series, series->name, color, false));
        k++;
    }
    return JT_OK;
}

/* ---- panels ---- */

static jt_status fill_loss(const picture *p, jt_panel *panel)
{
    panel->title = "Loss, nats per token";
    JT_TRY(add_steps(p, panel, JT_SERIES_LOSS, "training", blue));
    JT_TRY(add_one(p, panel, JT_SERIES_HELD_OUT, "held out", orange));
    return add_points(p, panel, JT_SERIES_DOMAIN, false);
}

static jt_status fill_balance(const picture *p, jt_panel *panel)
{
    panel->title = "Load of the busiest expert over the mean, less 1";
    panel->from_zero = true;
    JT_TRY(add_steps(p, panel, JT_SERIES_WORST, "worst layer", orange));
    return add_steps(p, panel, JT_SERIES_VIOLATION, "mean of layers", blue);
}

static jt_status fill_rate(const picture *p, jt_panel *panel)
{
    panel->title = "Learning rate";
    panel->from_zero = true;
    return add_one(p, panel, JT_SERIES_RATE, "rate", grey);
}

static jt_status fill_congestion(const picture *p, jt_panel *panel)
{
    panel->title = "Congestion coefficient of each layer";
    panel->from_zero = true;
    return add_points(p, panel, JT_SERIES_CONGESTION, true);
}

static jt_status fill_information(const picture *p, jt_panel *panel)
{
    panel->title = "What the choice of experts says about the domain (1: all)";
    panel->from_zero = true;
    JT_TRY(add_one(p, panel, JT_SERIES_INFORMATION, "information", blue));
    return add_one(p, panel, JT_SERIES_CHANCE, "by chance", grey);
}

/* Is there more than zeros? A dense model has no balance. */
static bool has_values(const jt_panel *panel)
{
    for (size_t i = 0; i < panel->n_curves; i++) {
        const jt_curve *curve = &panel->curve[i];
        for (size_t j = 0; j < curve->n; j++) {
            if (isfinite(curve->point[j].y) && curve->point[j].y != 0.0)
                return true;
        }
    }
    return false;
}

typedef jt_status fill_fn(const picture *p, jt_panel *panel);

static jt_status add_panel(picture *p, fill_fn *fill, int height)
{
    /* Every series is in a panel at most twice. */
    jt_panel panel = {.last = p->last,
                      .curve = jt_calloc(2 * p->set->n, sizeof(jt_curve))};
    if (!panel.curve)
        return jt_fail_memory(p->err, "drawing the curves");
    jt_status status = fill(p, &panel);
    if (status == JT_OK && has_values(&panel)) {
        jt_panel_draw(p->out, &panel, p->top + ABOVE, height);
        p->top += ABOVE + height + BELOW;
    }
    for (size_t i = 0; i < panel.n_curves; i++)
        free(panel.curve[i].point);
    free(panel.curve);
    return status;
}

/* ---- the whole ---- */

static double last_step(const jt_series_set *set)
{
    double last = 1.0;
    for (size_t i = 0; i < set->n; i++)
        last = fmax(last, set->item[i].point[set->item[i].n - 1].x);
    return last;
}

/* The panels, drawn into memory: their number makes the height of the picture. */
static jt_status draw_panels(picture *p)
{
    JT_TRY(add_panel(p, fill_loss, TALL));
    JT_TRY(add_panel(p, fill_balance, LOW));
    JT_TRY(add_panel(p, fill_rate, LOW));
    JT_TRY(add_panel(p, fill_congestion, LOW));
    JT_TRY(add_panel(p, fill_information, LOW));
    if (p->top == 0) {
        fprintf(p->out, "<text x=\"%d\" y=\"60\">No steps yet</text>\n", JT_PANEL_LEFT);
        p->top = 100;
    }
    return JT_OK;
}

static jt_status write_picture(const char *panels, int height, const char *path,
                               jt_err *err)
{
    char head[1024];
    snprintf(head, sizeof head,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
             "viewBox=\"0 0 %d %d\" role=\"img\">\n<title>Training curves</title>\n"
             "<style>%s</style>\n"
             "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
             JT_PICTURE_WIDTH, height, JT_PICTURE_WIDTH, height, style);
    const char *const parts[] = {head, panels, "</svg>\n"};
    jt_output out;
    JT_TRY(jt_output_open(&out, path, err));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        jt_status status = jt_output_write(&out, parts[i], strlen(parts[i]), err);
        if (status != JT_OK) {
            jt_output_abort(&out);
            return status;
        }
    }
    return jt_output_commit(&out, err);
}

static jt_status draw(const jt_series_set *set, const char *path, jt_err *err)
{
    char *panels = NULL;
    size_t bytes;
    picture p = {.set = set, .last = last_step(set), .err = err};
    p.out = open_memstream(&panels, &bytes);
    if (!p.out)
        return jt_fail_memory(err, "drawing the curves");
    jt_status status = draw_panels(&p);
    bool failed = ferror(p.out);
    if ((fclose(p.out) != 0 || failed) && status == JT_OK)
        status = jt_fail_memory(err, "drawing the curves");
    if (status == JT_OK)
        status = write_picture(panels, p.top, path, err);
    free(panels);
    return status;
}

jt_status jt_curves_write(const char *log_path, const char *svg_path, jt_err *err)
{
    jt_series_set set = {0};
    jt_status status = jt_series_read(&set, log_path, err);
    if (status == JT_OK)
        status = draw(&set, svg_path, err);
    jt_series_free(&set);
    return status;
}
