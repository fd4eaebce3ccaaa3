/* The bytes of a trace (docs/formats.md), as its writer and its reader share them. */
#ifndef JT_WATCH_TRACE_H
#define JT_WATCH_TRACE_H

#include "junto/trace.h"

enum {
    TRACE_VERSION = 1,
    TRACE_PREFIX = 24, /* bytes before a head, and before the entries of a block */
    TRACE_ENTRY = 12,  /* bytes of a block's entry for a column */
    TRACE_MAX_HEAD = 1 << 20,
    TRACE_MAX_ENTRIES = 32,
    TRACE_MAX_LAYERS = 4096,
    TRACE_MAX_ROWS = 65535, /* of a router, and slots of a token */
    TRACE_MAX_BLOCK = 65536,
    TRACE_MAX_LABELS = 65535,
    TRACE_NAMES = 31, /* id of the column with the names of new labels */
    TRACE_MAX_TEXT = 255,
    TRACE_BASE = 0x3f /* columns that every trace has: token to entropy */
};
#define TRACE_MAGIC "JTTRACE" /* and the NUL at its end */
extern const char jt_trace_block_magic[4];
/* Bytes of a column of a block, before compression. */
#define TRACE_MAX_COLUMN ((size_t)1 << 28)

/* What a head says. */
typedef struct jt_trace_head {
    uint64_t fingerprint;
    char family[TRACE_MAX_TEXT + 1], name[TRACE_MAX_TEXT + 1];
    unsigned columns;
    int block_tokens;
    int n_layers, n_slots, n_rows;
    jt_trace_layer *layers; /* [n_layers], owned */
} jt_trace_head;

void jt_trace_head_free(jt_trace_head *head);

/* Fill in `slot`, `row` and the sums from the other fields of the layers, and check
 * all. JT_E_ARG, JT_E_LIMIT: the trace of such a model cannot be written. */
jt_status jt_trace_head_settle(jt_trace_head *head, jt_err *err);

/* A head with its prefix in a fresh buffer. JT_E_MEMORY. */
jt_status jt_trace_head_encode(const jt_trace_head *head, unsigned char **data,
                               size_t *bytes, jt_err *err);
/* The head at the start of a file, and how long it is with its prefix. JT_E_FORMAT,
 * JT_E_UNSUPPORTED, JT_E_MEMORY. */
jt_status jt_trace_head_decode(jt_trace_head *head, const unsigned char *data,
                               size_t bytes, size_t *used, jt_err *err);

typedef enum trace_per {
    TRACE_PER_TOKEN,
    TRACE_PER_SLOT,
    TRACE_PER_LAYER,
    TRACE_PER_ROW
} trace_per;
trace_per jt_trace_per(jt_trace_column column);

/* Bytes of an item of a column, and items of one token. */
size_t jt_trace_item(const jt_trace_head *head, jt_trace_column column);
size_t jt_trace_width(const jt_trace_head *head, jt_trace_column column);

/* Items [tokens, width] of `item` bytes into planes [item, width, tokens] of bytes, and
 * back. What compresses: the items of neighbouring tokens are near each other, and high
 * bytes are apart from low ones. */
void jt_trace_split(unsigned char *planes, const unsigned char *items, size_t tokens,
                    size_t width, size_t item);
void jt_trace_join(unsigned char *items, const unsigned char *planes, size_t tokens,
                   size_t width, size_t item);

/* Little-endian numbers at *p, which moves on. */
void jt_trace_put(unsigned char **p, uint64_t value, size_t bytes);
uint64_t jt_trace_get(const unsigned char **p, size_t bytes);

/* A writer for a head that no model stands behind; takes what `head` owns over in every
 * case. `residency_of`: as in jt_trace_options, for a head with that column. */
jt_status jt_trace_writer_new_head(jt_trace_writer **out, const char *path,
                                   jt_trace_head *head, const jt_session *residency_of,
                                   jt_err *err);

#endif
