#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/file.h"
#include "base/half.h"
#include "base/hash.h"
#include "base/memory.h"
#include "watch/trace.h"

/* Where a column of a block lies. */
typedef struct part {
    size_t offset;
    uint32_t bytes, stored; /* before and after compression; 0, 0: not there */
} part;

typedef struct block {
    size_t offset; /* of its prefix */
    uint64_t first;
    int n_tokens;
    part column[JT_TRACE_COLUMNS];
    part names;
} block;

struct jt_trace {
    jt_trace_head head;
    jt_map map; /* when it is ours to close */
    const unsigned char *data;
    size_t bytes, cut;
    char *path;
    block *blocks; /* [n_blocks] */
    size_t n_blocks, blocks_room;
    uint64_t tokens;
    char **labels; /* [n_labels], pointing into `names` */
    size_t n_labels, labels_room;
    char **names; /* [n_names]: what blocks said of labels */
    size_t n_names, names_room;
    ZSTD_DCtx *zstd;
    unsigned char *planes, *items;
    size_t planes_room, items_room;
    void *values[JT_TRACE_COLUMNS]; /* of the block read last */
    size_t values_room[JT_TRACE_COLUMNS];
};

static jt_status damaged(const jt_trace *trace, const block *b, const char *what,
                         jt_err *err)
{
    return jt_fail(err, JT_E_FORMAT, "block %zu, at byte %zu, is damaged (%s)",
                   (size_t)(b - trace->blocks), b->offset, what);
}

/* ---- the list of blocks ---- */

/* Entries of a block whose sum is right. */
static jt_status read_entries(jt_trace *trace, block *b, const unsigned char *p,
                              size_t entries, size_t data_bytes, jt_err *err)
{
    size_t offset = b->offset + TRACE_PREFIX + TRACE_ENTRY * entries;
    size_t end = offset + data_bytes;
    for (size_t i = 0; i < entries; i++) {
        uint64_t id = jt_trace_get(&p, 4), bytes = jt_trace_get(&p, 4);
        uint64_t stored = jt_trace_get(&p, 4);
        if (stored > end - offset || bytes > TRACE_MAX_COLUMN)
            return damaged(trace, b, "sizes", err);
        part found = {offset, (uint32_t)bytes, (uint32_t)stored};
        offset += stored;
        if (id == TRACE_NAMES) {
            b->names = found;
        } else if (id < JT_TRACE_COLUMNS && trace->head.columns >> id & 1) {
            size_t row =
                jt_trace_item(&trace->head, id) * jt_trace_width(&trace->head, id);
            if (bytes != row * (size_t)b->n_tokens)
                return damaged(trace, b, jt_trace_column_name(id), err);
            b->column[id] = found;
        } /* others come from a later Junto */
    }
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        if (trace->head.columns >> c & 1 && !b->column[c].stored)
            return damaged(trace, b, jt_trace_column_name(c), err);
    }
    return JT_OK;
}

/* The block at `offset`; *next is where it ends. A cut one leaves *next as it is. */
static jt_status read_block_head(jt_trace *trace, size_t offset, size_t *next,
                                 jt_err *err)
{
    const unsigned char *start = trace->data + offset, *p = start + 4;
    size_t left = trace->bytes - offset;
    block *b = &trace->blocks[trace->n_blocks];
    *b = (block){.offset = offset, .first = trace->tokens};
    if (memcmp(start, jt_trace_block_magic, left < 4 ? left : 4) != 0)
        return damaged(trace, b, "magic", err);
    if (left < TRACE_PREFIX)
        return JT_OK;
    uint64_t tokens = jt_trace_get(&p, 4), entries = jt_trace_get(&p, 4);
    uint64_t data_bytes = jt_trace_get(&p, 4), sum = jt_trace_get(&p, 8);
    if (entries > TRACE_MAX_ENTRIES)
        return damaged(trace, b, "number of columns", err);
    size_t head = TRACE_PREFIX + TRACE_ENTRY * (size_t)entries;
    if (left < head)
        return JT_OK;
    uint64_t found = jt_hash(JT_HASH_START, start, TRACE_PREFIX - 8);
    if (jt_hash(found, p, head - TRACE_PREFIX) != sum)
        return damaged(trace, b, "sum of its head", err);
    if (tokens < 1 || tokens > (uint64_t)trace->head.block_tokens)
        return damaged(trace, b, "number of tokens", err);
    if (left - head < data_bytes)
        return JT_OK;
    b->n_tokens = (int)tokens;
    JT_TRY(read_entries(trace, b, p, (size_t)entries, (size_t)data_bytes, err));
    *next = offset + head + (size_t)data_bytes;
    return JT_OK;
}

