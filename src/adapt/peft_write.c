/* PEFT folders out: what peft from 0.19.1 on loads onto the model in transformers 5.
 * peft_low_rank.c has the layout.
 *
 * transformers has gate and up of experts as one parameter; with an A each they are one
 * adapter of both ranks, B having blocks of zeros. A folder has one rank and one alpha:
 * where slots differ, lower ranks are filled up with zeros and the scales go into B. */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "adapt/files.h"
#include "adapt/peft_front.h"
#include "adapt/peft_names.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/model.h"

/* One parameter of transformers, and the slots that are parts of it. */
typedef struct entry {
    char parameter[JT_PEFT_NAME];
    char prefix[JT_PEFT_NAME + 64]; /* of its tensors */
    bool wrapped;                   /* a stack of experts, adapted as a parameter */
    const jt_adapter_slot *slot[JT_PEFT_PLACES];
    jt_peft_place place[JT_PEFT_PLACES];
    int parts;
    size_t count, rows, cols, rank;
} entry;

typedef struct writer {
    const jt_adapter *a;
    jt_peft_names names;
    entry *list;
    size_t count, room;
    size_t rank;  /* of the folder; of sparse ones that which makes the values many
                     enough: rank (in + out) each */
    double alpha; /* 0: the scales are in B, and alpha = rank */
    jt_safetensors_writer *out;
    jt_err *err;
} writer;

/* ---- entries ---- */

static entry *find_entry(writer *w, const char *parameter)
{
    for (size_t i = 0; i < w->count; i++) {
        if (strcmp(w->list[i].parameter, parameter) == 0)
            return &w->list[i];
    }
    return NULL;
}

static jt_status add_slot(writer *w, const jt_adapter_slot *s)
{
    entry fresh = {.count = s->count, .cols = s->cols};
    jt_peft_place place;
    if (!jt_peft_parameter(&w->names, s->target, fresh.parameter, &place))
        return jt_fail(w->err, JT_E_UNSUPPORTED, "'%s' has no name in transformers",
                       s->target);
    entry *e = find_entry(w, fresh.parameter);
    if (!e) {
        if (!jt_grow((void **)&w->list, &w->room, w->count + 1, sizeof *e))
            return jt_fail_memory(w->err, "writing an adapter");
        e = &w->list[w->count++];
        *e = fresh;
    }
    if (e->parts == JT_PEFT_PLACES || e->count != s->count || e->cols != s->cols)
        return jt_fail(w->err, JT_E_UNSUPPORTED,
                       "'%s' and '%s' are one in transformers", e->slot[0]->target,
                       s->target);
    e->place[e->parts] = place;
    e->slot[e->parts++] = s;
    e->rank += s->rank;
    return JT_OK;
}

/* Rows of the parameter: those for which there is a map. */
static jt_status find_rows(writer *w, entry *e)
{
    for (size_t times = 1; times <= 2; times++) {
        jt_status status;
        e->rows = e->slot[0]->rows * times;
        bool fits = jt_peft_map(&w->names, &e->place[0], e->rows, &status, w->err);
        if (fits || status == JT_E_MEMORY)
            return status;
    }
    return jt_fail(w->err, JT_E_UNSUPPORTED,
                   "'%s' is part of a parameter of transformers whose rows are mixed",
                   e->slot[0]->target);
}

static bool ends_with(const char *name, const char *tail)
{
    size_t len = strlen(name), n = strlen(tail);
    return len >= n && strcmp(name + len - n, tail) == 0;
}

/* Of two parameters of a module the first is wrapped first: it is the ".base_layer". */
static void name_entry(writer *w, entry *e)
{
    static const char weight[] = ".weight", up[] = "gate_up_proj", down[] = "down_proj";
    char other[JT_PEFT_NAME];
    size_t len = strlen(e->parameter);
    e->wrapped = !ends_with(e->parameter, weight);
    const char *dot = strrchr(e->parameter, '.');
    len = dot ? (size_t)(dot - e->parameter) : len;
    bool inner = false;
    if (e->wrapped && ends_with(e->parameter, up)) {
        snprintf(other, sizeof other, "%.*s.%s", (int)len, e->parameter, down);
        inner = find_entry(w, other) != NULL;
    }
    snprintf(e->prefix, sizeof e->prefix, "base_model.model.%.*s%s", (int)len,
             e->parameter, inner ? ".base_layer" : "");
}

