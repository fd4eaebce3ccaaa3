/* Traces for other programs: NumPy files, or one table. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "junto/npy.h"
#include "watch/trace.h"

enum { ALL = (1u << JT_TRACE_COLUMNS) - 1 };

/* The folder, made if need be, and the path of a file in it; the caller frees. */
static jt_status path_in(char **path, const char *dir, const char *name,
                         const char *suffix, jt_err *err)
{
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return jt_fail(err, JT_E_IO, "cannot make '%s': %s", dir, strerror(errno));
    size_t room = strlen(dir) + strlen(name) + strlen(suffix) + 2;
    *path = jt_alloc(room, 1);
    if (!*path)
        return jt_fail_memory(err, "exporting a trace");
    snprintf(*path, room, "%s/%s%s", dir, name, suffix);
    return JT_OK;
}

static const void *column_of(const jt_trace_block *b, jt_trace_column c)
{
    const void *const column[JT_TRACE_COLUMNS] = {
        [JT_TRACE_TOKEN] = b->token,         [JT_TRACE_POSITION] = b->position,
        [JT_TRACE_LABEL] = b->label,         [JT_TRACE_EXPERT] = b->expert,
        [JT_TRACE_WEIGHT] = b->weight,       [JT_TRACE_ENTROPY] = b->entropy,
        [JT_TRACE_NORM] = b->norm,           [JT_TRACE_SCORE] = b->score,
        [JT_TRACE_RESIDENCY] = b->residency,
    };
    return column[c];
}

/* ---- NumPy ---- */

/* The file of a column: [tokens], [tokens, layers] or [tokens, layers, most]. Layers
 * with fewer slots or rows are filled up. */
typedef struct array {
    jt_npy_writer *out;
    jt_trace_column column;
    bool whole; /* numbers */
    int most;   /* 0: not by slot or row */
} array;

static void choose_shape(array *a, const jt_trace_info *info, uint64_t shape[3],
                         int *n_dims)
{
    trace_per per = jt_trace_per(a->column);
    for (int i = 0;
         i < info->n_layers && (per == TRACE_PER_SLOT || per == TRACE_PER_ROW); i++) {
        int here = per == TRACE_PER_SLOT ? info->layers[i].k : info->layers[i].n_rows;
        a->most = here > a->most ? here : a->most;
    }
    a->whole = per == TRACE_PER_TOKEN || a->column == JT_TRACE_EXPERT ||
               a->column == JT_TRACE_RESIDENCY;
    shape[0] = info->tokens;
    shape[1] = (uint64_t)info->n_layers;
    shape[2] = (uint64_t)a->most;
    *n_dims = per == TRACE_PER_TOKEN ? 1 : per == TRACE_PER_LAYER ? 2 : 3;
}

static jt_status open_array(array *a, const jt_trace_info *info, const char *dir,
                            jt_err *err)
{
    char *path;
    uint64_t shape[3];
    int n_dims;
    choose_shape(a, info, shape, &n_dims);
    JT_TRY(path_in(&path, dir, jt_trace_column_name(a->column), ".npy", err));
    jt_status status = jt_npy_writer_new(
        &a->out, path, a->whole ? JT_NPY_I32 : JT_NPY_F32, shape, n_dims, err);
    free(path);
    return status;
}

/* One token of a column that varies by layer, [layers, most]. */
static jt_status append_ragged(const array *a, const jt_trace_info *info,
                               const int32_t *value, int32_t *room, jt_err *err)
{
    bool rows = a->column == JT_TRACE_SCORE;
    float nothing = rows ? NAN : 0.0f;
    int32_t fill = -1;
    if (!a->whole)
        memcpy(&fill, &nothing, sizeof fill);
    for (int i = 0; i < info->n_layers; i++) {
        const jt_trace_layer *layer = &info->layers[i];
        int n = rows ? layer->n_rows : layer->k;
        const int32_t *from = value + (rows ? layer->row : layer->slot);
        int32_t *to = room + (size_t)i * (size_t)a->most;
        memcpy(to, from, (size_t)n * sizeof *to);
        for (int j = n; j < a->most; j++)
            to[j] = fill;
    }
    return jt_npy_writer_append(a->out, room, 1, err);
}

static jt_status append_block(const array *a, const jt_trace_info *info,
                              const jt_trace_block *b, jt_err *err)
{
    const int32_t *value = column_of(b, a->column); /* or floats, as many bytes */
    size_t width =
        a->column == JT_TRACE_SCORE ? (size_t)info->n_rows : (size_t)info->n_slots;
    size_t full = (size_t)info->n_layers * (size_t)a->most;
    if (!a->most || full == width)
        return jt_npy_writer_append(a->out, value, (uint64_t)b->n_tokens, err);
    int32_t *room = jt_alloc(full, sizeof *room);
    if (!room)
        return jt_fail_memory(err, "exporting a trace");
    jt_status status = JT_OK;
    for (int t = 0; t < b->n_tokens && status == JT_OK; t++)
        status = append_ragged(a, info, value + (size_t)t * width, room, err);
    free(room);
    return status;
}

