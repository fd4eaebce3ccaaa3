/* How concentrated a property of a few is: statistics of the audit of a model
 * (junto/audit.h). */
#ifndef JT_WATCH_CONCENTRATION_H
#define JT_WATCH_CONCENTRATION_H

#include <stddef.h>

/* Of weights w [n], negative ones taken as 0. 0 for all when nothing is above 0. */
typedef struct jt_concentration {
    double gini;      /* 0: all alike, towards 1: one has all */
    double effective; /* exp of the entropy of w / sum w: 1 .. n */
    double score;     /* 1 - log(effective) / log(n): 0 .. 1 */
} jt_concentration;

/* `room` [n] is overwritten. */
jt_concentration jt_concentration_of(const double *w, size_t n, double *room);

/* Share of the sum of w that its `count` largest have; w falls, negative ones are 0. */
double jt_top_share(const double *w, size_t n, size_t count);

/* The `nth` largest of w [n], from 1 on. `room` [n] is overwritten. */
double jt_largest(const double *w, size_t n, size_t nth, double *room);

/* z of the difference of two means, of samples a [n_a] and b [n_b] at least 2 long each
 * (Welch). Infinite when both are constant and differ. */
double jt_welch(const double *a, size_t n_a, const double *b, size_t n_b);

/* Benjamini and Hochberg (1995): two-sided p of z [n] as q [n], the least rate of false
 * discoveries at which each is one. `order` [n] is overwritten. */
void jt_discoveries(const double *z, double *q, size_t *order, size_t n);

/* Area under the curve: how often one of a [n_a] is above one of b [n_b], ties half. */
double jt_area(const double *a, size_t n_a, const double *b, size_t n_b);

#endif
