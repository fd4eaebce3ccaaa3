/* Pre-tokenizers: how a family of models cuts text into pieces before merging. */
#ifndef JT_TEXT_PRETOKEN_H
#define JT_TEXT_PRETOKEN_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>

#include "junto/gguf.h"
#include "junto/status.h"

enum { JT_SPLIT_STAGES = 6 };

/* Regular expressions that are applied one after the other: matches of the first, and
 * what lies between them, are pieces that the next one cuts further. */
typedef struct jt_pretokenizer {
    const char *name;               /* as in tokenizer.ggml.pre */
    const char *const *expressions; /* at most JT_SPLIT_STAGES, NULL-terminated */
    bool nfc;                       /* text is normalized first */
    bool whole_words;               /* a piece that is a token needs no merges */
    bool add_bos;                   /* when tokenizer.ggml.add_bos_token is absent */
} jt_pretokenizer;

/* NULL when the name is not known. */
const jt_pretokenizer *jt_pretokenizer_find(jt_str name);
/* All known names, separated by ", ", as far as they fit. */
void jt_pretokenizer_names(char *out, size_t size);

typedef struct jt_splitter {
    pcre2_general_context *memory;
    pcre2_match_context *match;
    pcre2_code *stages[JT_SPLIT_STAGES];
    size_t count;
} jt_splitter;

/* Compile. Errors: JT_E_MEMORY. jt_splitter_free is for failures too. */
jt_status jt_splitter_new(jt_splitter *out, const jt_pretokenizer *kind, jt_err *err);
void jt_splitter_free(jt_splitter *splitter);

/* Scratch memory for one thread, NULL when out of memory. */
pcre2_match_data *jt_splitter_scratch(const jt_splitter *splitter);

/* Call `fn` for each piece of `text` (valid UTF-8), in order; together they are the
 * text. The first failure of `fn` ends the work. Errors: JT_E_LIMIT, JT_E_MEMORY. */
typedef jt_status jt_split_fn(void *user, jt_str piece);
jt_status jt_splitter_run(const jt_splitter *splitter, pcre2_match_data *scratch,
                          jt_str text, jt_split_fn *fn, void *user, jt_err *err);

#endif