/* layers.npy: index, experts, rows of the router and slots of each layer. */
static jt_status export_layers(const jt_trace_info *info, const char *dir, jt_err *err)
{
    char *path;
    jt_npy_writer *out;
    const uint64_t shape[] = {(uint64_t)info->n_layers, 4};
    JT_TRY(path_in(&path, dir, "layers", ".npy", err));
    jt_status status = jt_npy_writer_new(&out, path, JT_NPY_I32, shape, 2, err);
    free(path);
    if (status != JT_OK)
        return status;
    for (int i = 0; i < info->n_layers && status == JT_OK; i++) {
        const jt_trace_layer *layer = &info->layers[i];
        const int32_t row[] = {layer->layer, layer->n_experts, layer->n_rows, layer->k};
        status = jt_npy_writer_append(out, row, 1, err);
    }
    if (status == JT_OK)
        return jt_npy_writer_finish(out, err);
    jt_npy_writer_abort(out);
    return status;
}

/* labels.txt: the name of label i in line i; line ends in names become '?'. */
static jt_status export_labels(const jt_trace *trace, size_t n, const char *dir,
                               jt_err *err)
{
    char *path;
    jt_output out;
    JT_TRY(path_in(&path, dir, "labels", ".txt", err));
    jt_status status = jt_output_open(&out, path, err);
    free(path);
    if (status != JT_OK)
        return status;
    for (size_t i = 0; i < n && status == JT_OK; i++) {
        const char *name = jt_trace_label_name(trace, (int32_t)i);
        for (const char *p = name; *p && status == JT_OK; p++)
            status = jt_output_write(&out, *p == '\n' || *p == '\r' ? "?" : p, 1, err);
        if (status == JT_OK)
            status = jt_output_write(&out, "\n", 1, err);
    }
    if (status == JT_OK)
        return jt_output_commit(&out, err);
    jt_output_abort(&out);
    return status;
}

static jt_status export_blocks(jt_trace *trace, const jt_trace_info *info,
                               const array *arrays, size_t n_arrays,
                               const jt_progress *progress, jt_err *err)
{
    for (size_t i = 0; i < jt_trace_blocks(trace); i++) {
        jt_trace_block b;
        JT_TRY(jt_trace_read(trace, i, ALL, &b, err));
        for (size_t a = 0; a < n_arrays; a++)
            JT_TRY(append_block(&arrays[a], info, &b, err));
        JT_TRY(jt_progress_report(progress, "tokens", b.first + (uint64_t)b.n_tokens,
                                  info->tokens, err));
    }
    return JT_OK;
}

jt_status jt_trace_export_npy(jt_trace *trace, const char *dir, jt_progress progress,
                              jt_err *err)
{
    jt_trace_info info;
    array arrays[JT_TRACE_COLUMNS] = {{0}};
    size_t n = 0;
    jt_trace_describe(trace, &info);
    jt_status status = jt_progress_report(&progress, "tokens", 0, info.tokens, err);
    for (int c = 0; c < JT_TRACE_COLUMNS && status == JT_OK; c++) {
        if (!(info.columns >> c & 1))
            continue;
        arrays[n].column = c;
        status = open_array(&arrays[n], &info, dir, err);
        n += status == JT_OK;
    }
    if (status == JT_OK)
        status = export_blocks(trace, &info, arrays, n, &progress, err);
    for (size_t i = 0; i < n; i++) {
        if (status == JT_OK)
            status = jt_npy_writer_finish(arrays[i].out, err);
        else
            jt_npy_writer_abort(arrays[i].out);
    }
    if (status == JT_OK)
        status = export_layers(&info, dir, err);
    if (status == JT_OK)
        status = export_labels(trace, info.n_labels, dir, err);
    return status;
}

/* ---- CSV ---- */

/* A line that grows; `failed` for want of memory. */
typedef struct line {
    char *text;
    size_t len, room;
    bool failed;
} line;

JT_PRINTF(2, 3) static void add(line *l, const char *fmt, ...)
{
    va_list args;
    if (!jt_grow((void **)&l->text, &l->room, l->len + 64, 1)) {
        l->failed = true;
        return;
    }
    va_start(args, fmt);
    int len = vsnprintf(l->text + l->len, 64, fmt, args);
    va_end(args);
    l->len += (size_t)len;
}

static void add_quoted(line *l, const char *text)
{
    add(l, "\"");
    for (; *text; text++)
        add(l, "%s%c", *text == '"' ? "\"" : "", *text);
    add(l, "\"");
}

/* A table has room for the layers with most slots and rows. */
typedef struct table {
    jt_trace_info info;
    int k, rows;
} table;

