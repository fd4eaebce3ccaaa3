/* Training data: several sources with weights, packed into batches, in an order that is
 * a function of the seed alone.
 *
 * A source is a text file (documents end at a separator line or are the whole file), a
 * JSONL file (a document a line: {"text": ...}, {"prompt": ..., "completion": ...} with
 * the loss on the completion, or {"messages": [{"role", "content"}, ...]} with the loss
 * on the assistant's turns), or a token file (int32, .bin / .npy). Documents are
 * tokenised once, at opening. A held-out share of each source's documents is set apart
 * by a hash of their index. */
#ifndef JT_DATA_H
#define JT_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"
#include "junto/tokenizer.h"

typedef struct jt_data_source {
    const char *path;
    const char *domain; /* name in logs; NULL: the file's name */
    double weight; /* share of the training tokens, before normalising; 0: its size */
    const char *separator; /* text files: a line that ends a document; NULL: blank-line
                              free whole file is one document */
} jt_data_source;

typedef struct jt_data_options {
    size_t seq_len;  /* tokens of a packed sequence, >= 2 */
    double held_out; /* share of documents for evaluation, 0 .. 0.5 */
    uint64_t seed;
    jt_progress progress;
} jt_data_options;

typedef struct jt_data jt_data;

/* Open, tokenise and index. Errors name the file and, in JSONL, the line: empty, binary
 * (not UTF-8) or unreadable files, a source without a document of two tokens, bad JSON,
 * unknown fields, tokens outside the vocabulary. `tok` may be NULL when all sources are
 * token files (then n_vocab bounds the ids). */
jt_status jt_data_open(jt_data **out, const jt_data_source *sources, size_t n_sources,
                       const jt_tokenizer *tok, size_t n_vocab,
                       const jt_data_options *options, jt_err *err);
void jt_data_free(jt_data *data);

/* A batch: n_seqs sequences of seq_len tokens side by side. Packing fills each sequence
 * with documents one after the other (each begins with the bos token where the
 * vocabulary has one and ends with eos); attention must not cross a border. */
typedef struct jt_batch {
    size_t n_seqs, seq_len;
    int32_t *tokens;    /* [n_seqs * seq_len] */
    int32_t *targets;   /* next token; -1 where there is no loss (last of a document,
                           prompts) */
    int32_t *positions; /* in the document: rope and masks count from its start */
    int32_t *first;     /* index in the flat batch of the document's first token here */
    int32_t *domains;   /* [n_seqs * seq_len] source of each token */
} jt_batch;
jt_status jt_batch_new(jt_batch *out, size_t n_seqs, size_t seq_len, jt_err *err);
void jt_batch_free(jt_batch *batch);

/* Fill `batch` with the sequences that training step `index` sees: a pure function of
 * (data, seed, index, n_seqs), so a resumed run sees what it would have seen. Sources
 * are mixed by weight (smoothly, not in runs), documents of a source shuffled anew each
 * epoch; a document longer than a sequence goes on in the next sequence of its source.
 */
jt_status jt_data_train_batch(const jt_data *data, uint64_t index, jt_batch *batch,
                              jt_err *err);

/* The held-out sequences of one source, in order; false past the last. */
size_t jt_data_eval_count(const jt_data *data, size_t source);
jt_status jt_data_eval_batch(const jt_data *data, size_t source, size_t first,
                             jt_batch *batch, size_t *filled, jt_err *err);

size_t jt_data_sources(const jt_data *data);
const char *jt_data_domain(const jt_data *data, size_t source);
/* Tokens of a source for training and held out. */
void jt_data_tokens(const jt_data *data, size_t source, uint64_t *train,
                    uint64_t *held_out);
/* Tokens for training, all sources: one epoch. */
uint64_t jt_data_epoch_tokens(const jt_data *data);

#endif
