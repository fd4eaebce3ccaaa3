/* Inside of export*.c: parts of a tokenizer.json from the keys of a GGUF file.
 *
 * json_pack takes over what it is given; a NULL in it makes the whole NULL, so that one
 * check at the end finds every failure. */
#ifndef JT_TEXT_EXPORT_IMPL_H
#define JT_TEXT_EXPORT_IMPL_H

#include <jansson.h>

#include "junto/gguf.h"
#include "text/pretoken.h"
#include "text/vocab.h"

typedef struct jt_exporter {
    const jt_gguf *file;
    jt_vocab_kind kind;
    const jt_pretokenizer *pre; /* of byte-level BPE; NULL: its steps are in the file */
    bool own_steps;             /* the file has steps, and they count */
    bool listed_merges;         /* BPE: merges as listed, not by scores */
    const jt_gguf_kv *tokens, *types;
    jt_err *err;
} jt_exporter;

/* Text and jt_token_type of a token. */
jt_str jt_export_token(const jt_exporter *x, int64_t id);
int64_t jt_export_type(const jt_exporter *x, uint64_t id);
/* A key that is true or false, `otherwise` where it is absent. */
bool jt_export_switch(const jt_exporter *x, const char *key, bool otherwise);
json_t *jt_export_text(jt_str text);

/* Members of a tokenizer.json. */
jt_status jt_export_model(const jt_exporter *x, json_t **out);
json_t *jt_export_normalizer(const jt_exporter *x);
json_t *jt_export_pre_tokenizer(const jt_exporter *x);
json_t *jt_export_decoder(const jt_exporter *x);

#endif