/* Decompress a part into `to`, which has room for it. */
static jt_status unpack(jt_trace *trace, const block *b, const part *from,
                        const char *what, void *to, jt_err *err)
{
    size_t got = ZSTD_decompressDCtx(trace->zstd, to, from->bytes,
                                     trace->data + from->offset, from->stored);
    if (ZSTD_isError(got) || got != from->bytes)
        return damaged(trace, b, what, err);
    return JT_OK;
}

/* Names of labels that begin with this block. */
static jt_status read_names(jt_trace *trace, const block *b, jt_err *err)
{
    size_t bytes = b->names.bytes;
    char *text = jt_alloc(bytes + 1, 1);
    if (!text || !jt_grow((void **)&trace->names, &trace->names_room,
                          trace->n_names + 1, sizeof *trace->names)) {
        free(text);
        return jt_fail_memory(err, "opening a trace");
    }
    trace->names[trace->n_names++] = text;
    JT_TRY(unpack(trace, b, &b->names, "names of labels", text, err));
    if (bytes && text[bytes - 1] != '\0')
        return damaged(trace, b, "names of labels", err);
    for (size_t at = 0; at < bytes; at += strlen(text + at) + 1) {
        if (trace->n_labels == TRACE_MAX_LABELS)
            return damaged(trace, b, "number of labels", err);
        if (!jt_grow((void **)&trace->labels, &trace->labels_room, trace->n_labels + 1,
                     sizeof *trace->labels))
            return jt_fail_memory(err, "opening a trace");
        trace->labels[trace->n_labels++] = text + at;
    }
    return JT_OK;
}

static jt_status list_blocks(jt_trace *trace, size_t offset, jt_err *err)
{
    while (offset < trace->bytes) {
        size_t next = offset;
        if (!jt_grow((void **)&trace->blocks, &trace->blocks_room, trace->n_blocks + 1,
                     sizeof *trace->blocks))
            return jt_fail_memory(err, "opening a trace");
        JT_TRY(read_block_head(trace, offset, &next, err));
        if (next == offset)
            break;
        const block *b = &trace->blocks[trace->n_blocks];
        if (b->names.stored)
            JT_TRY(read_names(trace, b, err));
        trace->tokens += (uint64_t)b->n_tokens;
        trace->n_blocks++;
        offset = next;
    }
    trace->cut = trace->bytes - offset;
    return JT_OK;
}

/* ---- opening ---- */

static jt_status open_trace(jt_trace **out, jt_map *map, const void *data, size_t bytes,
                            const char *path, jt_err *err)
{
    jt_trace *trace = jt_calloc(1, sizeof *trace);
    if (!trace)
        return jt_fail_memory(err, "opening a trace");
    *trace = (jt_trace){.data = data,
                        .bytes = bytes,
                        .path = jt_strndup(path, strlen(path)),
                        .zstd = ZSTD_createDCtx()};
    jt_status status = JT_OK;
    size_t used = 0;
    if (!trace->path || !trace->zstd)
        status = jt_fail_memory(err, "opening a trace");
    if (status == JT_OK)
        status = jt_trace_head_decode(&trace->head, data, bytes, &used, err);
    if (status == JT_OK)
        status = list_blocks(trace, used, err);
    if (status != JT_OK) {
        jt_trace_close(trace);
        return jt_fail_within(err, status, "'%s'", path);
    }
    if (map)
        trace->map = *map;
    *out = trace;
    return JT_OK;
}

