#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "kernels/nested.h"
#include "make/nest.h"
#include "make/retype.h"
#include "make/singles.h"
#include "model/hf.h"
#include "model/model.h"
#include "shrink/mix.h"
#include "shrink/rules.h"
#include "watch/importance.h"

enum { NAME_BYTES = 256 };

typedef struct job {
    const char *to;
    const jt_quantize_options *o;
    jt_mix mix;
    jt_rules *rules;
    jt_importance *importance; /* or NULL */
    jt_gguf *file;
    jt_singles *singles; /* of the file, when its experts are laid out; or NULL */
    jt_gguf_writer *writer;
    jt_pool *pool;
    jt_mix_place place; /* but for the layer */
    jt_quantize_report report;
    uint64_t done, values;
    size_t requantised, unseen, few, stacked; /* the last three: experts' matrices */
    jt_err *err;
} job;

/* ---- the tensors ---- */

/* A tensor that is written, and where it has its name in rules, mixes and importance:
 * itself, or a stack of which it is matrix `expert`. */
typedef struct subject {
    const jt_gguf_tensor *t, *of;
    int expert;
} subject;

static size_t count_of(const job *j)
{
    return j->singles ? jt_singles_count(j->singles) : jt_gguf_tensor_count(j->file);
}

static subject subject_at(const job *j, size_t i)
{
    subject s = {.t = j->singles ? jt_singles_at(j->singles, i)
                                 : jt_gguf_tensor_at(j->file, i)};
    s.of = j->singles ? jt_singles_stack(j->singles, i, &s.expert) : NULL;
    s.of = s.of ? s.of : s.t;
    return s;
}

/* ---- what each tensor becomes ---- */

static uint64_t bytes_of(const jt_gguf_tensor *t, jt_dtype dtype)
{
    return jt_hf_values(t) / jt_dtype_block_values(dtype) * jt_dtype_block_bytes(dtype);
}

/* The type for a tensor called `name`, or, of an expert, as its stack is. */
static jt_dtype wanted_type(const job *j, const subject *s, const char *name)
{
    jt_dtype dtype;
    char stack[NAME_BYTES];
    const jt_gguf_tensor *t = s->t;
    if (!jt_dtype_is_weight(t->dtype) || t->n_dims < 2)
        return t->dtype;
    if (jt_rules_find(j->rules, name, &dtype))
        return dtype;
    snprintf(stack, sizeof stack, "%.*s", (int)s->of->name.len, s->of->name.data);
    name = stack;
    if (jt_rules_find(j->rules, name, &dtype))
        return dtype;
    jt_mix_place place = j->place;
    if (sscanf(name, "blk.%d.", &place.layer) != 1)
        place.layer = -1;
    jt_role role = jt_mix_role(name, s->of->n_dims);
    return role == JT_ROLE_PLAIN ? t->dtype : jt_mix_choose(&j->mix, role, &place);
}

/* The importance of a tensor whose type changes to one that has a choice; NULL: none.
 */
static jt_status find_importance(const job *j, const subject *of_what,
                                 jt_quantize_tensor *out, const jt_seen **seen)
{
    char name[NAME_BYTES];
    const jt_gguf_tensor *t = of_what->of;
    *seen = NULL;
    if (!j->importance || out->to == out->from || out->to == JT_Q8_0 ||
        jt_dtype_block_values(out->to) == 1)
        return JT_OK;
    snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
    const jt_seen *s = jt_importance_find(j->importance, name);
    size_t unseen, less;
    if (!s || !jt_importance_tell(s, &unseen, &less))
        return JT_OK;
    if (of_what->expert == 0) { /* once for all */
        out->unseen = unseen;
        out->seen_less = less;
    }
    uint64_t matrices =
        jt_hf_values(t) / t->shape[t->n_dims - 1] / t->shape[t->n_dims - 2];
    if (s->n_columns != t->shape[t->n_dims - 1] || s->n_matrices != matrices)
        return jt_fail(j->err, JT_E_FORMAT,
                       "the importance of '%s' is of %zu x %zu columns: another model",
                       name, s->n_matrices, s->n_columns);
    out->weighted = true;
    *seen = s;
    return JT_OK;
}

/* Is this written in Q2_K and planes? */
static bool is_nested(const job *j, const jt_gguf_tensor *t)
{
    return j->o->nested && jt_nest_can(t) && jt_dtype_is_weight(t->dtype);
}

static jt_status plan_tensor(const job *j, const subject *s, char name[NAME_BYTES],
                             jt_quantize_tensor *out, const jt_seen **seen)
{
    const jt_gguf_tensor *t = s->t;
    if (t->name.len >= NAME_BYTES)
        return jt_fail(j->err, JT_E_UNSUPPORTED, "tensor name '%.*s' is too long",
                       NAME_BYTES, t->name.data);
    snprintf(name, NAME_BYTES, "%.*s", (int)t->name.len, t->name.data);
    bool nested = is_nested(j, t);
    jt_dtype wanted = nested ? JT_Q2_K : wanted_type(j, s, name);
    *out =
        (jt_quantize_tensor){.name = name,
                             .n_dims = t->n_dims,
                             .shape = t->shape,
                             .from = t->dtype,
                             .to = jt_mix_fit(wanted, t->shape[t->n_dims - 1]),
                             .bytes_from = t->types ? t->bytes : bytes_of(t, t->dtype)};
    out->fell_back = out->to != wanted;
    out->bytes_to = bytes_of(t, out->to);
    if (nested) {
        out->bits = j->o->nested;
        out->bytes_to += jt_nest_plane_bytes(t, out->bits);
    }
    return find_importance(j, s, out, seen);
}

