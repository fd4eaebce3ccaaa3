/* A compiled grammar: nodes that read bytes, branch, and call rules.
 *
 * A text fits when there is a way over its bytes from the beginning of the root
 * rule to its end. What has been called and not returned from makes a stack, so rules
 * may nest without end. Characters are their bytes in UTF-8 by then. */
#ifndef JT_TEXT_GRAMMAR_H
#define JT_TEXT_GRAMMAR_H

#include "base/memory.h"
#include "junto/grammar.h"

typedef enum jt_grammar_kind {
    JT_GRAMMAR_BYTE,  /* one of low..high, then next */
    JT_GRAMMAR_SPLIT, /* next, or other */
    JT_GRAMMAR_CALL,  /* rule `other`, then next */
    JT_GRAMMAR_RETURN
} jt_grammar_kind;

typedef struct jt_grammar_node {
    uint8_t kind, low, high;
    uint32_t next, other;
} jt_grammar_node;

struct jt_grammar {
    jt_grammar_node *nodes;
    size_t n_nodes, capacity;
    uint32_t *starts; /* [n_rules] of each rule */
    size_t n_rules, root;
};

enum {
    JT_GRAMMAR_RULES = 1 << 14, /* at most, here and below */
    JT_GRAMMAR_NODES = 1 << 18,
    JT_GRAMMAR_DEPTH = 64, /* groups in each other */
    JT_GRAMMAR_TIMES = 1 << 16,
    JT_GRAMMAR_WORK = 1 << 24 /* steps of compiling one */
};

/* ---- what is written (grammar_parse.c) ---- */

typedef struct jt_char_range {
    uint32_t low, high;
} jt_char_range;

typedef enum jt_term_kind {
    JT_TERM_TEXT,   /* bytes */
    JT_TERM_CLASS,  /* one character of ranges, sorted and apart */
    JT_TERM_RULE,   /* another rule */
    JT_TERM_GROUP,  /* alternatives */
    JT_TERM_REPEAT, /* `item` least to most times */
} jt_term_kind;

typedef struct jt_term jt_term;
typedef struct jt_sequence jt_sequence;

struct jt_sequence { /* terms one after the other, NULL for none */
    jt_term *last;
    jt_sequence *next; /* alternative */
};

struct jt_term {
    jt_term_kind kind;
    jt_term *before; /* in the sequence */
    jt_str text;
    const jt_char_range *ranges;
    size_t n_ranges;
    size_t rule;
    jt_sequence *group;
    jt_term *item;
    uint32_t least, most; /* most UINT32_MAX: any number */
};

typedef struct jt_grammar_rule {
    jt_str name;
    jt_sequence *body; /* NULL: not defined (yet) */
    const char *at;    /* behind the first place where it is used or defined */
} jt_grammar_rule;

typedef struct jt_grammar_text {
    jt_arena arena; /* holds all of it, but for the list of rules */
    jt_grammar_rule *rules;
    size_t n_rules, capacity;
    size_t root;
} jt_grammar_text;

/* Free also after a failure. */
jt_status jt_grammar_parse(jt_grammar_text *out, const char *text, size_t len,
                           jt_err *err);
void jt_grammar_text_free(jt_grammar_text *text);

/* ---- what it becomes ---- */

/* Nodes of all rules (grammar.c). JT_E_LIMIT, JT_E_MEMORY. */
jt_status jt_grammar_build(jt_grammar *out, const jt_grammar_text *text, jt_err *err);
/* Refuse rules that begin with themselves: they would be called without end
 * (grammar_check.c). JT_E_FORMAT, JT_E_LIMIT (too long to find out), JT_E_MEMORY. */
jt_status jt_grammar_check(const jt_grammar *grammar, const jt_grammar_text *text,
                           jt_err *err);

#endif
