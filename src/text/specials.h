/* Tokens that are found in the text before it is split: control and user-defined ones.
 */
#ifndef JT_TEXT_SPECIALS_H
#define JT_TEXT_SPECIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/gguf.h"

typedef struct jt_special {
    jt_str text; /* borrowed, not empty */
    int32_t id;
    bool control; /* only looked for on request */
    /* White space around it goes with it; it is not part of a word. */
    bool strip_left, strip_right, single_word;
} jt_special;

typedef struct jt_specials {
    jt_special *list; /* sorted by text; free() */
    size_t count;
    size_t first[257]; /* those that start with byte b: first[b] to first[b + 1] */
} jt_specials;

/* Sort and index `list`, which is set by the caller. */
void jt_specials_index(jt_specials *specials);

/* The longest special token at the start of `text`, NULL when there is none. */
const jt_special *jt_specials_match(const jt_specials *specials, jt_str text,
                                    bool control);

#endif
