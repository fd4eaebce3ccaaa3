/* The best approximation of low rank, without a library of linear algebra. */
#ifndef JT_ADAPT_SVD_H
#define JT_ADAPT_SVD_H

#include <stddef.h>
#include <stdint.h>

#include "junto/status.h"

/* Eigenvalues (falling) and eigenvectors of a symmetric matrix [n, n], by rotations of
 * Jacobi. `m` is used up; row i of `vectors` belongs to value[i]. */
void jt_eigen(double *m, double *vectors, double *value, size_t n);

/* B [rows, rank] and A [rank, cols] with B A near D [rows, cols]: randomised subspace
 * iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4) with a few more columns than
 * the rank, exact where the rank is that of D. Ranks above the smaller side give zeros.
 * The rows of A are orthogonal to each other, and B has the same lengths. *lost (may be
 * NULL): the squared norm of D - B A. The same numbers for the same seed. JT_E_MEMORY.
 */
jt_status jt_low_rank(float *b, float *a, const float *d, size_t rows, size_t cols,
                      size_t rank, uint64_t seed, double *lost, jt_err *err);

#endif