static void count_tensor(job *j, const jt_gguf_tensor *t, const jt_quantize_tensor *q)
{
    jt_quantize_report *r = &j->report;
    r->tensors++;
    r->fell_back += q->fell_back;
    r->weighted += q->weighted;
    r->bytes_from += q->bytes_from;
    r->bytes_to += q->bytes_to;
    j->values += jt_hf_values(t);
    j->requantised += q->from != q->to && jt_dtype_block_values(q->from) > 1;
    j->unseen += q->unseen;
    j->few += q->seen_less;
    j->stacked += !q->weighted         ? 0
                  : t->n_dims == 3     ? t->shape[0]
                  : j->singles != NULL ? 1
                                       : 0;
    if (j->o->on_tensor)
        j->o->on_tensor(j->o->user, q);
}

static jt_status plan(job *j)
{
    for (size_t i = 0; i < count_of(j); i++) {
        subject s = subject_at(j, i);
        const jt_gguf_tensor *t = s.t;
        char name[NAME_BYTES];
        jt_quantize_tensor q;
        const jt_seen *seen;
        JT_TRY(plan_tensor(j, &s, name, &q, &seen));
        count_tensor(j, t, &q);
        if (j->writer)
            JT_TRY(
                jt_gguf_add_tensor(j->writer, name, q.to, t->n_dims, t->shape, j->err));
        if (j->writer && q.bits)
            JT_TRY(jt_nest_describe(j->writer, t, q.bits, j->err));
    }
    j->report.bits =
        j->values ? 8.0 * (double)j->report.bytes_to / (double)j->values : 0;
    return JT_OK;
}

static void tell(const job *j)
{
    const jt_log *log = &j->o->log;
    if (j->requantised)
        jt_log_line(log, JT_LOG_WARN,
                    "%zu tensors were quantised before: their error adds up",
                    j->requantised);
    if (j->report.fell_back)
        jt_log_line(log, JT_LOG_WARN,
                    "%zu tensors have rows that are no whole blocks of their type and "
                    "got another",
                    j->report.fell_back);
    if (j->unseen)
        jt_log_line(log, JT_LOG_WARN,
                    "%zu of %zu experts' matrices saw no token: they count inputs by "
                    "the mean of their layer",
                    j->unseen, j->stacked);
    if (j->few)
        jt_log_line(
            log, JT_LOG_INFO,
            "%zu experts' matrices saw fewer than %d tokens: theirs are blended "
            "with that mean",
            j->few, (int)JT_IMPORTANCE_PRIOR);
}

/* ---- keys ---- */

static jt_status note_importance(job *j)
{
    const jt_importance *m = j->importance;
    if (!m)
        return JT_OK;
    JT_TRY(
        jt_gguf_set_str(j->writer, "quantize.imatrix.file", j->o->importance, j->err));
    if (m->n_datasets)
        JT_TRY(jt_gguf_set_str(j->writer, "quantize.imatrix.dataset", m->datasets[0],
                               j->err));
    JT_TRY(jt_gguf_set_u32(j->writer, "quantize.imatrix.entries_count",
                           (uint32_t)m->count, j->err));
    return jt_gguf_set_u32(j->writer, "quantize.imatrix.chunks_count",
                           (uint32_t)m->chunks, j->err);
}

static jt_status write_keys(job *j)
{
    static const char *const split[] = {"split.no", "split.count",
                                        "split.tensors.count"};
    for (size_t i = 0; i < jt_gguf_kv_count(j->file); i++)
        JT_TRY(jt_gguf_set_kv(j->writer, NULL, jt_gguf_kv_at(j->file, i), j->err));
    for (size_t i = 0; i < sizeof split / sizeof *split; i++)
        jt_gguf_unset(j->writer, split[i]);
    JT_TRY(jt_gguf_set_u32(j->writer, "general.file_type", (uint32_t)j->mix.file_type,
                           j->err));
    JT_TRY(jt_gguf_set_u32(j->writer, "general.quantization_version", 2, j->err));
    JT_TRY(note_importance(j));
    return j->singles ? jt_singles_set_keys(j->singles, j->writer, j->err) : JT_OK;
}

/* ---- data ---- */

static jt_status written(void *user, size_t bytes)
{
    job *j = user;
    j->done += bytes;
    return jt_progress_report(&j->o->progress, "quantising", j->done,
                              j->report.bytes_to, j->err);
}

