/* JSON schemas to GBNF: every part of a schema becomes a rule, children first. */
#ifndef JT_TEXT_SCHEMA_H
#define JT_TEXT_SCHEMA_H

#include <jansson.h>
#include <stdio.h>

#include "junto/grammar.h"

/* The name of a rule: one of those that every grammar has ("value", "string", ..), or
 * of our own. */
typedef struct jt_schema_rule {
    char name[24];
} jt_schema_rule;

typedef struct jt_schema_writer {
    FILE *out;          /* rules that are complete, a line each */
    const json_t *root; /* where $ref begins */
    json_t *known;      /* {place: rule's number} of what $ref names */
    size_t n_rules, depth, work;
    jt_err *err;
} jt_schema_writer;

jt_status jt_schema_refuse(jt_schema_writer *w, jt_status status, const char *fmt, ...)
    JT_PRINTF(3, 4);
/* A name that is still free. JT_E_LIMIT. */
jt_status jt_schema_name(jt_schema_writer *w, jt_schema_rule *rule);

/* The rule of all texts that fit. */
jt_status jt_schema_write(jt_schema_writer *w, const json_t *schema,
                          jt_schema_rule *rule);
/* A rule of n others. */
jt_status jt_schema_choice(jt_schema_writer *w, const jt_schema_rule *of, size_t n,
                           jt_schema_rule *rule);
/* The whole grammar: the rules that `write` writes of `root`, the one that it gives
 * back, and those that every grammar has. The caller frees. */
jt_status jt_schema_grammar(char **out, const json_t *root,
                            jt_status (*write)(jt_schema_writer *w, const json_t *root,
                                               jt_schema_rule *rule),
                            jt_err *err);
/* The same of schemas of one type. */
jt_status jt_schema_object(jt_schema_writer *w, const json_t *schema,
                           jt_schema_rule *rule);
jt_status jt_schema_array(jt_schema_writer *w, const json_t *schema,
                          jt_schema_rule *rule);
jt_status jt_schema_number(jt_schema_writer *w, const json_t *schema, bool real,
                           jt_schema_rule *rule);
/* A string that a regular expression finds something in: the inside of the quotes goes
 * to w->out, as a part of a rule. */
jt_status jt_schema_pattern(jt_schema_writer *w, const char *pattern);
/* The pattern of a format; NULL: it is not known. */
const char *jt_schema_format(const char *name);

/* A count that a keyword gives, or `usual`. */
jt_status jt_schema_count(jt_schema_writer *w, const json_t *schema, const char *name,
                          json_int_t usual, json_int_t *out);
/* "{2,5}", "{2,}" (most below 0) */
void jt_schema_times(jt_schema_writer *w, json_int_t least, json_int_t most);
/* The text of a JSON value as a literal. */
jt_status jt_schema_literal(jt_schema_writer *w, const json_t *value);

#endif