/* A rank and an alpha for all, if there are; otherwise the largest rank. */
static void choose_rank(writer *w)
{
    const jt_adapter_slot *first = w->list[0].slot[0];
    w->alpha = (double)first->alpha;
    for (size_t i = 0; i < w->count; i++) {
        const entry *e = &w->list[i];
        w->rank = e->rank > w->rank ? e->rank : w->rank;
        if (e->rank != first->rank || e->slot[0]->alpha != first->alpha)
            w->alpha = 0.0;
    }
}

static jt_status choose_sparse_rank(writer *w)
{
    for (size_t i = 0; i < w->count; i++) {
        const jt_adapter_slot *s = w->list[i].slot[0];
        size_t per = s->rows + s->cols, r = (jt_cols(&s->part[0]) + per - 1) / per;
        w->rank = r > w->rank ? r : w->rank;
    }
    for (size_t i = 0; i < w->count; i++) {
        const jt_adapter_slot *s = w->list[i].slot[0];
        if (s->count > 1 || w->rank * (s->rows + s->cols) > s->rows * s->cols)
            return jt_fail(w->err, JT_E_UNSUPPORTED,
                           "PEFT has no room for the values of '%s'", s->target);
    }
    return JT_OK;
}

static jt_status list_entries(writer *w)
{
    for (size_t i = 0; i < w->a->count; i++)
        JT_TRY(add_slot(w, &w->a->slot[i]));
    for (size_t i = 0; i < w->count; i++) {
        JT_TRY(find_rows(w, &w->list[i]));
        name_entry(w, &w->list[i]);
    }
    if (w->a->kind->sparse)
        return choose_sparse_rank(w);
    choose_rank(w);
    return JT_OK;
}

/* ---- low rank ---- */

static bool is_table(const entry *e)
{
    return strcmp(e->slot[0]->target, "token_embd.weight") == 0;
}

/* Part `i` of an entry into A [count rank, cols] and B [rows, rank count], from rank
 * `first` on. */
static jt_status place_part(writer *w, const entry *e, int i, size_t first, float *a,
                            float *b, float *m)
{
    const jt_adapter_slot *s = e->slot[i];
    jt_status status;
    float factor = w->alpha == 0.0 ? s->scale : 1.0f;
    const uint32_t *map =
        jt_peft_map(&w->names, &e->place[i], e->rows, &status, w->err);
    JT_TRY(status);
    for (size_t x = 0; x < s->count; x++) {
        for (size_t k = 0; k < s->rank; k++) {
            memcpy(a + (x * w->rank + first + k) * e->cols,
                   jt_row(&s->part[JT_LOW_A], x * s->rank + k), e->cols * sizeof *a);
            for (size_t r = 0; r < s->rows; r++)
                b[map[r] * w->rank * e->count + (first + k) * e->count + x] =
                    factor * jt_row(&s->part[JT_LOW_B], x * s->rows + r)[k];
        }
    }
    for (size_t r = 0; m && r < s->rows; r++)
        m[map[r]] = ((const float *)s->part[JT_LOW_M].data)[r];
    return JT_OK;
}

static void turn(float *x, float *room, size_t rows, size_t cols)
{
    memcpy(room, x, rows * cols * sizeof *x);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++)
            x[c * rows + r] = room[r * cols + c];
    }
}

static jt_status write_floats(writer *w, const float *x, size_t n)
{
    return jt_safetensors_write(w->out, x, n * sizeof *x, w->err);
}

