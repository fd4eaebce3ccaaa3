/* Writing traces. Rows of the pass in progress stand behind the complete ones; they
 * count as complete when all layers have been seen. Whole blocks leave for the file. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/file.h"
#include "base/half.h"
#include "base/hash.h"
#include "base/memory.h"
#include "watch/trace.h"

enum { LEVEL = 1, NO_LABEL = 65535 };

struct jt_trace_writer {
    jt_trace_head head;
    jt_append file;
    int *place; /* [n_places] of a layer of the model in head.layers, or -1 */
    int n_places;

    unsigned char *column[JT_TRACE_COLUMNS]; /* [capacity, width]; NULL: not kept */
    size_t row_bytes[JT_TRACE_COLUMNS];
    size_t capacity, used; /* rows that there is room for, and complete ones */
    size_t pass;           /* rows of the pass in progress */
    int layer;             /* of the head: the one that it has come to */
    size_t rows;           /* of that layer, so far */
    size_t first;          /* where the last of its parts began in the pass */

    char **labels; /* [n_labels] */
    size_t n_labels, labels_room, labels_written;
    int label;                 /* of the next pass */
    const int32_t *own_labels; /* [n_own_labels] of its tokens instead; or NULL */
    size_t n_own_labels;
    const jt_session *residency_of; /* or NULL */

    ZSTD_CCtx *zstd;
    unsigned char *planes, *block;
    size_t planes_room, block_room;
    jt_err err; /* the first failure; nothing is written after it */
};

/* ---- blocks ---- */

static bool make_room(unsigned char **data, size_t *room, size_t need)
{
    return jt_grow((void **)data, room, need, 1);
}

/* Behind `block_used` bytes of the block: one column, compressed, and its entry. */
static jt_status pack(jt_trace_writer *w, unsigned id, const unsigned char *data,
                      size_t bytes, unsigned char **entry, size_t *block_used)
{
    jt_err *err = &w->err;
    size_t most = ZSTD_compressBound(bytes), at = (size_t)(*entry - w->block);
    if (!make_room(&w->block, &w->block_room, *block_used + most))
        return jt_fail_memory(err, "writing a trace");
    *entry = w->block + at;
    size_t stored = ZSTD_compress2(w->zstd, w->block + *block_used, most, data, bytes);
    if (ZSTD_isError(stored))
        return jt_fail(err, JT_E_MEMORY, "cannot compress a trace: %s",
                       ZSTD_getErrorName(stored));
    jt_trace_put(entry, id, 4);
    jt_trace_put(entry, bytes, 4);
    jt_trace_put(entry, stored, 4);
    *block_used += stored;
    return JT_OK;
}

/* Positions as steps from the token before: 1 almost always. */
static void take_steps(int32_t *position, size_t n)
{
    for (size_t i = n; i-- > 1;)
        position[i] = (int32_t)((uint32_t)position[i] - (uint32_t)position[i - 1]);
}

static jt_status pack_column(jt_trace_writer *w, jt_trace_column c, size_t tokens,
                             unsigned char **entry, size_t *block_used)
{
    size_t bytes = tokens * w->row_bytes[c];
    if (!make_room(&w->planes, &w->planes_room, bytes))
        return jt_fail_memory(&w->err, "writing a trace");
    if (c == JT_TRACE_POSITION)
        take_steps((int32_t *)(void *)w->column[c], tokens);
    jt_trace_split(w->planes, w->column[c], tokens, jt_trace_width(&w->head, c),
                   jt_trace_item(&w->head, c));
    return pack(w, c, w->planes, bytes, entry, block_used);
}

/* Labels that no block has named yet, each with a NUL behind it. */
static jt_status pack_names(jt_trace_writer *w, unsigned char **entry,
                            size_t *block_used)
{
    size_t bytes = 0;
    for (size_t i = w->labels_written; i < w->n_labels; i++)
        bytes += strlen(w->labels[i]) + 1;
    if (!make_room(&w->planes, &w->planes_room, bytes))
        return jt_fail_memory(&w->err, "writing a trace");
    unsigned char *p = w->planes;
    for (size_t i = w->labels_written; i < w->n_labels; i++) {
        size_t len = strlen(w->labels[i]) + 1;
        memcpy(p, w->labels[i], len);
        p += len;
    }
    return pack(w, TRACE_NAMES, w->planes, bytes, entry, block_used);
}

