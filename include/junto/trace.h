/* Traces: what the routers did, token by token, in a compact file.
 *
 *     jt_trace_writer *w;
 *     JT_TRY(jt_trace_writer_new(&w, "run.trace", model, NULL, err));
 *     jt_watcher watcher = jt_trace_watcher(w);
 *     jt_session_add_watcher(session, &watcher, err);
 *     ...                                      // evaluate, generate
 *     return jt_trace_finish(w, err);          // after the session is done
 *
 *     jt_trace *t;
 *     jt_trace_block b;
 *     JT_TRY(jt_trace_open(&t, "run.trace", err));
 *     for (size_t i = 0; jt_trace_blocks(t) > i; i++) {
 *         JT_TRY(jt_trace_read(t, i, 1u << JT_TRACE_EXPERT, &b, err));
 *         ... b.expert[row * info.n_slots + layer->slot + j] ...
 *     }
 *
 * A trace is a head and blocks of a few hundred tokens, each written at once: a process
 * that was killed leaves all whole blocks readable. docs/formats.md has the bytes,
 * docs/trace.md the tasks. */
#ifndef JUNTO_TRACE_H
#define JUNTO_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/model.h"
#include "junto/moe.h"
#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, text, id, bytes of an item, one for each ..). Ids are those of the file; an
 * expert takes one byte where no layer has more than 255. */
#define JT_TRACE_COLUMN_LIST(X)          \
    X(TOKEN, "token", 0, 4, TOKEN)       \
    X(POSITION, "position", 1, 4, TOKEN) \
    X(LABEL, "label", 2, 2, TOKEN)       \
    X(EXPERT, "expert", 3, 2, SLOT)      \
    X(WEIGHT, "weight", 4, 2, SLOT)      \
    X(ENTROPY, "entropy", 5, 2, LAYER)   \
    X(NORM, "norm", 6, 2, SLOT)          \
    X(SCORE, "score", 7, 2, ROW)         \
    X(RESIDENCY, "residency", 8, 1, SLOT)

typedef enum jt_trace_column {
#define X(name, text, id, item, per) JT_TRACE_##name = id,
    JT_TRACE_COLUMN_LIST(X)
#undef X
        JT_TRACE_COLUMNS
} jt_trace_column;
JT_API const char *jt_trace_column_name(jt_trace_column column); /* "weight" */

/* A layer with experts. A row of a trace (a token) has n_slots slots and n_rows scores:
 * those of this layer begin at `slot` and `row`. */
typedef struct jt_trace_layer {
    int layer;     /* index among all layers of the model */
    int n_experts; /* without null experts */
    int n_rows;    /* of the router: experts and null experts */
    int k;         /* slots per token */
    int slot, row;
} jt_trace_layer;

/* ---- writing ---- */

typedef struct jt_trace_writer jt_trace_writer;

/* Zero means the default of each field. */
typedef struct jt_trace_options {
    bool scores; /* keep all scores, too: two bytes per layer and expert */
    bool norms;  /* and the L2 norm of what each chosen expert gave */
    const jt_session *residency_of; /* and where each chosen expert was when it was
                                       chosen: in the store of this session */
    const jt_session *steered;      /* room for the experts that the policies of this
                                       session use, where these are more than k */
    int block_tokens;               /* tokens per block, 1 .. 65536; default 256 */
} jt_trace_options;

/* Begin a trace of `model` at `path`. A trace that is there is replaced; another file
 * is not: JT_E_IO. `options` may be NULL. JT_E_UNSUPPORTED (no experts), JT_E_ARG,
 * JT_E_LIMIT (a block would be too large), JT_E_MEMORY. */
JT_API jt_status jt_trace_writer_new(jt_trace_writer **out, const char *path,
                                     const jt_model *model,
                                     const jt_trace_options *options, jt_err *err);

/* A watcher to add to sessions, one at a time; valid as long as the writer. A pass that
 * fails before its last layer leaves nothing. It cannot fail itself: what went wrong
 * (a full disk) ends the trace, and jt_trace_finish tells. */
JT_API jt_watcher jt_trace_watcher(jt_trace_writer *writer);

/* The passes from now on belong to `name` (a document, a domain). At most 65535
 * different ones of 1 to 65535 bytes. JT_E_ARG, JT_E_LIMIT, JT_E_MEMORY. */
JT_API jt_status jt_trace_label(jt_trace_writer *writer, const char *name, jt_err *err);

