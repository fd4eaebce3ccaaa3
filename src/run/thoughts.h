/* Which part of a reply is thought and which is answer, token by token. */
#ifndef JT_THOUGHTS_H
#define JT_THOUGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/generate.h"
#include "junto/status.h"

typedef struct jt_thoughts {
    const jt_thinking *marks; /* NULL: all is answer */
    bool inside;              /* a thought */
    bool trim; /* white space is left out: a thought or an answer has just begun */
    /* Takes text that is certain. */
    jt_status (*out)(void *user, bool thought, const char *text, size_t len,
                     jt_err *err);
    void *user;
    char *held;  /* bytes that may belong to a mark */
    bool *quiet; /* of each held byte: it is of a special token, which is never text */
    size_t n_held, held_capacity, quiet_capacity;
} jt_thoughts;

/* The next token's text; that of a special token counts for marks only. JT_E_MEMORY and
 * the errors of `out`. */
jt_status jt_thoughts_add(jt_thoughts *t, const char *text, size_t len, bool special,
                          jt_err *err);
/* No more tokens will come: give out what was held back. */
jt_status jt_thoughts_finish(jt_thoughts *t, jt_err *err);
void jt_thoughts_free(jt_thoughts *t);

#endif