static void forget_rows(jt_trace_writer *w, size_t n)
{
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        size_t row = w->row_bytes[c];
        if (w->column[c])
            memmove(w->column[c], w->column[c] + n * row, (w->used - n) * row);
    }
    w->used -= n;
}

/* The first `tokens` rows as a block. */
static jt_status write_block(jt_trace_writer *w, size_t tokens)
{
    size_t names = w->labels_written < w->n_labels, entries = names;
    for (int c = 0; c < JT_TRACE_COLUMNS; c++)
        entries += w->column[c] != NULL;
    size_t head = TRACE_PREFIX + TRACE_ENTRY * entries, used = head;
    if (!make_room(&w->block, &w->block_room, head))
        return jt_fail_memory(&w->err, "writing a trace");
    unsigned char *entry = w->block + TRACE_PREFIX;
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        if (w->column[c])
            JT_TRY(pack_column(w, c, tokens, &entry, &used));
    }
    if (names)
        JT_TRY(pack_names(w, &entry, &used));
    unsigned char *p = w->block;
    memcpy(p, jt_trace_block_magic, 4);
    p += 4;
    jt_trace_put(&p, tokens, 4);
    jt_trace_put(&p, entries, 4);
    jt_trace_put(&p, used - head, 4);
    uint64_t sum = jt_hash(JT_HASH_START, w->block, TRACE_PREFIX - 8);
    jt_trace_put(&p, jt_hash(sum, w->block + TRACE_PREFIX, head - TRACE_PREFIX), 8);
    JT_TRY(jt_append_write(&w->file, w->block, used, &w->err));
    w->labels_written = w->n_labels;
    forget_rows(w, tokens);
    return JT_OK;
}

/* The pass that ended is complete when all its layers were seen. */
static void end_pass(jt_trace_writer *w)
{
    size_t block = (size_t)w->head.block_tokens;
    if (w->layer == w->head.n_layers - 1 && w->rows == w->pass)
        w->used += w->pass;
    w->pass = w->rows = 0;
    w->layer = 0;
    while (w->err.code == JT_OK && w->used >= block)
        write_block(w, block);
}

/* ---- watching ---- */

static bool reserve(jt_trace_writer *w, size_t rows)
{
    if (rows <= w->capacity)
        return true;
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        size_t bytes;
        if (!w->row_bytes[c])
            continue;
        if (!jt_mul(rows, w->row_bytes[c], &bytes))
            return false;
        unsigned char *larger = jt_alloc(bytes, 1);
        if (!larger)
            return false;
        if (w->used + w->pass)
            memcpy(larger, w->column[c], (w->used + w->pass) * w->row_bytes[c]);
        free(w->column[c]);
        w->column[c] = larger;
    }
    w->capacity = rows;
    return true;
}

static unsigned char *row_of(const jt_trace_writer *w, jt_trace_column c, size_t t)
{
    return w->column[c] + (w->used + w->rows + t) * w->row_bytes[c];
}

static void note_labels(jt_trace_writer *w, size_t tokens)
{
    if (w->own_labels && w->n_own_labels != tokens) {
        jt_fail(&w->err, JT_E_ARG, "%zu labels for a pass of %zu tokens",
                w->n_own_labels, tokens);
        return;
    }
    for (size_t t = 0; t < tokens; t++) {
        uint16_t label = (uint16_t)(w->own_labels ? w->own_labels[t] : w->label);
        memcpy(row_of(w, JT_TRACE_LABEL, t), &label, sizeof label);
    }
    w->own_labels = NULL;
}

/* Rows of the first layer: of a new pass, or of sequences that run beside those before
 * in the same one, which come in order. */