/* The tokens of the next pass, `n` of them, have labels of their own: label [n] is
 * looked at when that pass begins, and holds numbers of names in the order in which
 * jt_trace_label first heard of them. A pass of another size ends the trace. */
JT_API void jt_trace_label_tokens(jt_trace_writer *writer, const int32_t *label,
                                  size_t n);

/* Write what is left, flush to disk, close; frees `writer` in every case. NULL is fine.
 * Gives the first failure since the beginning. */
JT_API jt_status jt_trace_finish(jt_trace_writer *writer, jt_err *err);

/* ---- reading ---- */

typedef struct jt_trace jt_trace;

/* Open a trace: reads the heads of all blocks and checks their sums, the columns are
 * checked when they are read. A last block that is cut is left out (cut_bytes below).
 * JT_E_IO, JT_E_FORMAT (no trace, or damaged: names the block), JT_E_UNSUPPORTED (a
 * later version), JT_E_MEMORY. */
JT_API jt_status jt_trace_open(jt_trace **out, const char *path, jt_err *err);
/* The same from memory, which must stay until jt_trace_close. */
JT_API jt_status jt_trace_open_memory(jt_trace **out, const void *data, size_t bytes,
                                      jt_err *err);
JT_API void jt_trace_close(jt_trace *trace); /* NULL is fine */

typedef struct jt_trace_info {
    const char *path, *family, *name; /* of the file; of the model */
    uint64_t fingerprint;             /* of the model: jt_model_fingerprint */
    int n_layers;                     /* with experts */
    const jt_trace_layer *layers;     /* [n_layers] */
    int n_slots, n_rows;              /* of all layers together */
    unsigned columns;                 /* bit 1 << column: it is in this trace */
    uint64_t tokens;
    size_t n_labels;
    int block_tokens;
    uint64_t bytes, cut_bytes; /* of the file; of a last block that is cut */
    uint64_t column_bytes[JT_TRACE_COLUMNS]; /* in the file */
} jt_trace_info;

/* Pointers are borrowed and live as long as the trace. */
JT_API void jt_trace_describe(const jt_trace *trace, jt_trace_info *info);
/* Name of label `i`; "" for tokens without one, which have the label -1. */
JT_API const char *jt_trace_label_name(const jt_trace *trace, int32_t i);
JT_API size_t jt_trace_blocks(const jt_trace *trace);

/* Rows of one block. Arrays that were not asked for, or are not in the trace, are NULL.
 */
typedef struct jt_trace_block {
    uint64_t first; /* row of the trace that is the block's first */
    int n_tokens;
    const int32_t *token, *position;
    const int32_t *label;     /* -1: none */
    const int32_t *expert;    /* [tokens, n_slots], -1 for an unused slot */
    const float *weight;      /* [tokens, n_slots] */
    const float *entropy;     /* [tokens, n_layers] of the scores, divided by their sum,
                                 over that of an even router: 0 .. 1 */
    const float *norm;        /* [tokens, n_slots]; 0 for an unused slot */
    const float *score;       /* [tokens, n_rows] */
    const int32_t *residency; /* [tokens, n_slots] jt_residency; -1 for an unused slot
                               */
} jt_trace_block;

/* Read the columns with a bit in `columns` of block `i`; they live until the next call.
 * JT_E_ARG (no such block), JT_E_FORMAT (damaged: names block and column), JT_E_MEMORY.
 */
JT_API jt_status jt_trace_read(jt_trace *trace, size_t i, unsigned columns,
                               jt_trace_block *block, jt_err *err);

/* ---- models ---- */

/* A number that tells models apart: a hash of the names, types and shapes of all
 * tensors and of the first bytes of each. Reads a page per tensor. */
JT_API uint64_t jt_model_fingerprint(const jt_model *model);
/* JT_E_UNSUPPORTED unless the trace was made with this model. */
JT_API jt_status jt_trace_check_model(const jt_trace *trace, const jt_model *model,
                                      jt_err *err);

/* ---- export (docs/trace.md has the files) ---- */

/* One NumPy file per column, layers.npy and labels.txt in the folder `dir`, which is
 * made if it is not there. */
JT_API jt_status jt_trace_export_npy(jt_trace *trace, const char *dir,
                                     jt_progress progress, jt_err *err);
/* One table, trace.csv, with a line per token and layer. */
JT_API jt_status jt_trace_export_csv(jt_trace *trace, const char *dir,
                                     jt_progress progress, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
