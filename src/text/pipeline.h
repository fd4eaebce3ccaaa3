/* Normalizers and pre-tokenizers as tokenizer.json describes them. */
#ifndef JT_TEXT_PIPELINE_H
#define JT_TEXT_PIPELINE_H

#include "format/json.h"
#include "text/steps.h"

/* What a list of steps cannot say. */
typedef struct jt_pipeline_notes {
    bool byte_level; /* bytes are written in the alphabet at the end */
} jt_pipeline_notes;

/* Append the steps of a "normalizer" or "pre_tokenizer", JSON text; null has none.
 * `notes` (may be NULL) is added to. Nothing is borrowed. Errors: JT_E_FORMAT,
 * JT_E_UNSUPPORTED (a type that is not known, which is named), JT_E_LIMIT, JT_E_MEMORY.
 */
jt_status jt_pipeline_read(jt_steps *steps, jt_str json, jt_pipeline_notes *notes,
                           jt_err *err);

/* What BERT does to text: `clean` control characters away, spaces around `ideographs`,
 * `strip` accents, `lower`. */
typedef struct jt_bert {
    bool clean, ideographs, strip, lower;
} jt_bert;

jt_status jt_pipeline_add_bert_normalizer(jt_steps *steps, const jt_bert *how,
                                          jt_err *err);
/* Words between white space, and each punctuation mark. */
jt_status jt_pipeline_add_bert_words(jt_steps *steps, jt_err *err);

#endif
