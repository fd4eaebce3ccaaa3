/* What happens to text before it is looked up in a vocabulary: a list of steps, each of
 * which changes a piece of text or cuts it into pieces for the next one. Normalizers
 * and pre-tokenizers are both made of these. */
#ifndef JT_TEXT_STEPS_H
#define JT_TEXT_STEPS_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>

#include "base/memory.h"
#include "junto/gguf.h"
#include "junto/status.h"
#include "text/charsmap.h"
#include "text/normal.h"

enum { JT_STEPS_MOST = 32 };

typedef enum jt_step_kind {
    JT_STEP_CUT,        /* at the matches of an expression */
    JT_STEP_REPLACE,    /* `from`, or the matches of an expression, by `text` */
    JT_STEP_FORM,       /* Unicode normalization */
    JT_STEP_LOWER,      /* small letters */
    JT_STEP_DROP_MARKS, /* that take no room of their own, or all */
    JT_STEP_CLEAN,      /* BERT: no control characters, all white space a space */
    JT_STEP_IDEOGRAPHS, /* BERT: spaces around them */
    JT_STEP_STRIP,      /* white space at the ends */
    JT_STEP_PREPEND,    /* `text` in front of each stretch between special tokens */
    JT_STEP_PREFIX,     /* `text` in front of each piece that does not begin with it */
    JT_STEP_CHARSMAP,   /* SentencePiece's own table */
    JT_STEP_SPELL,      /* bytes as characters of the alphabet */
    JT_STEP_UNSPELL     /* and back, the last step */
} jt_step_kind;

/* What becomes of the matches of an expression, and of what lies between. */
typedef enum jt_cut {
    JT_CUT_ISOLATED, /* all are pieces */
    JT_CUT_REMOVED,  /* matches are dropped */
    JT_CUT_PREVIOUS, /* a match ends the piece before it */
    JT_CUT_NEXT,     /* a match begins the piece after it */
    JT_CUT_RUNS      /* neighbouring matches are one piece */
} jt_cut;

typedef struct jt_step {
    jt_step_kind kind;
    pcre2_code *code;
    const char *expression; /* of `code`, in PCRE2's dialect */
    jt_cut cut;
    bool invert;      /* what lies between matches takes their part */
    bool first;       /* PREFIX: only at the beginning of the whole text */
    bool left, right; /* STRIP */
    bool all;         /* DROP_MARKS */
    bool clusters;    /* CHARSMAP, as the tokenizers library has it */
    jt_normal_form form;
    jt_str text, from;
    jt_charsmap charsmap;
} jt_step;

typedef struct jt_steps {
    pcre2_general_context *memory;
    pcre2_match_context *match;
    jt_step items[JT_STEPS_MOST];
    size_t count;
    jt_arena arena; /* texts of the steps */
} jt_steps;

/* An empty list. Errors: JT_E_MEMORY. jt_steps_free is for failures too. `foreign`: the
 * expressions come from a file, and a match that takes long is given up. */
jt_status jt_steps_new(jt_steps *out, bool foreign, jt_err *err);
void jt_steps_free(jt_steps *steps); /* {0} is fine */

/* Append a step as it is; its texts and charsmap are borrowed. Errors: JT_E_LIMIT (too
 * many). */
jt_status jt_steps_add(jt_steps *steps, jt_step step, jt_err *err);
/* Append a CUT or REPLACE, whose expression is PCRE2's and borrowed. Errors also:
 * JT_E_UNSUPPORTED (it does not compile), JT_E_MEMORY. */
jt_status jt_steps_add_expression(jt_steps *steps, jt_step step, const char *expression,
                                  jt_err *err);

/* Whether two lists do the same, as far as their expressions show it. */
bool jt_steps_same(const jt_steps *a, const jt_steps *b);

#endif
