/* The largest of a row of numbers, without sorting it: time linear in its length. */
#ifndef JT_BASE_ORDER_H
#define JT_BASE_ORDER_H

#include <stddef.h>
#include <stdint.h>

/* The nth largest of `values` [n], nth from 1 (the largest) to n. Puts the values in
 * another order. Among NaNs the result is any of the values. */
float jt_nth_largest(float *values, size_t n, size_t nth);

/* keep[i] = 1 for the `count` largest of `values` [n], 0 for the others; among equal
 * ones those at the front. -infinity (and NaN) is never kept, so there may be fewer.
 * `room` [n] is overwritten. */
void jt_keep_largest(const float *values, size_t n, size_t count, float *room,
                     uint8_t *keep);

#endif
