/* The picture of a usage: a line per layer, a cell per expert.
 *
 * What a cell shows is how an expert's load compares with an even one, because that
 * reads the same for 4 experts as for 256. */
#include "watch/usage.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* A text that grows; `bad` when memory ran out, after which it stays as it is. */
typedef struct page {
    char *text;
    size_t len, capacity;
    bool bad;
} page;

static void JT_PRINTF(2, 3) put(page *out, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    size_t len = (size_t)vsnprintf(NULL, 0, fmt, args);
    void *text = out->text;
    out->bad = out->bad || !jt_grow(&text, &out->capacity, out->len + len + 1, 1);
    out->text = text;
    if (!out->bad) {
        vsnprintf(out->text + out->len, len + 1, fmt, again);
        out->len += len;
    }
    va_end(again);
    va_end(args);
}

/* Steps of load, as a multiple of the even load. */
static const struct step {
    double from;
    const char *block, *meaning;
} steps[] = {
    {0.0, "·", "none"},
    {1e-9, "░", "under 0.75"},
    {0.75, "▒", "around 1"},
    {1.25, "▓", "over 1.25"},
    {2.0, "█", "over 2 times an even share"},
};
enum { N_STEPS = sizeof steps / sizeof steps[0] };

static const char *block_of(double load)
{
    int step = N_STEPS - 1;
    while (step > 0 && load < steps[step].from)
        step--;
    return steps[step].block;
}

/* A cell of `columns` columns. In colour: from pale (a quarter of an even load or less)
 * over the middle (even) to dark (four times). */
static void put_cell(page *out, double load, int columns, bool color)
{
    if (!color || load == 0) {
        for (int i = 0; i < columns; i++)
            put(out, "%s", block_of(load));
        return;
    }
    static const int pale[3] = {222, 235, 247}, dark[3] = {8, 48, 107};
    double t = fmin(1, fmax(0, (log2(load) + 2) / 4));
    int rgb[3];
    for (int i = 0; i < 3; i++)
        rgb[i] = (int)(pale[i] + t * (dark[i] - pale[i]));
    put(out, "\033[48;2;%d;%d;%dm%*s\033[0m", rgb[0], rgb[1], rgb[2], columns, "");
}

/* How the experts of all layers are laid out in the columns. */
typedef struct layout {
    int experts_per_cell, cell_columns, columns;
} layout;

enum { MARGIN = 8, TAIL = 14, WIDEST_CELL = 4 };

static layout lay_out(const jt_layer_usage *layers, size_t n, int width)
{
    int most = 1, room = width > MARGIN + TAIL + 8 ? width - MARGIN - TAIL : 8;
    for (size_t i = 0; i < n; i++)
        most = layers[i].n_experts > most ? layers[i].n_experts : most;
    layout grid = {.experts_per_cell = (most + room - 1) / room};
    int cells = (most + grid.experts_per_cell - 1) / grid.experts_per_cell;
    grid.cell_columns = room / cells < WIDEST_CELL ? room / cells : WIDEST_CELL;
    grid.columns = cells * grid.cell_columns;
    return grid;
}

static void put_layer(page *out, const jt_layer_usage *layer, const layout *grid,
                      bool color)
{
    uint64_t total = 0;
    int busiest = 0;
    for (int e = 0; e < layer->n_experts; e++) {
        total += layer->counts[e];
        if (layer->counts[e] > layer->counts[busiest])
            busiest = e;
    }
    double even = (double)total / layer->n_experts;
    put(out, "%*d  ", MARGIN - 2, layer->layer);
    int columns = 0;
    for (int e = 0; e < layer->n_experts; e += grid->experts_per_cell) {
        int end = e + grid->experts_per_cell;
        end = end < layer->n_experts ? end : layer->n_experts;
        uint64_t count = 0;
        for (int i = e; i < end; i++)
            count += layer->counts[i];
        double load = total ? (double)count / (end - e) / even : 0;
        put_cell(out, load, grid->cell_columns, color);
        columns += grid->cell_columns;
    }
    double share = total ? 100.0 * (double)layer->counts[busiest] / (double)total : 0;
    put(out, "%*s  %4d %4.0f%%\n", grid->columns - columns, "", busiest, share);
}

static void put_legend(page *out, bool color)
{
    put(out, "%*s", MARGIN, "");
    if (color) {
        static const double loads[] = {0.25, 0.5, 1, 2, 4};
        put(out, "· none ");
        for (int i = 0; i < 5; i++)
            put_cell(out, loads[i], 2, true);
        put(out, " 1/4, 1/2, 1, 2, 4 times an even share\n");
        return;
    }
    for (int i = 0; i < N_STEPS; i++)
        put(out, "%s%s %s", i ? "  " : "", steps[i].block, steps[i].meaning);
    put(out, "\n");
}

jt_status jt_loads_draw(const jt_layer_usage *layers, size_t n, int width, bool color,
                        char **text, jt_err *err)
{
    page out = {0};
    layout grid = lay_out(layers, n, width);
    put(&out, "%*s  %-*s  %s\n", MARGIN - 2, "layer", grid.columns, "experts",
        "busiest");
    for (size_t i = 0; i < n; i++)
        put_layer(&out, &layers[i], &grid, color);
    put_legend(&out, color);
    if (out.bad) {
        free(out.text);
        return jt_fail_memory(err, "drawing the experts");
    }
    *text = out.text;
    return JT_OK;
}

jt_status jt_usage_draw(const jt_usage *usage, int width, bool color, char **text,
                        jt_err *err)
{
    size_t n = jt_usage_layers(usage);
    jt_layer_usage *layers = jt_alloc(n, sizeof *layers);
    if (!layers)
        return jt_fail_memory(err, "drawing the experts");
    for (size_t i = 0; i < n; i++)
        jt_usage_layer(usage, i, &layers[i]);
    jt_status status = jt_loads_draw(layers, n, width, color, text, err);
    free(layers);
    return status;
}
