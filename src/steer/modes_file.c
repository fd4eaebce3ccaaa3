/* The file of a calibration: JSON, described in docs/formats.md. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/json.h"
#include "steer/modes.h"

enum { MAX_LAYERS = 65536, MAX_POINTS = 4096, MAX_BYTES = 1 << 26 };

void jt_modes_free(jt_modes *modes)
{
    if (!modes)
        return;
    free(modes->alpha);
    free(modes->second.list);
    free(modes->point);
    free(modes);
}

void jt_modes_describe(const jt_modes *m, jt_modes_info *info)
{
    *info = (jt_modes_info){.n_layers = m->n_layers,
                            .n_classes = m->n_classes,
                            .model = m->model,
                            .tokens = m->tokens,
                            .importance = m->alpha,
                            .points = m->point,
                            .n_points = m->n_points};
}

/* ---- writing ---- */

static void print_floats(FILE *out, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        fprintf(out, "%s%.9g", i ? ", " : "", (double)x[i]);
}

static void print_point(FILE *out, const jt_modes *m, const jt_modes_point *p)
{
    fprintf(out,
            "{\"power\": %.9g, \"target\": %.9g, \"skipped\": %.9g, \"kl\": %.9g, "
            "\"tau\": [",
            (double)p->power, p->target, p->skipped, p->kl);
    print_floats(out, p->tau, m->n_classes);
    fprintf(out, "]}");
}

static void print_modes(FILE *out, const jt_modes *m)
{
    fprintf(out,
            "{\"format\": \"junto modes\", \"version\": 1, \"model\": \"%016" PRIx64
            "\", \"tokens\": %" PRIu64 ",\n \"importance\": [",
            m->model, m->tokens);
    for (int c = 0; c < m->n_classes; c++) {
        fprintf(out, "%s[", c ? ", " : "");
        print_floats(out, m->alpha + c * m->n_layers, m->n_layers);
        fprintf(out, "]");
    }
    fprintf(out, "],\n \"second\": [");
    for (size_t i = 0; i < m->second.count; i++)
        fprintf(out, "%s%d", i ? ", " : "", (int)m->second.list[i]);
    fprintf(out, "],\n \"points\": [");
    for (size_t i = 0; i < m->n_points; i++) {
        fprintf(out, "%s\n  ", i ? "," : "");
        print_point(out, m, &m->point[i]);
    }
    fprintf(out, "]}\n");
}

jt_status jt_modes_write(const jt_modes *m, const char *path, jt_err *err)
{
    jt_output out;
    JT_TRY(jt_output_open(&out, path, err));
    print_modes(out.stream, m);
    return jt_output_commit(&out, err);
}

/* ---- reading ---- */

typedef struct reader {
    jt_json json;
    jt_modes *modes;
    bool marked; /* it says that it is such a file */
    bool has_model;
} reader;

static jt_status no_memory(reader *r)
{
    return jt_json_fail(&r->json, JT_E_MEMORY,
                        "out of memory while reading thresholds");
}

static void read_model(reader *r)
{
    jt_str text = jt_json_str(&r->json);
    char digits[17] = "", *end = digits;
    if (text.len == 16) {
        memcpy(digits, text.data, 16);
        r->modes->model = strtoull(digits, &end, 16);
    }
    if (end != digits + 16)
        jt_json_fail(&r->json, JT_E_FORMAT, "model is not 16 hexadecimal digits");
    r->has_model = true;
}

static float read_float(reader *r, double least, double most, const char *what)
{
    double value = jt_json_double(&r->json);
    if (!(value >= least && value <= most))
        jt_json_fail(&r->json, JT_E_FORMAT, "%s is not between %g and %g", what, least,
                     most);
    return (float)value;
}

/* [[importance of layer 0, ..]], one list for each class. */
static void read_importance(reader *r)
{
    jt_modes *m = r->modes;
    size_t capacity = 0, count = 0;
    int lists = 0;
    if (m->alpha)
        jt_json_fail(&r->json, JT_E_FORMAT, "importance is there twice");
    jt_json_enter(&r->json, JT_JSON_ARRAY);
    for (; jt_json_next(&r->json); lists++) {
        size_t before = count;
        jt_json_enter(&r->json, JT_JSON_ARRAY);
        while (jt_json_next(&r->json)) {
            if (!jt_grow((void **)&m->alpha, &capacity, count + 1, sizeof *m->alpha)) {
                no_memory(r);
                return;
            }
            m->alpha[count++] = read_float(r, 0, 1e9, "importance");
            if (count > JT_MODES_CLASSES * (size_t)MAX_LAYERS)
                jt_json_fail(&r->json, JT_E_LIMIT, "too many layers");
        }
        if (lists == 0)
            m->n_layers = (int)count;
        if (count - before != (size_t)m->n_layers || count == before ||
            lists == JT_MODES_CLASSES)
            jt_json_fail(&r->json, JT_E_FORMAT,
                         "importance is not one or two equally long lists");
    }
    m->n_classes = lists;
}

