/* Choosing among texts that are there: what junto/choose.h says (Yang et al. 2024,
 * section 3.2: similar and diverse data). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "learn/choose.h"
#include "run/embed.h"
#include "text/jsonl.h"
#include "text/lines.h"

typedef struct near_text {
    double distance;
    size_t at; /* of the pool */
} near_text;

typedef struct picking {
    const jt_pick_options *options;
    const jt_samples *samples;
    jt_samples *pool;
    jt_session *session;
    size_t d;
    float *vector;   /* [pool, d], and after them [samples, d] */
    double *middle;  /* [d] */
    near_text *list; /* [pool] */
    size_t count;    /* of the list that are picked */
    jt_err *err;
} picking;

static jt_status no_memory(jt_err *err)
{
    return jt_fail_memory(err, "choosing texts");
}

/* ---- vectors ---- */

static jt_status embed(const picking *p, const jt_samples *s, size_t i, float *out)
{
    size_t count = s->docs.items[i].count, room = (size_t)p->session->capacity;
    jt_embedder e;
    int32_t *ids = jt_sample_ids(s, i);
    if (!ids)
        return no_memory(p->err);
    jt_session_truncate(p->session, 0);
    jt_status status = jt_embedder_begin(&e, p->session, true, p->err);
    if (status == JT_OK) {
        status =
            jt_session_eval(p->session, ids, count < room ? count : room, NULL, p->err);
        if (status == JT_OK)
            jt_embedder_read(&e, out);
        jt_embedder_end(&e);
    }
    jt_session_truncate(p->session, 0);
    free(ids);
    return status;
}

static jt_status embed_all(const picking *p)
{
    for (size_t i = 0; i < p->pool->n; i++)
        JT_TRY(embed(p, p->pool, i, p->vector + i * p->d));
    for (size_t i = 0; i < p->samples->n; i++)
        JT_TRY(embed(p, p->samples, i, p->vector + (p->pool->n + i) * p->d));
    return JT_OK;
}

static void mean_of(const picking *p, size_t first, size_t count)
{
    memset(p->middle, 0, p->d * sizeof *p->middle);
    for (size_t i = first; i < first + count; i++) {
        for (size_t j = 0; j < p->d; j++)
            p->middle[j] += (double)p->vector[i * p->d + j] / (double)count;
    }
}

/* Less the mean of the pool, of length 1. */
static void centre(const picking *p)
{
    mean_of(p, 0, p->pool->n);
    for (size_t i = 0; i < p->pool->n + p->samples->n; i++) {
        float *v = p->vector + i * p->d;
        double square = 0.0;
        for (size_t j = 0; j < p->d; j++) {
            v[j] -= (float)p->middle[j];
            square += (double)v[j] * (double)v[j];
        }
        for (size_t j = 0; j < p->d && square > 0.0; j++)
            v[j] = (float)((double)v[j] / sqrt(square));
    }
}

/* ---- near, and apart ---- */

