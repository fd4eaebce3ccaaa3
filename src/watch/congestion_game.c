/* The congestion game: its equilibrium, and what fits it to loads. */
#include <math.h>

#include "watch/congestion.h"

/* x with x + gamma e^x = a. The left side is convex and rises at least as fast as x, so
 * that Newton's method goes right at most once and then falls to the root. */
static double log_load(double a, double gamma)
{
    double x = a > 0.0 ? fmin(a, log1p(a) - log(fmax(gamma, 1e-300))) : a;
    for (int i = 0; i < 100; i++) {
        double heavy = gamma * exp(x), step = (x + heavy - a) / (1.0 + heavy);
        x -= step;
        if (fabs(step) <= 1e-13 * (1.0 + fabs(x)))
            break;
    }
    return x;
}

/* Loads at `lambda`, their sum, and its derivative by lambda. */
static double sum_loads(double *m, const double *q, size_t n, double gamma,
                        double lambda, double *slope)
{
    double sum = 0.0;
    *slope = 0.0;
    for (size_t i = 0; i < n; i++) {
        m[i] = exp(log_load(q[i] - lambda, gamma));
        sum += m[i];
        *slope -= m[i] / (1.0 + gamma * m[i]);
    }
    return sum;
}

/* The best expert has a load between 1 / n and 1, which bounds lambda; Newton's method
 * on log(sum) inside the bounds, halving them where it would leave. */
void jt_congestion_rest(double *m, const double *q, size_t n, double gamma)
{
    double best = q[0];
    for (size_t i = 1; i < n; i++)
        best = fmax(best, q[i]);
    double low = best - gamma, high = best + log((double)n);
    double lambda = 0.5 * (low + high);
    for (int i = 0; i < 100; i++) {
        double slope, sum = sum_loads(m, q, n, gamma, lambda, &slope);
        if (fabs(sum - 1.0) <= 1e-12)
            return;
        if (sum > 1.0)
            low = lambda;
        else
            high = lambda;
        lambda -= log(sum) * sum / slope;
        if (!(lambda >= low && lambda <= high))
            lambda = 0.5 * (low + high);
    }
}

void jt_congestion_softmax(double *m, const double *q, size_t n, double temperature)
{
    double best = q[0], sum = 0.0;
    for (size_t i = 1; i < n; i++)
        best = fmax(best, q[i]);
    for (size_t i = 0; i < n; i++) {
        m[i] = exp((q[i] - best) / temperature);
        sum += m[i];
    }
    for (size_t i = 0; i < n; i++)
        m[i] /= sum;
}

double jt_congestion_distance(const double *a, const double *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += fabs(a[i] - b[i]);
    return sum;
}

/* ---- fits ---- */

typedef struct fit {
    void (*loads)(const struct fit *f, double x); /* to room[0 .. n - 1] */
    jt_congestion_types types;
    const double *seen;
    double *room;
} fit;

static void rest_at(const fit *f, double gamma)
{
    jt_congestion_rest(f->room, f->types.q, f->types.n, gamma);
}

static void softmax_at(const fit *f, double temperature)
{
    jt_congestion_softmax(f->room, f->types.q, f->types.n, temperature);
}

static void rest_types_at(const fit *f, double gamma)
{
    jt_congestion_rest_types(f->room, &f->types, gamma, f->room + f->types.n);
}

static double error_at(const fit *f, double x)
{
    f->loads(f, x);
    return jt_congestion_distance(f->room, f->seen, f->types.n);
}

/* The least error in low .. high by golden section. */
static double golden(const fit *f, double low, double high)
{
    const double ratio = 0.6180339887498949;
    double a = high - ratio * (high - low), b = low + ratio * (high - low);
    double at_a = error_at(f, a), at_b = error_at(f, b);
    while (high - low > 1e-6 * (1.0 + fabs(low))) {
        if (at_a <= at_b) {
            high = b;
            b = a;
            at_b = at_a;
            a = high - ratio * (high - low);
            at_a = error_at(f, a);
        } else {
            low = a;
            a = b;
            at_a = at_b;
            b = low + ratio * (high - low);
            at_b = error_at(f, b);
        }
    }
    return 0.5 * (low + high);
}

/* A sum of distances may have more than one dip: golden section around the best of a
 * grid of `points`. The ends themselves are candidates. */
static double least(const fit *f, const double *grid, size_t points)
{
    size_t best = 0;
    double error = INFINITY;
    for (size_t i = 0; i < points; i++) {
        double here = error_at(f, grid[i]);
        if (here < error) {
            error = here;
            best = i;
        }
    }
    double x =
        golden(f, grid[best ? best - 1 : 0], grid[best + 1 < points ? best + 1 : best]);
    return error_at(f, x) <= error ? x : grid[best];
}

static double fit_gamma(const fit *f)
{
    static const double grid[] = {0,  0.5, 1,  2,  3,  5,  7.5, 10,  14,  18, 23,
                                  29, 36,  44, 54, 66, 80, 100, 125, 160, 200};
    return least(f, grid, sizeof grid / sizeof *grid);
}

double jt_congestion_fit_gamma(const double *q, const double *seen, size_t n,
                               double *room)
{
    return fit_gamma(&(fit){rest_at, {.q = q, .n = n}, seen, room});
}

double jt_congestion_fit_gamma_types(const jt_congestion_types *t, const double *seen,
                                     double *room)
{
    return fit_gamma(&(fit){rest_types_at, *t, seen, room});
}

double jt_congestion_fit_temperature(const double *q, const double *seen, size_t n,
                                     double *room)
{
    enum { POINTS = 21, MIDDLE = 10 };
    double grid[POINTS];
    for (int i = 0; i < POINTS; i++)
        grid[i] = exp2((i - MIDDLE) * 0.5);
    return least(&(fit){softmax_at, {.q = q, .n = n}, seen, room}, grid, POINTS);
}
