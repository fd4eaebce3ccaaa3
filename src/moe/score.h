/* The scorers. */
#ifndef JT_SCORE_H
#define JT_SCORE_H

#include "moe/router.h"

extern const jt_scorer jt_score_linear, jt_score_cosine;

#endif
