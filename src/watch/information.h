/* How much one thing says about another, from a table of how often they came together.
 */
#ifndef JT_WATCH_INFORMATION_H
#define JT_WATCH_INFORMATION_H

#include <stddef.h>
#include <stdint.h>

#include "base/random.h"

/* n log n, 0 for 0: what entropies of counts are made of. */
double jt_n_log_n(uint64_t n);

/* I(row; column) of `counts` [rows, columns] in nats, and in *entropy H(column). */
double jt_mutual(const uint64_t *counts, size_t rows, size_t columns, double *entropy);

/* I(row; column) / H(column): 0 when all rows have the same
 * mix of columns (or there is one column only), 1 when each row has one column. */
double jt_information(const uint64_t *counts, size_t rows, size_t columns);

/* The same by chance: mean of several tables in which the columns are dealt to the rows
 * anew; sums of rows and columns stay. `room` holds 2 * rows * columns + columns
 * numbers.
 */
double jt_information_shuffled(const uint64_t *counts, size_t rows, size_t columns,
                               jt_rng *rng, uint64_t *room);

#endif
