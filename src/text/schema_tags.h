/* Calls of functions whose parameters stand in tags rather than in JSON, as Qwen3 Coder
 * writes them:
 *
 *     <function=NAME>
 *     <parameter=KEY>
 *     VALUE
 *     </parameter>
 *     </function>
 *
 * A value whose schema says "type": "string" is the text itself, any other is JSON. */
#ifndef JT_TEXT_SCHEMA_TAGS_H
#define JT_TEXT_SCHEMA_TAGS_H

#include <jansson.h>

#include "junto/status.h"

/* The grammar in GBNF of a call of one of root's "functions", [{"name", "parameters"}];
 * a $ref of their parameters names a part of `root`. The caller frees. JT_E_UNSUPPORTED
 * (what tags cannot have, and those of jt_schema_to_gbnf), JT_E_FORMAT, JT_E_LIMIT,
 * JT_E_MEMORY. */
jt_status jt_tags_to_gbnf(char **out, const json_t *root, jt_err *err);

#endif