static void read_second(reader *r)
{
    jt_ids *ids = &r->modes->second;
    size_t capacity = ids->count;
    jt_json_enter(&r->json, JT_JSON_ARRAY);
    while (jt_json_next(&r->json)) {
        int64_t id = jt_json_int(&r->json);
        if (id < 0 || id > INT32_MAX)
            jt_json_fail(&r->json, JT_E_FORMAT, "a token of the second class is %lld",
                         (long long)id);
        else if (!jt_grow((void **)&ids->list, &capacity, ids->count + 1,
                          sizeof *ids->list))
            no_memory(r);
        else
            ids->list[ids->count++] = (int32_t)id;
    }
}

static void read_taus(reader *r, jt_modes_point *p)
{
    int n = 0;
    jt_json_enter(&r->json, JT_JSON_ARRAY);
    for (; jt_json_next(&r->json); n++) {
        float tau = read_float(r, 0, 1e9, "tau");
        if (n < JT_MODES_CLASSES)
            p->tau[n] = tau;
    }
    if (n < 1 || n > JT_MODES_CLASSES)
        jt_json_fail(&r->json, JT_E_FORMAT, "tau is not one or two numbers");
}

static void read_point(reader *r, jt_modes_point *p)
{
    *p = (jt_modes_point){0};
    jt_json_enter(&r->json, JT_JSON_OBJECT);
    while (jt_json_next(&r->json)) {
        if (jt_json_key_is(&r->json, "power"))
            p->power = read_float(r, 0, 16, "power");
        else if (jt_json_key_is(&r->json, "target"))
            p->target = (double)read_float(r, 0, 1, "target");
        else if (jt_json_key_is(&r->json, "skipped"))
            p->skipped = (double)read_float(r, 0, 1, "skipped");
        else if (jt_json_key_is(&r->json, "kl"))
            p->kl = (double)read_float(r, 0, 1e9, "kl");
        else if (jt_json_key_is(&r->json, "tau"))
            read_taus(r, p);
    }
}

static void read_points(reader *r)
{
    jt_modes *m = r->modes;
    size_t capacity = m->n_points;
    jt_json_enter(&r->json, JT_JSON_ARRAY);
    while (jt_json_next(&r->json)) {
        if (m->n_points == MAX_POINTS)
            jt_json_fail(&r->json, JT_E_LIMIT, "more than %d points", MAX_POINTS);
        else if (!jt_grow((void **)&m->point, &capacity, m->n_points + 1,
                          sizeof *m->point))
            no_memory(r);
        else
            read_point(r, &m->point[m->n_points++]);
    }
}

static void read_format(reader *r)
{
    jt_str name = jt_json_str(&r->json);
    r->marked = name.len == 11 && memcmp(name.data, "junto modes", 11) == 0;
}

static void read_modes(reader *r)
{
    jt_json_enter(&r->json, JT_JSON_OBJECT);
    while (jt_json_next(&r->json)) {
        if (jt_json_key_is(&r->json, "format"))
            read_format(r);
        else if (jt_json_key_is(&r->json, "version")) {
            if (jt_json_int(&r->json) != 1)
                jt_json_fail(&r->json, JT_E_UNSUPPORTED, "a later version of the file");
        } else if (jt_json_key_is(&r->json, "model"))
            read_model(r);
        else if (jt_json_key_is(&r->json, "tokens"))
            r->modes->tokens = (uint64_t)jt_json_int(&r->json);
        else if (jt_json_key_is(&r->json, "importance"))
            read_importance(r);
        else if (jt_json_key_is(&r->json, "second"))
            read_second(r);
        else if (jt_json_key_is(&r->json, "points"))
            read_points(r);
    }
}

jt_status jt_modes_parse(jt_modes **out, const char *text, size_t bytes, jt_err *err)
{
    jt_arena strings = {0};
    reader r = {.modes = jt_calloc(1, sizeof(jt_modes))};
    if (!r.modes)
        return jt_fail_memory(err, "reading thresholds");
    jt_json_open(&r.json, text, bytes, &strings, err);
    read_modes(&r);
    jt_status status = jt_json_finish(&r.json);
    if (status == JT_OK && (!r.marked || !r.has_model || !r.modes->n_classes))
        status = jt_fail(err, JT_E_FORMAT, "no file of 'junto modes'");
    if (status == JT_OK && r.modes->second.count && r.modes->n_classes != 2)
        status = jt_fail(err, JT_E_FORMAT, "the second class has no importances");
    jt_arena_free(&strings);
    if (status == JT_OK)
        *out = r.modes;
    else
        jt_modes_free(r.modes);
    return status;
}

jt_status jt_modes_open(jt_modes **out, const char *path, jt_err *err)
{
    char *text;
    size_t bytes;
    JT_TRY(jt_read_file(&text, &bytes, path, MAX_BYTES, err));
    jt_status status = jt_modes_parse(out, text, bytes, err);
    free(text);
    return status == JT_OK ? JT_OK : jt_fail_within(err, status, "'%s'", path);
}
