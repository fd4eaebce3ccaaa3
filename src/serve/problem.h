/* What is wrong with a request, as its client hears it. */
#ifndef JT_PROBLEM_H
#define JT_PROBLEM_H

#include <jansson.h>
#include <stdbool.h>

#include "junto/status.h"

typedef struct jt_problem {
    unsigned status;  /* of HTTP */
    const char *code; /* "context_length_exceeded"; NULL: nothing but the message */
    const char *type; /* NULL: as the status has it */
    char param[48];   /* the field; empty: the whole */
    jt_err err;       /* .msg is the message */
    unsigned retry;   /* seconds after which to ask again; 0: never */
} jt_problem;

/* Fill in `problem`; always false, for `return jt_refuse(..)`. `param` and `code` may
 * be NULL. */
bool jt_refuse(jt_problem *problem, unsigned status, const char *param,
               const char *code, const char *fmt, ...) JT_PRINTF(5, 6);

/* A failure of the library: 400 for what the request asked wrongly (JT_E_ARG,
 * JT_E_FORMAT, JT_E_LIMIT, JT_E_UNSUPPORTED), 500 for the others. Always false. */
bool jt_refuse_err(jt_problem *problem, const char *param, const jt_err *err);

/* {"error": {"message", "type", "param", "code"}}; NULL: no memory. */
json_t *jt_problem_json(const jt_problem *problem);

#endif