static jt_status write_tensor(job *j, const subject *s)
{
    const jt_gguf_tensor *t = s->t;
    char name[NAME_BYTES];
    jt_quantize_tensor q;
    const jt_seen *seen;
    float *weights = NULL;
    JT_TRY(plan_tensor(j, s, name, &q, &seen));
    if (seen) {
        weights = jt_alloc(seen->n_matrices * seen->n_columns, sizeof *weights);
        if (!weights)
            return jt_fail_memory(j->err, "quantising a model");
        jt_importance_weights(seen, weights);
    }
    size_t own = seen && t != s->of ? (size_t)s->expert * seen->n_columns : 0;
    jt_retype how = {.writer = j->writer,
                     .pool = j->pool,
                     .to = q.to,
                     .weights = weights ? weights + own : NULL,
                     .written = written,
                     .user = j};
    jt_nest nest = {.writer = j->writer,
                    .pool = j->pool,
                    .bits = q.bits,
                    .weights = weights,
                    .written = written,
                    .user = j};
    jt_status status =
        q.bits ? jt_nest_tensor(t, &nest, j->err) : jt_retype_tensor(t, &how, j->err);
    free(weights);
    if (status == JT_OK && t->data)
        jt_map_forget(t->data, t->bytes);
    return status;
}

static jt_status write_file(job *j)
{
    JT_TRY(write_keys(j));
    JT_TRY(plan(j));
    tell(j);
    JT_TRY(written(j, 0));
    JT_TRY(jt_gguf_write(j->writer, "", 0, j->err)); /* the head: it is not summed */
    for (size_t i = 0; i < count_of(j); i++) {
        subject s = subject_at(j, i);
        if (j->singles)
            jt_singles_begin(j->singles, j->writer, i);
        JT_TRY(write_tensor(j, &s));
    }
    return JT_OK;
}

/* ---- the whole ---- */

static void find_place(job *j)
{
    jt_str arch = {"", 0};
    char key[NAME_BYTES];
    uint32_t layers = 0;
    jt_gguf_get_str(j->file, "general.architecture", &arch);
    snprintf(key, sizeof key, "%.*s.block_count", (int)(arch.len < 64 ? arch.len : 64),
             arch.data);
    jt_gguf_get_u32(j->file, key, &layers);
    j->place = (jt_mix_place){.n_layers = (int)(layers & INT32_MAX),
                              .tied = jt_gguf_find(j->file, "output.weight") == NULL};
    for (size_t i = 0; i < jt_gguf_tensor_count(j->file) && !j->place.mixture; i++) {
        jt_str name = jt_gguf_tensor_at(j->file, i)->name;
        j->place.mixture = memmem(name.data, name.len, "_exps.", 6) != NULL;
    }
}

static jt_status prepare(job *j, const char *from)
{
    const jt_quantize_options *o = j->o;
    if (o->nested && (o->nested <= JT_NESTED_LEAST || o->nested > JT_NESTED_MOST))
        return jt_fail(j->err, JT_E_ARG, "nested weights have up to 3, 4, 5 or 6 bits");
    bool laid_out = o->layout && strcmp(o->layout, "experts") == 0;
    if (o->layout && !laid_out && strcmp(o->layout, "plain") != 0)
        return jt_fail(j->err, JT_E_ARG, "layout '%s' is not known (plain, experts)",
                       o->layout);
    if (laid_out && o->nested)
        return jt_fail(j->err, JT_E_ARG,
                       "nested experts lie plane by plane; they have no other layout");
    JT_TRY(jt_mix_find(&j->mix, o->mix, j->err));
    JT_TRY(jt_rules_new(&j->rules, o->rules, o->n_rules, j->err));
    if (o->importance)
        JT_TRY(jt_importance_load(&j->importance, o->importance, j->err));
    JT_TRY(jt_model_open_file(&j->file, from, j->err));
    find_place(j);
    if (laid_out)
        JT_TRY(jt_singles_new(&j->singles, j->file, j->err));
    return jt_pool_new(&j->pool, o->threads, j->err);
}

static jt_status write_whole(job *j)
{
    JT_TRY(jt_gguf_writer_new(&j->writer, j->to, j->err));
    jt_status status = write_file(j);
    if (status == JT_OK)
        return jt_gguf_writer_finish(j->writer, j->err);
    jt_gguf_writer_abort(j->writer);
    return status;
}

jt_status jt_quantize_model(const char *from, const char *to,
                            const jt_quantize_options *options,
                            jt_quantize_report *report, jt_err *err)
{
    job j = {.to = to, .o = options, .err = err};
    double start = jt_seconds();
    jt_status status = prepare(&j, from);
    if (status == JT_OK && to) {
        status = write_whole(&j);
    } else if (status == JT_OK) {
        status = plan(&j);
        tell(&j);
    }
    jt_pool_free(j.pool);
    jt_singles_free(j.singles);
    jt_gguf_close(j.file);
    jt_importance_free(j.importance);
    jt_rules_free(j.rules);
    if (status == JT_OK && report) {
        *report = j.report;
        report->seconds = jt_seconds() - start;
    }
    return status;
}