static jt_status write_low_rank(writer *w, const entry *e)
{
    size_t a_n = e->count * w->rank * e->cols, b_n = e->rows * w->rank * e->count;
    float *a = jt_calloc(a_n, sizeof *a), *b = jt_calloc(b_n, sizeof *b);
    float *room = jt_alloc(a_n > b_n ? a_n : b_n, sizeof *room);
    float *m = w->a->kind->magnitude ? jt_calloc(e->rows, sizeof *m) : NULL;
    jt_status status = a && b && room && (m || !w->a->kind->magnitude)
                           ? JT_OK
                           : jt_fail_memory(w->err, "writing an adapter");
    for (int i = 0, first = 0; i < e->parts && status == JT_OK; i++) {
        status = place_part(w, e, i, (size_t)first, a, b, m);
        first += (int)e->slot[i]->rank;
    }
    if (status == JT_OK && is_table(e)) { /* A is B turned, and B is A turned */
        turn(b, room, e->rows, w->rank);
        turn(a, room, w->rank, e->cols);
        status = write_floats(w, b, b_n);
        status = status == JT_OK ? write_floats(w, a, a_n) : status;
    } else if (status == JT_OK) {
        status = write_floats(w, a, a_n);
        status = status == JT_OK ? write_floats(w, b, b_n) : status;
    }
    if (status == JT_OK && m)
        status = write_floats(w, m, e->rows);
    free(a);
    free(b);
    free(m);
    free(room);
    return status;
}

static jt_status describe_low_rank(writer *w, const entry *e)
{
    char name[JT_PEFT_NAME + 128];
    uint64_t rank = w->rank, rows = e->rows, cols = e->cols, count = e->count;
    bool table = is_table(e);
    if (w->a->kind->magnitude && (e->wrapped || e->parts > 1 || table))
        return jt_fail(w->err, JT_E_UNSUPPORTED, "PEFT has no DoRA of '%s'",
                       e->parameter);
    snprintf(name, sizeof name, "%s%s", e->prefix,
             table ? ".lora_embedding_A" : ".lora_A.weight");
    JT_TRY(jt_safetensors_add(
        w->out, name, JT_ST_F32, 2,
        table ? (uint64_t[]){rank, rows} : (uint64_t[]){count * rank, cols}, w->err));
    snprintf(name, sizeof name, "%s%s", e->prefix,
             table ? ".lora_embedding_B" : ".lora_B.weight");
    JT_TRY(jt_safetensors_add(
        w->out, name, JT_ST_F32, 2,
        table ? (uint64_t[]){cols, rank} : (uint64_t[]){rows, rank * count}, w->err));
    if (!w->a->kind->magnitude)
        return JT_OK;
    snprintf(name, sizeof name, "%s.lora_magnitude_vector", e->prefix);
    return jt_safetensors_add(w->out, name, JT_ST_F32, 1, &rows, w->err);
}

/* ---- sparse ---- */

static jt_status describe_sparse(writer *w, const entry *e)
{
    char name[JT_PEFT_NAME + 128];
    uint64_t n = w->rank * (e->rows + e->cols), index[2] = {2, n};
    snprintf(name, sizeof name, "%s.shira_weight", e->prefix);
    JT_TRY(jt_safetensors_add(w->out, name, JT_ST_F32, 1, &n, w->err));
    snprintf(name, sizeof name, "%s.shira_indices", e->prefix);
    return jt_safetensors_add(w->out, name, JT_ST_I32, 2, index, w->err);
}

/* The values, and zeros in the first places that have none, up to `n`. */
static void list_values(const jt_adapter_slot *s, const uint32_t *map, float *value,
                        int32_t *row, int32_t *column, size_t n)
{
    const float *from = s->part[0].data;
    size_t filled = 0, spare = n - jt_cols(&s->part[0]);
    for (size_t r = 0; r < s->rows; r++) {
        size_t i = s->start[r];
        for (size_t c = 0; c < s->cols; c++) {
            bool here = i < s->start[r + 1] && s->column[i] == c;
            if (!here && !spare)
                continue;
            spare -= !here;
            value[filled] = here ? s->scale * from[i++] : 0.0f;
            row[filled] = (int32_t)map[r];
            column[filled++] = (int32_t)c;
        }
    }
}

static jt_status write_sparse(writer *w, const entry *e)
{
    size_t n = w->rank * (e->rows + e->cols);
    jt_status status;
    const uint32_t *map =
        jt_peft_map(&w->names, &e->place[0], e->rows, &status, w->err);
    JT_TRY(status);
    float *value = jt_alloc(n, sizeof *value);
    int32_t *index = jt_alloc(2 * n, sizeof *index);
    if (value && index) {
        list_values(e->slot[0], map, value, index, index + n, n);
        status = write_floats(w, value, n);
        if (status == JT_OK)
            status = jt_safetensors_write(w->out, index, 2 * n * sizeof *index, w->err);
    } else {
        status = jt_fail_memory(w->err, "writing an adapter");
    }
    free(value);
    free(index);
    return status;
}