jt_status jt_trace_open(jt_trace **out, const char *path, jt_err *err)
{
    jt_map map;
    JT_TRY(jt_map_open(&map, path, err));
    jt_status status = open_trace(out, &map, map.data, map.bytes, path, err);
    if (status != JT_OK)
        jt_map_close(&map);
    return status;
}

jt_status jt_trace_open_memory(jt_trace **out, const void *data, size_t bytes,
                               jt_err *err)
{
    return open_trace(out, NULL, data, bytes, "(memory)", err);
}

void jt_trace_close(jt_trace *trace)
{
    if (!trace)
        return;
    for (size_t i = 0; i < trace->n_names; i++)
        free(trace->names[i]);
    for (int c = 0; c < JT_TRACE_COLUMNS; c++)
        free(trace->values[c]);
    free(trace->names);
    free(trace->labels);
    free(trace->blocks);
    free(trace->planes);
    free(trace->items);
    free(trace->path);
    ZSTD_freeDCtx(trace->zstd);
    jt_trace_head_free(&trace->head);
    jt_map_close(&trace->map);
    free(trace);
}

void jt_trace_describe(const jt_trace *trace, jt_trace_info *info)
{
    const jt_trace_head *head = &trace->head;
    *info = (jt_trace_info){.path = trace->path,
                            .family = head->family,
                            .name = head->name,
                            .fingerprint = head->fingerprint,
                            .n_layers = head->n_layers,
                            .layers = head->layers,
                            .n_slots = head->n_slots,
                            .n_rows = head->n_rows,
                            .columns = head->columns & ((1u << JT_TRACE_COLUMNS) - 1),
                            .tokens = trace->tokens,
                            .n_labels = trace->n_labels,
                            .block_tokens = head->block_tokens,
                            .bytes = trace->bytes,
                            .cut_bytes = trace->cut};
    for (size_t i = 0; i < trace->n_blocks; i++) {
        for (int c = 0; c < JT_TRACE_COLUMNS; c++)
            info->column_bytes[c] += trace->blocks[i].column[c].stored;
    }
}

const char *jt_trace_label_name(const jt_trace *trace, int32_t i)
{
    return i >= 0 && (size_t)i < trace->n_labels ? trace->labels[i] : "";
}

size_t jt_trace_blocks(const jt_trace *trace)
{
    return trace->n_blocks;
}

/* ---- columns ---- */

/* Labels, experts and residency: the greatest number stands for none. */
static void widen(int32_t *to, const unsigned char *items, size_t n, size_t item)
{
    uint32_t none = item == 1 ? 0xff : 0xffff;
    for (size_t i = 0; i < n; i++) {
        uint32_t value = items[i * item];
        if (item == 2)
            value |= (uint32_t)items[i * item + 1] << 8;
        to[i] = value == none ? -1 : (int32_t)value;
    }
}

static void add_steps(int32_t *position, size_t n)
{
    for (size_t i = 1; i < n; i++)
        position[i] = (int32_t)((uint32_t)position[i] + (uint32_t)position[i - 1]);
}

/* No label that was not named, no expert that the layer does not have, no place where
 * no expert can be. */
static bool in_range(const jt_trace *trace, jt_trace_column c, const int32_t *value,
                     size_t tokens)
{
    const jt_trace_head *head = &trace->head;
    for (size_t t = 0; t < tokens; t++) {
        if (c == JT_TRACE_LABEL && value[t] >= (int32_t)trace->n_labels)
            return false;
        for (int i = 0; c == JT_TRACE_RESIDENCY && i < head->n_slots; i++) {
            if (value[t * (size_t)head->n_slots + (size_t)i] > JT_RESIDENCY_HERE)
                return false;
        }
        for (int i = 0; c == JT_TRACE_EXPERT && i < head->n_layers; i++) {
            const jt_trace_layer *layer = &head->layers[i];
            const int32_t *slot = value + t * (size_t)head->n_slots + layer->slot;
            for (int j = 0; j < layer->k; j++) {
                if (slot[j] >= layer->n_experts)
                    return false;
            }
        }
    }
    return true;
}

