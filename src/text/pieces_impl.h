/* Shared by the steps that cut (pieces_cut.c), those that change text (pieces_change.c)
 * and what calls both (pieces.c). */
#ifndef JT_TEXT_PIECES_IMPL_H
#define JT_TEXT_PIECES_IMPL_H

#include "text/pieces.h"

/* One run over a text. */
typedef struct jt_pieces_work {
    jt_pieces *pieces;
    jt_piece_fn *fn;
    void *user;
    size_t longest; /* a step may make it, lest steps of a file fill the memory */
    jt_err *err;
} jt_pieces_work;

/* A piece on its way. */
typedef struct jt_piece {
    jt_str text;
    bool stretch; /* it begins what stands between two special tokens */
    bool start;   /* and nothing comes before that */
} jt_piece;

/* Do step `i` and all that follow with a piece. As deep as there are steps. */
jt_status jt_pieces_step(const jt_pieces_work *w, size_t i, jt_piece piece);

/* Cut a piece and do the next step with each part. */
jt_status jt_pieces_cut(const jt_pieces_work *w, size_t i, jt_piece piece);

/* Change the text of a piece; what it becomes lies in the buffer of the step. */
jt_status jt_pieces_change(const jt_pieces_work *w, size_t i, jt_piece *piece);

/* The next match of a step's expression at or after `from`; false: there is none. */
jt_status jt_pieces_find(const jt_pieces_work *w, const jt_step *step, jt_str text,
                         size_t from, bool *found, size_t *start, size_t *end);

#endif
