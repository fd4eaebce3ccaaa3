/* Texts in JSON lines: a record a line, in one of three forms. {"text": ...};
 * {"prompt": ..., "completion": ...}; {"messages": [{"role", "content"}, ...]}, an
 * optional system message and then user and assistant in turn. Other fields beside
 * these are ignored, and so are blank lines. */
#ifndef JT_JSONL_H
#define JT_JSONL_H

#include <jansson.h>
#include <stdbool.h>

#include "junto/gguf.h"
#include "junto/status.h"

/* By the end of its name: .jsonl, .ndjson, .json. */
bool jt_is_jsonl(const char *path);

typedef enum jt_role { JT_SYSTEM, JT_USER, JT_ASSISTANT, JT_ROLES } jt_role;

/* Everything is borrowed from the reading, for as long as one call takes. */
typedef struct jt_record {
    enum { JT_RECORD_TEXT, JT_RECORD_COMPLETION, JT_RECORD_MESSAGES } kind;
    jt_str text, completion; /* a text; or a prompt and its completion */
    json_t *messages;
    size_t end; /* bytes of the input up to the end of its line */
} jt_record;

typedef struct jt_message {
    jt_role role;
    jt_str content;
} jt_message;

size_t jt_record_messages(const jt_record *record);
/* Message `i`; `*message` is the one before it (of the first: anything), and becomes
 * it. JT_E_FORMAT when it is none, or not its turn. */
jt_status jt_record_message(const jt_record *record, size_t i, jt_message *message,
                            jt_err *err);

/* Call `each` with every record of `input`. Errors, those of `each` too, say the line:
 * JT_E_FORMAT (bad JSON, a record of unknown form), JT_E_MEMORY. */
typedef jt_status jt_record_fn(void *user, const jt_record *record, jt_err *err);
jt_status jt_jsonl_read(jt_str input, jt_record_fn *each, void *user, jt_err *err);

#endif