static void add_rows(jt_trace_writer *w, const jt_route_site *site, size_t tokens)
{
    if (w->layer > 0 || !w->pass || site->first <= w->first)
        end_pass(w);
    if (w->err.code != JT_OK)
        return;
    if (!reserve(w, w->used + w->pass + tokens)) {
        jt_fail_memory(&w->err, "tracing");
        return;
    }
    w->pass += tokens;
    memcpy(row_of(w, JT_TRACE_TOKEN, 0), site->token_ids, tokens * sizeof(int32_t));
    memcpy(row_of(w, JT_TRACE_POSITION, 0), site->positions, tokens * sizeof(int32_t));
    note_labels(w, tokens);
}

/* The nearest half that is finite. */
static uint16_t half_of(float x)
{
    return jt_float_to_f16(x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x);
}

/* Entropy of the scores as shares of their sum, over that of even shares. With S the
 * sum of s, it is log S - (sum of s log s) / S. */
static float share_entropy(const float *scores, int n)
{
    float sum = 0.0f, weighed = 0.0f;
    for (int i = 0; i < n; i++) {
        if (scores[i] > 0.0f) {
            sum += scores[i];
            weighed += scores[i] * logf(scores[i]);
        }
    }
    if (!(sum > 0.0f) || n < 2)
        return 0.0f;
    return fmaxf(0.0f, (logf(sum) - weighed / sum) / logf((float)n));
}

static void note_slots(jt_trace_writer *w, const jt_trace_layer *layer, size_t t,
                       const int32_t *expert, const float *weight, int k)
{
    size_t item = jt_trace_item(&w->head, JT_TRACE_EXPERT);
    unsigned char *ids = row_of(w, JT_TRACE_EXPERT, t) + (size_t)layer->slot * item;
    unsigned char *halves = row_of(w, JT_TRACE_WEIGHT, t) + (size_t)layer->slot * 2;
    for (int j = 0; j < layer->k; j++) {
        bool chosen = j < k && expert[j] >= 0 && expert[j] < layer->n_experts;
        uint16_t id = chosen ? (uint16_t)expert[j] : 0xffff;
        uint16_t half = chosen ? half_of(weight[j]) : 0;
        memcpy(ids + (size_t)j * item, &id, item);
        memcpy(halves + (size_t)j * 2, &half, sizeof half);
    }
}

static void note_scores(jt_trace_writer *w, int place, size_t t, const float *scores,
                        int n)
{
    const jt_trace_layer *layer = &w->head.layers[place];
    uint16_t entropy = half_of(scores ? share_entropy(scores, n) : 0.0f);
    memcpy(row_of(w, JT_TRACE_ENTROPY, t) + (size_t)place * 2, &entropy,
           sizeof entropy);
    if (!w->column[JT_TRACE_SCORE])
        return;
    unsigned char *to = row_of(w, JT_TRACE_SCORE, t) + (size_t)layer->row * 2;
    for (int i = 0; i < layer->n_rows; i++) {
        uint16_t half = half_of(scores && i < n ? scores[i] : 0.0f);
        memcpy(to + (size_t)i * 2, &half, sizeof half);
    }
}

/* Where the experts of a token's slots are while it is routed. */
static void note_residency(jt_trace_writer *w, const jt_trace_layer *layer, size_t t,
                           const int32_t *expert, int k)
{
    unsigned char *at = row_of(w, JT_TRACE_RESIDENCY, t) + layer->slot;
    for (int j = 0; j < layer->k; j++) {
        bool chosen = j < k && expert[j] >= 0 && expert[j] < layer->n_experts;
        at[j] = chosen ? (unsigned char)jt_session_residency(w->residency_of,
                                                             layer->layer, expert[j])
                       : 0xff;
    }
}

static int place_of(const jt_trace_writer *w, const jt_route_site *site)
{
    return site->layer >= 0 && site->layer < w->n_places ? w->place[site->layer] : -1;
}

