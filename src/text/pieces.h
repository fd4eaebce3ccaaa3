/* Any bytes to the pieces that byte-level vocabularies are made of. */
#ifndef JT_TEXT_PIECES_H
#define JT_TEXT_PIECES_H

#include "text/nfc.h"
#include "text/pretoken.h"

/* Scratch memory of one thread for one splitter. */
typedef struct jt_pieces {
    const jt_splitter *splitter; /* of `kind`; borrowed */
    const jt_pretokenizer *kind;
    pcre2_match_data *scratch;
    jt_nfc nfc;
} jt_pieces;

/* JT_E_MEMORY. */
jt_status jt_pieces_new(jt_pieces *out, const jt_pretokenizer *kind,
                        const jt_splitter *splitter, jt_err *err);
void jt_pieces_free(jt_pieces *pieces); /* {0} is fine */

/* Call `fn` for each piece of `text`, in order. Runs of bytes that are not UTF-8 are
 * pieces of their own; the others are normalised where the kind asks for it. The first
 * failure of `fn` ends the work. Errors: JT_E_LIMIT, JT_E_MEMORY. */
jt_status jt_pieces_run(jt_pieces *pieces, jt_str text, jt_split_fn *fn, void *user,
                        jt_err *err);

/* Bytes at the start of `text`, at most `most` (at least 4): all of them, or else up to
 * a line end or, in a very long line, the end of a character. */
size_t jt_pieces_chunk(jt_str text, size_t most);

#endif
