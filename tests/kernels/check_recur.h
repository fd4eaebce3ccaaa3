/* Random recurrences, for the checks of their two directions. */
#ifndef CHECK_RECUR_H
#define CHECK_RECUR_H

#include "check.h"

/* A call and the memory of what it reads and writes. */
typedef struct recurrence {
    jt_recur r;
    buffer h, y, k, q, v, decay, beta, rate, step, fade;
} recurrence;

enum { DECAY, STEPS, DELTA, RATED, FADED, FORMS };

recurrence new_recurrence(checker *c, int form);
void free_recurrence(recurrence *r);

/* n normal values times `width`, plus `middle`. */
buffer random_floats(checker *c, size_t n, float width, float middle);

#endif
