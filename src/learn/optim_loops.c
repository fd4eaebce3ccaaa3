#include "learn/optim_rules.h"

typedef struct loop {
    size_t n, chunk;
    jt_optim_piece_fn *fn;
    void *arg;
} loop;

static void run_piece(void *arg, size_t i)
{
    const loop *l = arg;
    size_t first = i * l->chunk, left = l->n - first;
    l->fn(l->arg, i, first, left < l->chunk ? left : l->chunk);
}

size_t jt_optim_for(jt_pool *pool, size_t n, size_t chunk, jt_optim_piece_fn *fn,
                    void *arg)
{
    loop l = {n, chunk, fn, arg};
    size_t pieces = n / chunk + (n % chunk != 0);
    jt_pool_run(pool, run_piece, &l, pieces);
    return pieces;
}

/* The loop of both sums; inlined, so that `factor` is known to be there or not. */
static inline double squares(const float *x, const float *factor, size_t n)
{
    enum { LANES = 8 }; /* independent sums, which the compiler can keep in vectors */
    double sum[LANES] = {0.0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            double v = x[i + lane] * (factor ? (double)factor[i + lane] : 1.0);
            sum[lane] += v * v;
        }
    }
    for (; i < n; i++) {
        double v = x[i] * (factor ? (double)factor[i] : 1.0);
        sum[i % LANES] += v * v;
    }
    return jt_optim_total(sum, LANES);
}

double jt_optim_squares(const float *x, size_t n)
{
    return squares(x, NULL, n);
}

double jt_optim_squares_times(const float *x, const float *factor, size_t n)
{
    return squares(x, factor, n);
}

double jt_optim_total(const double *parts, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += parts[i];
    return sum;
}