static table table_of(const jt_trace *trace)
{
    table t = {0};
    jt_trace_describe(trace, &t.info);
    for (int i = 0; i < t.info.n_layers; i++) {
        const jt_trace_layer *layer = &t.info.layers[i];
        t.k = layer->k > t.k ? layer->k : t.k;
        t.rows = layer->n_rows > t.rows ? layer->n_rows : t.rows;
    }
    return t;
}

static void add_head(line *l, const table *all)
{
    static const jt_trace_column lists[] = {JT_TRACE_EXPERT, JT_TRACE_WEIGHT,
                                            JT_TRACE_NORM, JT_TRACE_RESIDENCY,
                                            JT_TRACE_SCORE};
    add(l, "row,label,token,position,layer,entropy");
    for (size_t c = 0; c < sizeof lists / sizeof *lists; c++) {
        int n = lists[c] == JT_TRACE_SCORE ? all->rows : all->k;
        for (int j = 0; j < n && all->info.columns >> lists[c] & 1; j++)
            add(l, ",%s%d", jt_trace_column_name(lists[c]), j);
    }
    add(l, "\n");
}

/* `n` numbers, of used slots only where `expert` is given, then empty fields. */
static void add_floats(line *l, const float *value, const int32_t *expert, int n,
                       int most)
{
    for (int j = 0; j < most; j++) {
        if (j < n && (!expert || expert[j] >= 0))
            add(l, ",%.5g", (double)value[j]);
        else
            add(l, ",");
    }
}

/* The same of numbers that are -1 for an unused slot. */
static void add_ints(line *l, const int32_t *value, int n, int most)
{
    for (int j = 0; j < most; j++) {
        if (j < n && value[j] >= 0)
            add(l, ",%d", value[j]);
        else
            add(l, ",");
    }
}

/* What token t of the block did in one layer. */
static void add_layer(line *l, const table *all, const jt_trace_block *b, int t,
                      int place)
{
    const jt_trace_info *info = &all->info;
    const jt_trace_layer *layer = &info->layers[place];
    size_t slot = (size_t)t * (size_t)info->n_slots + (size_t)layer->slot;
    size_t row = (size_t)t * (size_t)info->n_rows + (size_t)layer->row;
    const int32_t *expert = b->expert + slot;
    add(l, ",%d,%d,%d,%.5g", b->token[t], b->position[t], layer->layer,
        (double)b->entropy[t * info->n_layers + place]);
    add_ints(l, expert, layer->k, all->k);
    add_floats(l, b->weight + slot, expert, layer->k, all->k);
    if (b->norm)
        add_floats(l, b->norm + slot, expert, layer->k, all->k);
    if (b->residency)
        add_ints(l, b->residency + slot, layer->k, all->k);
    if (b->score)
        add_floats(l, b->score + row, NULL, layer->n_rows, all->rows);
    add(l, "\n");
}

/* Hand the line on and begin a new one. */
static jt_status end_line(line *l, jt_output *out, jt_err *err)
{
    if (l->failed)
        return jt_fail_memory(err, "exporting a trace");
    size_t len = l->len;
    l->len = 0;
    return jt_output_write(out, l->text, len, err);
}

static jt_status write_rows(jt_trace *trace, const table *all, line *l, jt_output *out,
                            const jt_progress *progress, jt_err *err)
{
    add_head(l, all);
    for (size_t i = 0; i < jt_trace_blocks(trace); i++) {
        jt_trace_block b;
        JT_TRY(jt_trace_read(trace, i, ALL, &b, err));
        for (int r = 0; r < b.n_tokens * all->info.n_layers; r++) {
            int t = r / all->info.n_layers;
            add(l, "%llu,", (unsigned long long)b.first + (unsigned long long)t);
            add_quoted(l, jt_trace_label_name(trace, b.label[t]));
            add_layer(l, all, &b, t, r % all->info.n_layers);
            JT_TRY(end_line(l, out, err));
        }
        JT_TRY(jt_progress_report(progress, "tokens", b.first + (uint64_t)b.n_tokens,
                                  all->info.tokens, err));
    }
    return l->len ? end_line(l, out, err) : JT_OK; /* no rows: the head alone */
}

jt_status jt_trace_export_csv(jt_trace *trace, const char *dir, jt_progress progress,
                              jt_err *err)
{
    table all = table_of(trace);
    line l = {0};
    jt_output out;
    char *path;
    JT_TRY(path_in(&path, dir, "trace", ".csv", err));
    jt_status status = jt_output_open(&out, path, err);
    free(path);
    if (status != JT_OK)
        return status;
    status = jt_progress_report(&progress, "tokens", 0, all.info.tokens, err);
    if (status == JT_OK)
        status = write_rows(trace, &all, &l, &out, &progress, err);
    free(l.text);
    if (status == JT_OK)
        return jt_output_commit(&out, err);
    jt_output_abort(&out);
    return status;
}