static void on_route(void *self, const jt_route_site *site, const jt_route *route)
{
    jt_trace_writer *w = self;
    int place = place_of(w, site);
    size_t tokens = (size_t)route->n_tokens, k = (size_t)route->k;
    if (place < 0 || w->err.code != JT_OK)
        return;
    if (place == 0)
        add_rows(w, site, tokens);
    else if (place == w->layer + 1 && w->rows == w->pass)
        w->rows = 0;
    else if (place != w->layer)
        return;
    if (w->err.code != JT_OK || w->rows + tokens > w->pass)
        return;
    w->layer = place;
    w->first = site->first;
    const jt_trace_layer *layer = &w->head.layers[place];
    if (route->k > layer->k) {
        jt_fail(&w->err, JT_E_LIMIT,
                "layer %d uses %d experts for a token, the trace has room for %d",
                layer->layer, route->k, layer->k);
        return;
    }
    for (size_t t = 0; t < tokens; t++) {
        const float *scores =
            route->scores ? route->scores + t * (size_t)route->n_rows : NULL;
        note_slots(w, layer, t, route->expert + t * k, route->weight + t * k, route->k);
        note_scores(w, place, t, scores, route->n_rows);
        if (w->column[JT_TRACE_RESIDENCY])
            note_residency(w, layer, t, route->expert + t * k, route->k);
        if (w->column[JT_TRACE_NORM]) /* until the experts have worked */
            memset(row_of(w, JT_TRACE_NORM, t) + (size_t)layer->slot * 2, 0,
                   (size_t)layer->k * 2);
    }
    w->rows += tokens;
}

/* Eight sums, so that the compiler may use vectors. */
static float norm_of(const float *x, size_t n)
{
    float part[8] = {0}, sum = 0.0f;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 8; j++)
            part[j] += x[i + j] * x[i + j];
    }
    for (; i < n; i++)
        sum += x[i] * x[i];
    for (size_t j = 0; j < 8; j++)
        sum += part[j];
    return sqrtf(sum);
}

static void on_outputs(void *self, const jt_route_site *site, const jt_plan *plan,
                       const float *outputs, size_t d)
{
    jt_trace_writer *w = self;
    int place = place_of(w, site);
    size_t tokens = (size_t)plan->n_tokens, k = (size_t)plan->k;
    if (place < 0 || w->err.code != JT_OK || place != w->layer || tokens > w->rows)
        return;
    const jt_trace_layer *layer = &w->head.layers[place];
    w->rows -= tokens; /* those that were routed last */
    for (size_t t = 0; t < tokens; t++) {
        unsigned char *to = row_of(w, JT_TRACE_NORM, t) + (size_t)layer->slot * 2;
        for (size_t j = 0; j < k; j++) {
            int32_t row = plan->row[t * k + j];
            uint16_t half =
                row < 0 ? 0 : half_of(norm_of(outputs + (size_t)row * d, d));
            memcpy(to + j * 2, &half, sizeof half);
        }
    }
    w->rows += tokens;
}

jt_watcher jt_trace_watcher(jt_trace_writer *w)
{
    bool norms = w->head.columns >> JT_TRACE_NORM & 1;
    return (jt_watcher){.name = "trace",
                        .self = w,
                        .on_route = on_route,
                        .on_outputs = norms ? on_outputs : NULL};
}

jt_status jt_trace_label(jt_trace_writer *w, const char *name, jt_err *err)
{
    size_t len = strlen(name);
    if (len < 1 || len > 65535)
        return jt_fail(err, JT_E_ARG, "a label of %zu bytes, expected 1 to 65535", len);
    for (size_t i = 0; i < w->n_labels; i++) {
        if (strcmp(w->labels[i], name) == 0) {
            w->label = (int)i;
            return JT_OK;
        }
    }
    if (w->n_labels == TRACE_MAX_LABELS)
        return jt_fail(err, JT_E_LIMIT, "more than %d labels", TRACE_MAX_LABELS);
    char *copy = jt_strndup(name, len);
    if (!copy || !jt_grow((void **)&w->labels, &w->labels_room, w->n_labels + 1,
                          sizeof *w->labels)) {
        free(copy);
        return jt_fail_memory(err, "labelling a trace");
    }
    w->label = (int)w->n_labels;
    w->labels[w->n_labels++] = copy;
    return JT_OK;
}

