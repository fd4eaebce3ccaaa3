/* Regular expressions over names: alpha and rank patterns of PEFT, targets to tune. */
#ifndef JT_ADAPT_PATTERN_H
#define JT_ADAPT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/status.h"

typedef struct jt_pattern jt_pattern;

/* Perl's syntax, as PCRE2 has it. JT_E_ARG names what is wrong and where. */
jt_status jt_pattern_new(jt_pattern **out, const char *text, jt_err *err);
void jt_pattern_free(jt_pattern *pattern); /* NULL is fine */
/* Is it anywhere in the name? With `whole`, is it all of the name, or all that follows
 * one of its dots? A search that takes too long finds nothing. */
bool jt_pattern_matches(const jt_pattern *pattern, const char *name, bool whole);

#endif
