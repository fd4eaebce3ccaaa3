#include "adapt/svd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

enum { SPARE = 8, ROUNDS = 4, SWEEPS = 60 };

/* ---- eigenvectors ---- */

/* Make m[p][q] zero by a rotation of both, which the vectors follow. */
static void rotate(double *m, double *vectors, size_t n, size_t p, size_t q)
{
    double theta = (m[q * n + q] - m[p * n + p]) / (2.0 * m[p * n + q]);
    double t = (theta < 0 ? -1.0 : 1.0) / (fabs(theta) + sqrt(theta * theta + 1.0));
    double c = 1.0 / sqrt(t * t + 1.0), s = t * c;
    for (size_t k = 0; k < n; k++) {
        double kp = m[k * n + p], kq = m[k * n + q];
        m[k * n + p] = c * kp - s * kq;
        m[k * n + q] = s * kp + c * kq;
    }
    for (size_t k = 0; k < n; k++) {
        double pk = m[p * n + k], qk = m[q * n + k];
        m[p * n + k] = c * pk - s * qk;
        m[q * n + k] = s * pk + c * qk;
        double vp = vectors[p * n + k], vq = vectors[q * n + k];
        vectors[p * n + k] = c * vp - s * vq;
        vectors[q * n + k] = s * vp + c * vq;
    }
}

static double off_diagonal(const double *m, size_t n)
{
    double sum = 0.0;
    for (size_t p = 0; p < n; p++) {
        for (size_t q = 0; q < p; q++)
            sum += m[p * n + q] * m[p * n + q];
    }
    return sum;
}

static void swap_rows(double *vectors, double *value, size_t n, size_t i, size_t j)
{
    double v = value[i];
    value[i] = value[j];
    value[j] = v;
    for (size_t k = 0; k < n; k++) {
        double x = vectors[i * n + k];
        vectors[i * n + k] = vectors[j * n + k];
        vectors[j * n + k] = x;
    }
}

void jt_eigen(double *m, double *vectors, double *value, size_t n)
{
    double size = 0.0;
    memset(vectors, 0, n * n * sizeof *vectors);
    for (size_t i = 0; i < n; i++) {
        vectors[i * n + i] = 1.0;
        size += m[i * n + i] * m[i * n + i];
    }
    for (int sweep = 0; sweep < SWEEPS && off_diagonal(m, n) > 1e-28 * size; sweep++) {
        for (size_t p = 0; p < n; p++) {
            for (size_t q = p + 1; q < n; q++) {
                if (m[p * n + q] != 0.0)
                    rotate(m, vectors, n, p, q);
            }
        }
    }
    for (size_t i = 0; i < n; i++)
        value[i] = m[i * n + i];
    for (size_t i = 0; i < n; i++) {
        size_t best = i;
        for (size_t j = i + 1; j < n; j++)
            best = value[j] > value[best] ? j : best;
        swap_rows(vectors, value, n, i, best);
    }
}

/* ---- subspaces ----
 * Vectors lie in rows: q [k, rows], z [k, cols]. */

/* Orthonormal rows by Gram and Schmidt, twice; rows that depend on others become 0. */
static void orthonormal(double *q, size_t k, size_t n)
{
    for (size_t i = 0; i < k; i++) {
        double *x = q + i * n, before = 0.0, after = 0.0;
        for (size_t c = 0; c < n; c++)
            before += x[c] * x[c];
        for (size_t again = 0; again < 2 * i; again++) {
            const double *y = q + again % i * n;
            double dot = 0.0;
            for (size_t c = 0; c < n; c++)
                dot += x[c] * y[c];
            for (size_t c = 0; c < n; c++)
                x[c] -= dot * y[c];
        }
        for (size_t c = 0; c < n; c++)
            after += x[c] * x[c];
        double scale = after > 1e-20 * before ? 1.0 / sqrt(after) : 0.0;
        for (size_t c = 0; c < n; c++)
            x[c] *= scale;
    }
}

/* q = z D^T, and z = q D. */
static void times_turned(double *q, const double *z, const float *d, size_t k,
                         size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++) {
        const float *row = d + r * cols;
        for (size_t i = 0; i < k; i++) {
            double sum = 0.0;
            for (size_t c = 0; c < cols; c++)
                sum += z[i * cols + c] * (double)row[c];
            q[i * rows + r] = sum;
        }
    }
}

