#include "watch/trace.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

const char jt_trace_block_magic[4] = {'J', 'T', 'B', 'K'};

const char *jt_trace_column_name(jt_trace_column column)
{
    static const char *const names[JT_TRACE_COLUMNS] = {
#define X(name, text, id, item, per) [id] = text,
        JT_TRACE_COLUMN_LIST(X)
#undef X
    };
    return (unsigned)column < JT_TRACE_COLUMNS ? names[column] : "";
}

void jt_trace_put(unsigned char **p, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        *(*p)++ = (unsigned char)(value >> 8 * i);
}

uint64_t jt_trace_get(const unsigned char **p, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t) * (*p)++ << 8 * i;
    return value;
}

/* ---- columns ---- */

size_t jt_trace_item(const jt_trace_head *head, jt_trace_column column)
{
    static const unsigned char bytes[JT_TRACE_COLUMNS] = {
#define X(name, text, id, item, per) [id] = item,
        JT_TRACE_COLUMN_LIST(X)
#undef X
    };
    if (column != JT_TRACE_EXPERT)
        return bytes[column];
    for (int i = 0; i < head->n_layers; i++) {
        if (head->layers[i].n_experts > 255)
            return 2;
    }
    return 1;
}

trace_per jt_trace_per(jt_trace_column column)
{
    static const unsigned char pers[JT_TRACE_COLUMNS] = {
#define X(name, text, id, item, per) [id] = TRACE_PER_##per,
        JT_TRACE_COLUMN_LIST(X)
#undef X
    };
    return pers[column];
}

size_t jt_trace_width(const jt_trace_head *head, jt_trace_column column)
{
    switch (jt_trace_per(column)) {
    case TRACE_PER_SLOT:
        return (size_t)head->n_slots;
    case TRACE_PER_LAYER:
        return (size_t)head->n_layers;
    case TRACE_PER_ROW:
        return (size_t)head->n_rows;
    case TRACE_PER_TOKEN:
        break;
    }
    return 1;
}

void jt_trace_split(unsigned char *planes, const unsigned char *items, size_t tokens,
                    size_t width, size_t item)
{
    for (size_t b = 0; b < item; b++) {
        for (size_t v = 0; v < width; v++) {
            const unsigned char *from = items + v * item + b;
            for (size_t t = 0; t < tokens; t++)
                *planes++ = from[t * width * item];
        }
    }
}

void jt_trace_join(unsigned char *items, const unsigned char *planes, size_t tokens,
                   size_t width, size_t item)
{
    for (size_t b = 0; b < item; b++) {
        for (size_t v = 0; v < width; v++) {
            unsigned char *to = items + v * item + b;
            for (size_t t = 0; t < tokens; t++)
                to[t * width * item] = *planes++;
        }
    }
}

/* ---- heads ---- */

void jt_trace_head_free(jt_trace_head *head)
{
    free(head->layers);
    *head = (jt_trace_head){0};
}

static bool good_layer(const jt_trace_layer *layer, int before)
{
    return layer->layer > before && layer->n_experts >= 1 &&
           layer->n_rows >= layer->n_experts && layer->n_rows <= TRACE_MAX_ROWS &&
           layer->k >= 1 && layer->k <= layer->n_rows;
}

jt_status jt_trace_head_settle(jt_trace_head *head, jt_err *err)
{
    if (head->n_layers < 1 || head->n_layers > TRACE_MAX_LAYERS)
        return jt_fail(err, JT_E_ARG, "%d layers with experts, expected 1 to %d",
                       head->n_layers, TRACE_MAX_LAYERS);
    if (head->block_tokens < 1 || head->block_tokens > TRACE_MAX_BLOCK)
        return jt_fail(err, JT_E_ARG, "%d tokens per block, expected 1 to %d",
                       head->block_tokens, TRACE_MAX_BLOCK);
    if (~head->columns & TRACE_BASE)
        return jt_fail(err, JT_E_ARG, "columns that every trace has are missing");
    head->n_slots = head->n_rows = 0;
    for (int i = 0; i < head->n_layers; i++) {
        jt_trace_layer *layer = &head->layers[i];
        if (!good_layer(layer, i ? layer[-1].layer : -1))
            return jt_fail(err, JT_E_ARG,
                           "layer %d with %d experts, %d rows and %d slots",
                           layer->layer, layer->n_experts, layer->n_rows, layer->k);
        layer->slot = head->n_slots;
        layer->row = head->n_rows;
        head->n_slots += layer->k;
        head->n_rows += layer->n_rows;
    }
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        size_t row = jt_trace_item(head, c) * jt_trace_width(head, c);
        if (head->columns >> c & 1 &&
            row > TRACE_MAX_COLUMN / (size_t)head->block_tokens)
            return jt_fail(
                err, JT_E_LIMIT, "column '%s' of %d tokens takes more than %zu bytes",
                jt_trace_column_name(c), head->block_tokens, TRACE_MAX_COLUMN);
    }
    return JT_OK;
}

