/* Pre-tokenizers: how a family of models cuts text into pieces before merging. */
#ifndef JT_TEXT_PRETOKEN_H
#define JT_TEXT_PRETOKEN_H

#include "text/steps.h"

/* Regular expressions that are applied one after the other: matches of the first, and
 * what lies between them, are pieces that the next one cuts further. */
typedef struct jt_pretokenizer {
    const char *name;               /* as in tokenizer.ggml.pre */
    const char *const *expressions; /* NULL-terminated */
    bool nfc;                       /* text is normalized first */
    bool whole_words;               /* a piece that is a token needs no merges */
    bool add_bos;                   /* when tokenizer.ggml.add_bos_token is absent */
} jt_pretokenizer;

/* What byte-level vocabularies cut with when nothing else is said. */
extern const char *const jt_pretokenizer_gpt2;

/* NULL when the name is not known. */
const jt_pretokenizer *jt_pretokenizer_find(jt_str name);
/* The first one that does these steps and looks up whole words or not; or NULL. */
const jt_pretokenizer *jt_pretokenizer_match(const jt_steps *steps, bool whole_words);
/* The known names, separated by ", ", as many as there is room for. */
void jt_pretokenizer_names(char *out, size_t size);

/* Its steps. Errors: JT_E_MEMORY. jt_steps_free is for failures too. */
jt_status jt_pretokenizer_steps(jt_steps *out, const jt_pretokenizer *kind,
                                jt_err *err);

#endif