static int nearest_first(const void *a, const void *b)
{
    const near_text *x = a, *y = b;
    int order = (x->distance > y->distance) - (x->distance < y->distance);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

static void find_near(picking *p)
{
    mean_of(p, p->pool->n, p->samples->n);
    for (size_t i = 0; i < p->pool->n; i++) {
        double square = 0.0;
        for (size_t j = 0; j < p->d; j++) {
            double apart = (double)p->vector[i * p->d + j] - p->middle[j];
            square += apart * apart;
        }
        p->list[i] = (near_text){square, i};
    }
    qsort(p->list, p->pool->n, sizeof *p->list, nearest_first);
    p->count = p->options->most < p->pool->n ? p->options->most : p->pool->n;
}

static bool is_alike(const picking *p, size_t i, size_t j)
{
    const float *a = p->vector + p->list[i].at * p->d;
    const float *b = p->vector + p->list[j].at * p->d;
    double cosine = 0.0;
    for (size_t k = 0; k < p->d; k++)
        cosine += (double)a[k] * (double)b[k];
    return fmax(1.0 - cosine, 0.0) < p->options->apart; /* 0 keeps twins */
}

/* A text goes when a nearer one is like it, whether that stays or not. */
static void drop_alike(picking *p)
{
    size_t kept = 0;
    for (size_t i = p->count; i-- > 0;) {
        bool alike = false;
        for (size_t j = 0; j < i && !alike; j++)
            alike = is_alike(p, i, j);
        p->list[i].distance = alike ? -1.0 : p->list[i].distance;
    }
    for (size_t i = 0; i < p->count; i++) {
        if (p->list[i].distance >= 0.0)
            p->list[kept++] = p->list[i];
    }
    p->count = kept;
}

/* ---- files ---- */

/* The lines of all records, as training counts them. */
static jt_str *find_records(const jt_map *map, size_t *count)
{
    jt_str rest = jt_skip_mark((jt_str){(const char *)map->data, map->bytes});
    jt_str *list = NULL;
    size_t capacity = 0;
    *count = 0;
    while (rest.len) {
        jt_str line = jt_take_line(&rest);
        if (jt_is_blank(line))
            continue;
        if (!jt_grow((void **)&list, &capacity, *count + 1, sizeof *list)) {
            free(list);
            return NULL;
        }
        list[(*count)++] = line;
    }
    return list;
}

static jt_status write_lines(const picking *p, jt_output *out, const jt_str *records,
                             size_t n)
{
    for (size_t i = 0; i < p->count; i++) {
        size_t record = p->pool->docs.items[p->list[i].at].record;
        if (record >= n)
            return jt_fail(p->err, JT_E_IO, "the pool has changed meanwhile");
        jt_str line = records[record];
        bool ends = line.data[line.len - 1] == '\n';
        JT_TRY(jt_output_write(out, line.data, line.len, p->err));
        if (!ends)
            JT_TRY(jt_output_write(out, "\n", 1, p->err));
    }
    return JT_OK;
}

static jt_status write_picked(const picking *p, const char *out, const char *pool)
{
    jt_map map;
    jt_output file;
    size_t n;
    JT_TRY(jt_map_open(&map, pool, p->err));
    jt_str *records = find_records(&map, &n);
    jt_status status = records ? jt_output_open(&file, out, p->err) : no_memory(p->err);
    if (status == JT_OK) {
        status = write_lines(p, &file, records, n);
        if (status == JT_OK)
            status = jt_output_commit(&file, p->err);
        else
            jt_output_abort(&file);
    }
    free(records);
    jt_map_close(&map);
    return status;
}

/* ---- the whole ---- */

static jt_status pick(picking *p)
{
    size_t n = p->pool->n;
    p->vector = jt_alloc((n + p->samples->n) * p->d, sizeof *p->vector);
    p->middle = jt_alloc(p->d, sizeof *p->middle);
    p->list = jt_alloc(n, sizeof *p->list);
    if (!p->vector || !p->middle || !p->list)
        return no_memory(p->err);
    JT_TRY(embed_all(p));
    centre(p);
    find_near(p);
    drop_alike(p);
    return JT_OK;
}

jt_status jt_texts_pick(const char *out, const char *pool, const jt_samples *samples,
                        jt_session *session, const jt_pick_options *options,
                        size_t *picked, jt_err *err)
{
    picking p = {.options = options,
                 .samples = samples,
                 .session = session,
                 .d = (size_t)session->model->params.d_model,
                 .err = err};
    if (!jt_is_jsonl(pool))
        return jt_fail(err, JT_E_ARG, "'%s': expected JSON lines", pool);
    if (!options->most || !(options->apart >= 0.0))
        return jt_fail(err, JT_E_ARG, "%zu texts, apart by %g", options->most,
                       options->apart);
    JT_TRY(jt_samples_open(&p.pool, pool, session->model, 0, err));
    jt_status status = pick(&p);
    if (status == JT_OK)
        status = write_picked(&p, out, pool);
    *picked = p.count;
    jt_samples_free(p.pool);
    free(p.vector);
    free(p.middle);
    free(p.list);
    return status;
}
