/* The inside of the training data, shared by the files data*.c: the documents of a
 * file, the order in which they are trained on, and how they get into a batch. */
#ifndef JT_DATA_IMPL_H
#define JT_DATA_IMPL_H

#include "base/file.h"
#include "learn/data.h"

/* ---- documents ----- */

typedef struct jt_doc {
    size_t start, count; /* in the tokens */
    size_t record;       /* of the source, from 0: also of those that are skipped */
} jt_doc;

/* The documents of one source. A token that is not to be learnt (of a prompt) is kept
 * as its complement, ~id, which is negative. */
typedef struct jt_docs {
    const int32_t *tokens; /* of `own` or of `map` */
    jt_tokens own;
    jt_map map;
    size_t front;  /* virtual tokens before each fragment */
    jt_doc *items; /* the first n_train are trained on, the others held out */
    size_t count, capacity, n_train;
    size_t skipped;
    uint64_t train_tokens, held_tokens;
} jt_docs;

/* Append the document tokens[start .. start + count); it is skipped when there is
 * nothing to learn in it. */
jt_status jt_docs_add(jt_docs *docs, size_t start, size_t count, jt_err *err);
/* Read the documents of a source, whatever the end of its name says that it is; *out
 * begins as {0} and is freed in every case. Errors name the file. */
jt_status jt_docs_open(jt_docs *out, const jt_data_source *from,
                       const jt_tokenizer *tok, size_t n_vocab,
                       const jt_data_options *options, jt_err *err);
/* Set documents apart, `share` of them; of the others the first `most` are kept (0:
 * all). */
jt_status jt_docs_hold_out(jt_docs *docs, double share, size_t most, jt_err *err);
void jt_docs_free(jt_docs *docs);

/* One source being read, and its document in progress. */
typedef struct jt_reader {
    const jt_data_source *source;
    const jt_tokenizer *tok; /* NULL for token files, if there is none */
    size_t n_vocab;
    const jt_chat_format *chat;
    const jt_progress *progress;
    const char *domain;
    jt_docs *docs;
    size_t reported;  /* bytes at the last report */
    int32_t bos, eos; /* of documents; -1: none */
    size_t start;     /* of the document, in docs->own */
    jt_tokens scratch;
} jt_reader;

/* Read docs->map, which is not empty. Messages of errors do not name the file. */
jt_status jt_data_read_text(jt_reader *r, jt_err *err);
jt_status jt_data_read_jsonl(jt_reader *r, jt_err *err);
jt_status jt_data_read_tokens(jt_reader *r, jt_err *err);

/* Report `done` bytes of the map, if that is some way from the last report. */
jt_status jt_reader_report(jt_reader *r, size_t done, jt_err *err);

/* A document: begin, any of the others, end. `flags` as for jt_encode. In a reply the
 * first `prompt` bytes are not to be learnt; it is encoded in one piece, as the words
 * at the border may need it. */
jt_status jt_reader_begin(jt_reader *r, jt_err *err);
jt_status jt_reader_text(jt_reader *r, jt_str text, unsigned flags, jt_err *err);
jt_status jt_reader_reply(jt_reader *r, jt_str text, size_t prompt, unsigned flags,
                          jt_err *err);
/* Close a reply of a chat. */
jt_status jt_reader_close_reply(jt_reader *r, jt_err *err);
/* `eos`: end it with that token. */
jt_status jt_reader_end(jt_reader *r, bool eos, jt_err *err);

/* ---- order ----- */

/* 0 .. n - 1 in an order that (seed, stream) gives. */
void jt_shuffle(uint32_t *items, size_t n, uint64_t seed, uint64_t stream);

/* Documents joined to one stream: of each `front` virtual tokens and then its own. */
typedef struct jt_stream {
    const int32_t *tokens;
    size_t front;
    const jt_doc *docs;
    const uint32_t *order;  /* of the documents; NULL: as they lie */
    const uint64_t *starts; /* [count + 1] of each document in the stream, in order */
    size_t count;
} jt_stream;

/* The training sequences of a source, epoch after epoch; thread-safe. */
typedef struct jt_order jt_order;
jt_status jt_order_new(jt_order **out, const jt_docs *docs, size_t seq_len,
                       uint64_t seed, size_t source, jt_err *err);
void jt_order_free(jt_order *order);
/* Write sequence `index` of the source to row `row` of the batch. */
void jt_order_fill(jt_order *order, uint64_t index, jt_batch *batch, size_t row);

/* Which source the sequence `*index` of all is from, by shares of sources; *index
 * becomes its number within that source. Closed form: no earlier choice is looked at.
 * `splits` [n] is made from positive weights by jt_mix_new. */
void jt_mix_new(uint64_t *splits, const double *weights, size_t n);
size_t jt_mix_pick(const uint64_t *splits, size_t n, uint64_t *index);

/* ---- batches ----- */

/* Copy tokens of the stream, from place `from` on, to the flat batch at `at`, up to
 * `end` or the end of the stream. Returns the place in the batch that comes next. A
 * sequence that begins in the middle of a document has virtual tokens before it as
 * well: at the beginning of one, `front` places are taken more than the stream gives.
 */
size_t jt_batch_copy(jt_batch *batch, size_t at, size_t end, const jt_stream *stream,
                     uint64_t from);
/* Padding from `at` to `end`. */
void jt_batch_pad(jt_batch *batch, size_t at, size_t end);
/* Row `row` is of source `source`. */
void jt_batch_set_domain(jt_batch *batch, size_t row, size_t source);

#endif
