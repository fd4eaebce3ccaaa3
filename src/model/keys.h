/* Reading the keys of a model's file: "qwen3moe.block_count", each checked against sane
 * bounds. */
#ifndef JT_KEYS_H
#define JT_KEYS_H

#include "model/family.h"
#include "junto/gguf.h"

/* Keys of this architecture, or of another prefix ("junto.router"). */
typedef struct jt_key_reader {
    const jt_gguf *file;
    const jt_family *family;
    const char *prefix;
    int layer; /* whose values are read; -1: of the whole model */
    jt_err *err;
    char key[128]; /* that was read last, for messages */
} jt_key_reader;

/* "prefix.name", in reader->key. */
const char *jt_key_name(jt_key_reader *r, const char *name);

/* An integer in [low, high]; `otherwise` when the key is missing and that is in the
 * range. Of an array of one value per layer it is that of reader->layer, for the whole
 * model the largest. On failure *out is `low`. */
jt_status jt_key_int(jt_key_reader *r, const char *name, int low, int high,
                     int otherwise, int *out);

/* A finite number > low; `otherwise` when the key is missing. */
jt_status jt_key_float(jt_key_reader *r, const char *name, float low, float otherwise,
                       float *out);

/* True or false; *out stays when the key is missing. */
jt_status jt_key_bool(jt_key_reader *r, const char *name, bool *out);

/* A name into `text`; `otherwise` when the key is missing. */
jt_status jt_key_text(jt_key_reader *r, const char *name, const char *otherwise,
                      char *text, size_t room);

/* Fail: the name that the last key holds is none of `known`. */
jt_status jt_key_unknown(jt_key_reader *r, const char *name,
                         const char *(*known)(size_t i));

#endif