/* ---- the folder ---- */

static jt_status write_tensors(writer *w)
{
    bool sparse = w->a->kind->sparse;
    if (w->a->kind->front)
        return jt_peft_write_front(w->out, w->a, &w->names, w->err);
    for (size_t i = 0; i < w->count; i++)
        JT_TRY(sparse ? describe_sparse(w, &w->list[i])
                      : describe_low_rank(w, &w->list[i]));
    for (size_t i = 0; i < w->count; i++)
        JT_TRY(sparse ? write_sparse(w, &w->list[i]) : write_low_rank(w, &w->list[i]));
    return JT_OK;
}

static jt_status write_file(writer *w, const char *folder)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    JT_TRY(jt_safetensors_begin(&w->out, path, w->err));
    jt_status status = write_tensors(w);
    if (status == JT_OK)
        return jt_safetensors_writer_finish(w->out, w->err);
    jt_safetensors_writer_abort(w->out);
    return status;
}

static json_t *make_config(const writer *w)
{
    json_t *modules = json_array(), *parameters = json_array();
    bool sparse = w->a->kind->sparse, folded = w->alpha == 0.0;
    for (size_t i = 0; i < w->count; i++) {
        const entry *e = &w->list[i];
        size_t len = strlen(e->parameter) - (e->wrapped ? 0 : strlen(".weight"));
        json_array_append_new(e->wrapped ? parameters : modules,
                              json_stringn(e->parameter, len));
    }
    json_t *config =
        json_pack("{s:s, s:s, s:i, s:o, s:b}", "peft_type", sparse ? "SHIRA" : "LORA",
                  "peft_version", "0.19.1", "r", (int)w->rank, "target_modules",
                  modules, "inference_mode", 1);
    if (sparse) {
        json_decref(parameters);
        return config;
    }
    if (json_array_size(parameters))
        json_object_set_new(config, "target_parameters", parameters);
    else
        json_decref(parameters);
    json_object_set_new(config, "lora_alpha",
                        json_real(folded ? (double)w->rank : w->alpha));
    json_object_set_new(config, "lora_dropout", json_real(0.0));
    json_object_set_new(config, "bias", json_string("none"));
    json_object_set_new(config, "use_dora", json_boolean(w->a->kind->magnitude));
    json_object_set_new(config, "use_rslora",
                        json_boolean(!folded && w->a->kind == &jt_adapter_rslora));
    return config;
}

static jt_status write_config(writer *w, const char *folder)
{
    char path[PATH_MAX];
    jt_output out;
    json_t *config =
        w->a->kind->front ? jt_peft_front_config(w->a, w->names.model) : make_config(w);
    char *text = config ? json_dumps(config, JSON_INDENT(2)) : NULL;
    json_decref(config);
    if (!text)
        return jt_fail_memory(w->err, "writing JSON");
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    jt_status status = jt_output_open(&out, path, w->err);
    if (status == JT_OK) {
        status = jt_output_write(&out, text, strlen(text), w->err);
        if (status == JT_OK)
            status = jt_output_commit(&out, w->err);
        else
            jt_output_abort(&out);
    }
    free(text);
    return status;
}

static jt_status write_folder(writer *w, const char *folder)
{
    if (!w->a->kind->front)
        JT_TRY(list_entries(w));
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return jt_fail(w->err, JT_E_IO, "cannot make the folder '%s': %s", folder,
                       strerror(errno));
    JT_TRY(write_file(w, folder));
    return write_config(w, folder);
}

jt_status jt_adapter_write_peft(const jt_adapter *a, const char *folder,
                                const jt_model *model, jt_err *err)
{
    writer w = {.a = a, .err = err};
    if (!a->count && !a->kind->front)
        return jt_fail(err, JT_E_ARG, "an adapter without targets");
    if (a->kind->by_token && !a->kind->front)
        return jt_fail(err, JT_E_UNSUPPORTED, "adapters of kind '%s' in PEFT folders",
                       a->kind->name);
    JT_TRY(jt_peft_names_open(&w.names, model, err));
    jt_status status = write_folder(&w, folder);
    jt_peft_names_close(&w.names);
    free(w.list);
    return status;
}
