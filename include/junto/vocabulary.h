/* Making a vocabulary: byte-level BPE, learnt from text. */
#ifndef JUNTO_VOCABULARY_H
#define JUNTO_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_vocabulary_options {
    size_t size;     /* tokens, special ones included; 256 bytes are always there */
    const char *pre; /* pre-tokenizer, as tokenizer.ggml.pre names it; NULL: "gpt-2" */
    uint64_t min_count; /* pairs seen less often are not merged; 0: 2 */
    /* Control tokens, the last of the vocabulary; the first one begins and ends
     * documents. In the text they are borders and nothing to learn from. NULL stands
     * for "<|endoftext|>", "<|im_start|>" and "<|im_end|>". */
    const char *const *specials;
    size_t n_specials;
    jt_progress progress; /* bytes of the texts, then tokens */
} jt_vocabulary_options;

typedef struct jt_vocabulary_report {
    size_t tokens; /* less than asked for when there was nothing left to merge */
    size_t merges;
    uint64_t bytes;       /* of text, without special tokens */
    uint64_t pieces;      /* that the pre-tokenizer cut it into */
    uint64_t words;       /* different ones of them */
    uint64_t text_tokens; /* that the text has with this vocabulary */
} jt_vocabulary_report;

/* Learn a vocabulary of the bytes of the files `paths` (of JSON lines, .jsonl, .ndjson
 * or .json: of the texts in their records, as training reads them) and write it to a
 * GGUF file that has the tokenizer.* keys and nothing else; jt_tokenizer_new reads it.
 * The pair seen most often is merged first, of equals the one with the smaller ids: the
 * same texts give the same file. `report` may be NULL. `out_path` is written beside and
 * renamed. Errors: JT_E_FORMAT (JSON lines), JT_E_ARG (sizes, names; a special token
 * that is empty, given twice or named as another token is), JT_E_IO, JT_E_LIMIT (2^32
 * different pieces), JT_E_MEMORY, JT_E_INTERRUPTED. */
JT_API jt_status jt_vocabulary_train(const char *const *paths, size_t n_paths,
                                     const char *out_path,
                                     const jt_vocabulary_options *options,
                                     jt_vocabulary_report *report, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
