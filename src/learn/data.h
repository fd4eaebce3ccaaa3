/* Training data: several sources with weights, packed into sequences, in an order that
 * is a function of the seed alone.
 *
 * The end of its name says what a source is:
 *
 * - .jsonl, .ndjson, .json: a document a line, in one of three forms. {"text": ...};
 *   {"prompt": ..., "completion": ...} with the loss on the completion; {"messages":
 *   [{"role", "content"}, ...]}, an optional system message and then user and assistant
 *   in turn, with the loss on what the assistant says and on its end token. Other
 *   fields beside these are ignored.
 * - .npy, .bin: int32 tokens, read where they lie. A .npy matrix has a document a row;
 *   otherwise a document ends with its end token.
 * - anything else: UTF-8 text, documents divided by separator lines.
 *
 * Documents are tokenised once, at opening. A document begins with the bos token where
 * the vocabulary asks for it (as a prompt does when the model runs) and ends with eos
 * where there is one; a chat is what a session would hold after it, each reply closed
 * by an end token, and has no eos of its own. Names of special tokens in a chat stand
 * for these tokens; elsewhere they are plain text. Token files are taken as they are.
 * Documents in which there is nothing to learn (fewer than two tokens, a chat without a
 * reply) are skipped and counted.
 *
 * Held out for evaluation is a share of each source's documents, whatever the seed. A
 * source with too few documents for the share gives the end of its longest one. */
#ifndef JT_DATA_H
#define JT_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"
#include "junto/tokenizer.h"
#include "learn/chat_format.h"

typedef struct jt_data_source {
    const char *path;
    const char *domain; /* name in logs; NULL: the file's name */
    double weight; /* share of the training tokens, before normalising. Give all sources
                      one or none (0): then shares go by size */
    const char *separator; /* text: the line that divides documents ("" is an empty
                              line), NULL: the file is one document. Token files: the
                              number of the end token, NULL: the vocabulary's eos.
                              JSONL: no meaning */
} jt_data_source;

typedef struct jt_data_options {
    size_t seq_len;  /* tokens of a packed sequence, >= 2 */
    double held_out; /* share of documents for evaluation, 0 .. 0.5 */
    size_t most;     /* training documents of each source, the first ones; 0: all */
    size_t front; /* virtual tokens before each fragment; seq_len is at least twice as
                     many and two more */
    uint64_t seed;
    bool alone;                 /* all sequences of a batch have one source */
    const jt_chat_format *chat; /* of "messages"; NULL: "chatml" */
    jt_progress progress;       /* bytes of each source */
} jt_data_options;

typedef struct jt_data jt_data;

/* Open, tokenise and index. `tok` may be NULL when all sources are token files;
 * `n_vocab` bounds the ids (0: the size of `tok`'s vocabulary). Nothing is borrowed. A
 * token file must not change while the data is open.
 * Errors name the file and, in JSONL, the line: JT_E_ARG (options, weights, no
 * tokenizer for text, one with more than n_vocab tokens), JT_E_IO (not readable, no
 * regular file), JT_E_FORMAT (empty; a NUL or more than one byte in a hundred that is
 * not UTF-8; bad JSON; a record of unknown form; ids outside the vocabulary; no
 * document with something to learn), JT_E_LIMIT (2^32 documents or sequences in a
 * source), JT_E_MEMORY, JT_E_INTERRUPTED. */
jt_status jt_data_open(jt_data **out, const jt_data_source *sources, size_t n_sources,
                       const jt_tokenizer *tok, size_t n_vocab,
                       const jt_data_options *options, jt_err *err);
void jt_data_free(jt_data *data); /* NULL is fine */

/* A batch: n_seqs sequences of seq_len tokens side by side. A sequence is filled with
 * documents of one source, one after the other; attention must not cross their borders.
 * What a sequence has of a document is a fragment, with positions of its own. */
typedef struct jt_batch {
    size_t n_seqs, seq_len;
    int32_t *tokens;    /* [n_seqs * seq_len] */
    int32_t *targets;   /* next token of the document, also where that begins the next
                           fragment; -1 where there is no loss (end of a document,
                           prompts) */
    int32_t *positions; /* in the fragment, from 0: for rope and masks */
    int32_t *first;     /* index in the flat batch of the fragment's first token */
    int32_t *domains;   /* source of each token */
    int32_t *front;     /* the number of the virtual token that stands there, from 0, as
                           token 0 without a target; -1: none does */
} jt_batch;

/* JT_E_ARG (a zero, 2^31 tokens and more), JT_E_MEMORY. */
jt_status jt_batch_new(jt_batch *out, size_t n_seqs, size_t seq_len, jt_err *err);
void jt_batch_free(jt_batch *batch); /* {0} is fine */

/* Fill `batch` with the sequences that training step `index` sees: a pure function of
 * (files, options, index, n_seqs), so a resumed run sees what it would have seen.
 * Sources are mixed by weight, smoothly and not in runs. In each epoch of a source its
 * documents are shuffled anew, joined to one stream, the stream is cut into sequences
 * and these are shuffled too. The stream goes on from epoch to epoch: every document
 * comes exactly once in each, and nothing is padded.
 * Thread-safe: tables of the epoch at hand are kept inside `data` under a lock; they
 * change the time of a call, not its result. Errors: JT_E_ARG (seq_len is not that of
 * the data), JT_E_LIMIT (step out of range). */
jt_status jt_data_train_batch(const jt_data *data, uint64_t index, jt_batch *batch,
                              jt_err *err);

/* The held-out sequences of one source: how many, and those from `first` on, in order.
 * *filled of the batch's sequences are real; what is left of the last one and the
 * sequences after it are padding: token 0, target -1. Thread-safe. JT_E_ARG. */
size_t jt_data_eval_count(const jt_data *data, size_t source);
jt_status jt_data_eval_batch(const jt_data *data, size_t source, size_t first,
                             jt_batch *batch, size_t *filled, jt_err *err);

size_t jt_data_sources(const jt_data *data);
const char *jt_data_domain(const jt_data *data, size_t source);
/* Share of the training tokens that a source has; all together are 1. */
double jt_data_share(const jt_data *data, size_t source);
/* Tokens of a source for training and held out. */
void jt_data_tokens(const jt_data *data, size_t source, uint64_t *train,
                    uint64_t *held_out);
/* Documents of a source for training, held out, and skipped. */
void jt_data_documents(const jt_data *data, size_t source, size_t *train,
                       size_t *held_out, size_t *skipped);
/* Memory that the tokens take; token files are mapped and take none. */
uint64_t jt_data_bytes(const jt_data *data);
/* Tokens for training, all sources: one epoch. */
uint64_t jt_data_epoch_tokens(const jt_data *data);

#endif
