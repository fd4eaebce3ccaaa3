/* SentencePiece's table of what characters become before they are looked up: a trie of
 * byte sequences as a double array, and the texts that take their place.
 *
 * Layout ("precompiled_charsmap" of a model): u32 bytes of the trie, the trie as u32
 * units, then texts that end with NUL. A unit has its label in bits 0 to 7 and 31, in
 * bit 8 whether a sequence ends here, in bits 10 to 30 the offset of its children,
 * shifted by 8 more where bit 9 is set; or, with bit 31, the place of a text
 * (darts-clone, as sentencepiece/src/normalizer.cc uses it). */
#ifndef JT_TEXT_CHARSMAP_H
#define JT_TEXT_CHARSMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "junto/gguf.h"
#include "junto/status.h"

typedef struct jt_charsmap {
    jt_str bytes; /* all of it; none: nothing is replaced */
    size_t units;
    jt_str texts;
} jt_charsmap;

/* Check the layout; `bytes` is borrowed. Errors: JT_E_FORMAT. */
jt_status jt_charsmap_open(jt_charsmap *out, jt_str bytes, jt_err *err);

/* The longest sequence at the start of `text` that the table has, or the shortest one:
 * how many bytes it has, 0 when there is none, and what takes their place. */
size_t jt_charsmap_find(const jt_charsmap *map, jt_str text, bool shortest,
                        jt_str *instead);

#endif