static void times(double *z, const double *q, const float *d, size_t k, size_t rows,
                  size_t cols)
{
    memset(z, 0, k * cols * sizeof *z);
    for (size_t r = 0; r < rows; r++) {
        const float *row = d + r * cols;
        for (size_t i = 0; i < k; i++) {
            double factor = q[i * rows + r];
            for (size_t c = 0; c < cols; c++)
                z[i * cols + c] += factor * (double)row[c];
        }
    }
}

typedef struct room {
    double *q, *z; /* [k, rows], [k, cols] */
    double *gram, *vectors, *value;
} room;

static bool room_new(room *x, size_t k, size_t rows, size_t cols)
{
    *x = (room){jt_alloc(k * rows, sizeof(double)), jt_alloc(k * cols, sizeof(double)),
                jt_alloc(k * k, sizeof(double)), jt_alloc(k * k, sizeof(double)),
                jt_alloc(k, sizeof(double))};
    return x->q && x->z && x->gram && x->vectors && x->value;
}

static void room_free(room *x)
{
    free(x->q);
    free(x->z);
    free(x->gram);
    free(x->vectors);
    free(x->value);
}

/* D ~ Q^T Z with Z = Q D: its singular vectors are those of Z Z^T. */
static void decompose(room *x, size_t k, size_t cols)
{
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < k; j++) {
            double sum = 0.0;
            for (size_t c = 0; c < cols; c++)
                sum += x->z[i * cols + c] * x->z[j * cols + c];
            x->gram[i * k + j] = sum;
        }
    }
    jt_eigen(x->gram, x->vectors, x->value, k);
}

/* Vector j of the left and of the right, each times the root of the singular value. */
static void put_vector(const room *x, size_t j, size_t k, float *b, size_t rank,
                       float *a, size_t rows, size_t cols)
{
    double value = x->value[j] > 0.0 ? x->value[j] : 0.0; /* squared */
    double root = pow(value, 0.25);
    for (size_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (size_t i = 0; i < k; i++)
            sum += x->vectors[j * k + i] * x->q[i * rows + r];
        b[r * rank + j] = (float)(root * sum);
    }
    for (size_t c = 0; c < cols; c++) {
        double sum = 0.0;
        for (size_t i = 0; i < k; i++)
            sum += x->vectors[j * k + i] * x->z[i * cols + c];
        a[j * cols + c] = root > 0.0 ? (float)(sum / root) : 0.0f;
    }
}

jt_status jt_low_rank(float *b, float *a, const float *d, size_t rows, size_t cols,
                      size_t rank, uint64_t seed, double *lost, jt_err *err)
{
    size_t least = rows < cols ? rows : cols, k = rank + SPARE;
    k = k < least ? k : least;
    room x;
    jt_rng rng = {seed, 0, 0};
    if (!room_new(&x, k, rows, cols)) {
        room_free(&x);
        return jt_fail_memory(err, "finding a matrix of low rank");
    }
    for (size_t i = 0; i < k * cols; i++)
        x.z[i] = (double)jt_rng_normal(&rng);
    for (int round = 0; round < ROUNDS; round++) {
        times_turned(x.q, x.z, d, k, rows, cols);
        orthonormal(x.q, k, rows);
        times(x.z, x.q, d, k, rows, cols);
        if (round + 1 < ROUNDS)
            orthonormal(x.z, k, cols);
    }
    decompose(&x, k, cols);
    memset(a, 0, rank * cols * sizeof *a);
    memset(b, 0, rows * rank * sizeof *b);
    for (size_t j = 0; j < rank && j < k; j++)
        put_vector(&x, j, k, b, rank, a, rows, cols);
    double all = 0.0, kept = 0.0;
    for (size_t i = 0; i < rows * cols; i++)
        all += (double)d[i] * (double)d[i];
    for (size_t j = 0; j < rank && j < k; j++)
        kept += x.value[j] > 0.0 ? x.value[j] : 0.0;
    if (lost)
        *lost = all > kept ? all - kept : 0.0;
    room_free(&x);
    return JT_OK;
}