/* Items of the file as values of the block: 32 bits each. */
static jt_status decode(jt_trace *trace, const block *b, jt_trace_column c,
                        const unsigned char *items, size_t n, jt_err *err)
{
    uint16_t half;
    float *real = trace->values[c];
    int32_t *whole = trace->values[c];
    switch (c) {
    case JT_TRACE_TOKEN:
    case JT_TRACE_POSITION:
        memcpy(whole, items, n * sizeof *whole);
        if (c == JT_TRACE_POSITION)
            add_steps(whole, n);
        return JT_OK;
    case JT_TRACE_LABEL:
    case JT_TRACE_EXPERT:
    case JT_TRACE_RESIDENCY:
        widen(whole, items, n, jt_trace_item(&trace->head, c));
        if (!in_range(trace, c, whole, (size_t)b->n_tokens))
            return damaged(trace, b, jt_trace_column_name(c), err);
        return JT_OK;
    default:
        for (size_t i = 0; i < n; i++) {
            memcpy(&half, items + i * sizeof half, sizeof half);
            real[i] = jt_f16_to_float(half);
        }
        return JT_OK;
    }
}

static jt_status read_column(jt_trace *trace, const block *b, jt_trace_column c,
                             jt_err *err)
{
    size_t width = jt_trace_width(&trace->head, c), tokens = (size_t)b->n_tokens;
    size_t n = tokens * width, bytes = b->column[c].bytes;
    if (!jt_grow((void **)&trace->planes, &trace->planes_room, bytes, 1) ||
        !jt_grow((void **)&trace->items, &trace->items_room, bytes, 1) ||
        !jt_grow(&trace->values[c], &trace->values_room[c], n, sizeof(int32_t)))
        return jt_fail_memory(err, "reading a trace");
    JT_TRY(
        unpack(trace, b, &b->column[c], jt_trace_column_name(c), trace->planes, err));
    jt_trace_join(trace->items, trace->planes, tokens, width,
                  jt_trace_item(&trace->head, c));
    return decode(trace, b, c, trace->items, n, err);
}

jt_status jt_trace_read(jt_trace *trace, size_t i, unsigned columns,
                        jt_trace_block *out, jt_err *err)
{
    if (i >= trace->n_blocks)
        return jt_fail(err, JT_E_ARG, "block %zu of %zu", i, trace->n_blocks);
    const block *b = &trace->blocks[i];
    const void *value[JT_TRACE_COLUMNS] = {NULL};
    for (int c = 0; c < JT_TRACE_COLUMNS; c++) {
        if (!(columns >> c & 1) || !b->column[c].stored)
            continue;
        jt_status status = read_column(trace, b, c, err);
        if (status != JT_OK)
            return jt_fail_within(err, status, "'%s'", trace->path);
        value[c] = trace->values[c];
    }
    *out = (jt_trace_block){.first = b->first,
                            .n_tokens = b->n_tokens,
                            .token = value[JT_TRACE_TOKEN],
                            .position = value[JT_TRACE_POSITION],
                            .label = value[JT_TRACE_LABEL],
                            .expert = value[JT_TRACE_EXPERT],
                            .weight = value[JT_TRACE_WEIGHT],
                            .entropy = value[JT_TRACE_ENTROPY],
                            .norm = value[JT_TRACE_NORM],
                            .score = value[JT_TRACE_SCORE],
                            .residency = value[JT_TRACE_RESIDENCY]};
    return JT_OK;
}
