/* Any bytes to the pieces that are looked up in a vocabulary. */
#ifndef JT_TEXT_PIECES_H
#define JT_TEXT_PIECES_H

#include "text/steps.h"

/* What one step has made of a piece. */
typedef struct jt_pieces_buffer {
    char *data;
    size_t len, capacity;
    jt_normal normal;
} jt_pieces_buffer;

/* Scratch memory of one thread for one list of steps. */
typedef struct jt_pieces {
    const jt_steps *steps; /* borrowed */
    pcre2_match_data *scratch;
    jt_pieces_buffer *buffers; /* one for each step */
} jt_pieces;

typedef jt_status jt_piece_fn(void *user, jt_str piece);

/* JT_E_MEMORY. */
jt_status jt_pieces_new(jt_pieces *out, const jt_steps *steps, jt_err *err);
void jt_pieces_free(jt_pieces *pieces); /* {0} is fine */

/* Call `fn` for each piece of `text`, in order; `start`: nothing comes before it. Runs
 * of bytes that are not UTF-8 are pieces of their own, the steps are for the others.
 * The first failure of `fn` ends the work. Errors: JT_E_LIMIT, JT_E_MEMORY. */
jt_status jt_pieces_run(jt_pieces *pieces, jt_str text, bool start, jt_piece_fn *fn,
                        void *user, jt_err *err);

/* Bytes at the start of `text`, at most `most` (at least 4): all of them, or else up to
 * a line end or, in a very long line, the end of a character. */
size_t jt_pieces_chunk(jt_str text, size_t most);

#endif