void jt_trace_label_tokens(jt_trace_writer *w, const int32_t *label, size_t n)
{
    w->own_labels = label;
    w->n_own_labels = n;
}

/* ---- beginning and end ---- */

/* A typing mistake must not cost a model: only traces and empty files are replaced. */
static jt_status check_target(const char *path, jt_err *err)
{
    char magic[8] = "";
    FILE *old = fopen(path, "rbe");
    if (!old)
        return errno == ENOENT ? JT_OK
                               : jt_fail(err, JT_E_IO, "cannot write '%s': %s", path,
                                         strerror(errno));
    size_t got = fread(magic, 1, sizeof magic, old);
    bool other = ferror(old) || (got && memcmp(magic, TRACE_MAGIC, got) != 0);
    fclose(old);
    if (other)
        return jt_fail(err, JT_E_IO,
                       "cannot write '%s': it is there and is not a trace", path);
    return JT_OK;
}

static jt_status open_writer(jt_trace_writer *w, const char *path, jt_err *err)
{
    w->n_places = w->head.layers[w->head.n_layers - 1].layer + 1;
    w->place = jt_alloc((size_t)w->n_places, sizeof *w->place);
    w->zstd = ZSTD_createCCtx();
    if (!w->place || !w->zstd)
        return jt_fail_memory(err, "beginning a trace");
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
    memset(w->place, -1, (size_t)w->n_places * sizeof *w->place);
    for (int i = 0; i < w->head.n_layers; i++)
        w->place[w->head.layers[i].layer] = i;
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        if (w->head.columns >> c & 1)
            w->row_bytes[c] = jt_trace_item(&w->head, c) * jt_trace_width(&w->head, c);
    }
    if (!reserve(w, (size_t)w->head.block_tokens))
        return jt_fail_memory(err, "beginning a trace");
    JT_TRY(check_target(path, err));
    JT_TRY(jt_append_open(&w->file, path, err));
    unsigned char *head;
    size_t bytes;
    JT_TRY(jt_trace_head_encode(&w->head, &head, &bytes, err));
    jt_status status = jt_append_write(&w->file, head, bytes, err);
    free(head);
    return status;
}

static void free_writer(jt_trace_writer *w)
{
    for (int c = 0; c < JT_TRACE_COLUMNS; c++)
        free(w->column[c]);
    for (size_t i = 0; i < w->n_labels; i++)
        free(w->labels[i]);
    free(w->labels);
    free(w->place);
    free(w->planes);
    free(w->block);
    ZSTD_freeCCtx(w->zstd);
    jt_trace_head_free(&w->head);
    free(w);
}

jt_status jt_trace_writer_new_head(jt_trace_writer **out, const char *path,
                                   jt_trace_head *head, const jt_session *residency_of,
                                   jt_err *err)
{
    jt_status status = jt_trace_head_settle(head, err);
    jt_trace_writer *w = status == JT_OK ? jt_calloc(1, sizeof *w) : NULL;
    if (!w) {
        jt_trace_head_free(head);
        return status == JT_OK ? jt_fail_memory(err, "beginning a trace") : status;
    }
    w->head = *head;
    w->label = NO_LABEL;
    w->residency_of = residency_of;
    w->file.fd = -1;
    status = open_writer(w, path, err);
    if (status != JT_OK) {
        if (w->file.fd >= 0)
            jt_append_close(&w->file, NULL);
        free_writer(w);
        return status;
    }
    *out = w;
    return JT_OK;
}

jt_status jt_trace_finish(jt_trace_writer *w, jt_err *err)
{
    if (!w)
        return JT_OK;
    end_pass(w);
    if (w->err.code == JT_OK && w->used)
        write_block(w, w->used);
    jt_err failed = w->err;
    if (failed.code == JT_OK)
        jt_append_close(&w->file, &failed);
    else
        jt_append_close(&w->file, NULL);
    free_writer(w);
    if (failed.code != JT_OK && err)
        *err = failed;
    return failed.code;
}