static void put_text(unsigned char **p, const char *text)
{
    size_t len = strlen(text);
    jt_trace_put(p, len, 1);
    memcpy(*p, text, len);
    *p += len;
}

static bool get_text(char *text, const unsigned char **p, const unsigned char *end)
{
    if (*p == end || **p > end - *p - 1)
        return false;
    size_t len = *(*p)++;
    memcpy(text, *p, len);
    text[len] = '\0';
    *p += len;
    return !memchr(text, '\0', len);
}

enum { FIXED = 20, LAYER = 16 }; /* bytes of a head before its texts; of a layer */

jt_status jt_trace_head_encode(const jt_trace_head *head, unsigned char **data,
                               size_t *bytes, jt_err *err)
{
    size_t len = FIXED + LAYER * (size_t)head->n_layers + 2 + strlen(head->family) +
                 strlen(head->name);
    unsigned char *p = jt_alloc(TRACE_PREFIX + len, 1);
    if (!p)
        return jt_fail_memory(err, "beginning a trace");
    *data = p;
    *bytes = TRACE_PREFIX + len;
    p += TRACE_PREFIX;
    jt_trace_put(&p, head->fingerprint, 8);
    jt_trace_put(&p, head->columns, 4);
    jt_trace_put(&p, (uint64_t)head->block_tokens, 4);
    jt_trace_put(&p, (uint64_t)head->n_layers, 4);
    for (int i = 0; i < head->n_layers; i++) {
        const jt_trace_layer *layer = &head->layers[i];
        jt_trace_put(&p, (uint64_t)layer->layer, 4);
        jt_trace_put(&p, (uint64_t)layer->n_experts, 4);
        jt_trace_put(&p, (uint64_t)layer->n_rows, 4);
        jt_trace_put(&p, (uint64_t)layer->k, 4);
    }
    put_text(&p, head->family);
    put_text(&p, head->name);
    p = *data;
    memcpy(p, TRACE_MAGIC, 8);
    p += 8;
    jt_trace_put(&p, TRACE_VERSION, 4);
    jt_trace_put(&p, len, 4);
    jt_trace_put(&p, jt_hash(JT_HASH_START, *data + TRACE_PREFIX, len), 8);
    return JT_OK;
}

/* A number that must fit an int. */
static int get_int(const unsigned char **p)
{
    uint64_t value = jt_trace_get(p, 4);
    return value > INT32_MAX ? -1 : (int)value;
}

/* The head proper, whose sum is right. */
static jt_status decode(jt_trace_head *head, const unsigned char *p,
                        const unsigned char *end, jt_err *err)
{
    head->fingerprint = jt_trace_get(&p, 8);
    head->columns = (unsigned)jt_trace_get(&p, 4);
    head->block_tokens = get_int(&p);
    head->n_layers = get_int(&p);
    if (head->n_layers < 0 || head->n_layers > (end - p) / LAYER)
        return jt_fail(err, JT_E_FORMAT, "the head is too short for its layers");
    head->layers = jt_calloc((size_t)head->n_layers, sizeof *head->layers);
    if (!head->layers)
        return jt_fail_memory(err, "opening a trace");
    for (int i = 0; i < head->n_layers; i++) {
        jt_trace_layer *layer = &head->layers[i];
        layer->layer = get_int(&p);
        layer->n_experts = get_int(&p);
        layer->n_rows = get_int(&p);
        layer->k = get_int(&p);
    }
    if (!get_text(head->family, &p, end) || !get_text(head->name, &p, end))
        return jt_fail(err, JT_E_FORMAT, "the head is too short for its names");
    jt_status status = jt_trace_head_settle(head, err);
    return status == JT_OK ? JT_OK : jt_fail_within(err, JT_E_FORMAT, "the head");
}

jt_status jt_trace_head_decode(jt_trace_head *head, const unsigned char *data,
                               size_t bytes, size_t *used, jt_err *err)
{
    const unsigned char *p = data + 8;
    *head = (jt_trace_head){0};
    if (bytes < TRACE_PREFIX || memcmp(data, TRACE_MAGIC, 8) != 0)
        return jt_fail(err, JT_E_FORMAT, "not a trace");
    uint64_t version = jt_trace_get(&p, 4), len = jt_trace_get(&p, 4);
    uint64_t sum = jt_trace_get(&p, 8);
    if (version != TRACE_VERSION)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "version %llu of the trace format, this is version %d",
                       (unsigned long long)version, TRACE_VERSION);
    if (len < FIXED || len > TRACE_MAX_HEAD || len > bytes - TRACE_PREFIX)
        return jt_fail(err, JT_E_FORMAT, "the head of the trace is cut");
    if (jt_hash(JT_HASH_START, p, (size_t)len) != sum)
        return jt_fail(err, JT_E_FORMAT, "the head of the trace is damaged");
    *used = TRACE_PREFIX + (size_t)len;
    jt_status status = decode(head, p, p + len, err);
    if (status != JT_OK)
        jt_trace_head_free(head);
    return status;
}
