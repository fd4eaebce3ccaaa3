/* Rules "regex=type" for the types of tensors. */
#ifndef JT_SHRINK_RULES_H
#define JT_SHRINK_RULES_H

#include "junto/dtype.h"
#include "junto/status.h"

typedef struct jt_rules jt_rules;

/* The last '=' ends the expression. Errors: JT_E_ARG names the rule, JT_E_MEMORY. */
jt_status jt_rules_new(jt_rules **out, const char *const *texts, size_t count,
                       jt_err *err);
void jt_rules_free(jt_rules *rules); /* NULL is fine */

/* The type that the first matching rule gives to a tensor; false: none matches. */
bool jt_rules_find(const jt_rules *rules, const char *name, jt_dtype *dtype);

#endif
