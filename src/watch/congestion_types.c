/* The congestion game of several types of tokens: its equilibrium, and what tells the
 * types apart. */
#include <math.h>
#include <string.h>

#include "watch/congestion.h"

/* m [n]: loads of all types together when expert i costs price[i]. */
static void meet(double *m, const jt_congestion_types *t, const double *price,
                 double *room)
{
    double *net = room, *own = room + t->n;
    memset(m, 0, t->n * sizeof *m);
    for (size_t j = 0; j < t->types; j++) {
        if (!(t->share[j] > 0.0))
            continue;
        for (size_t i = 0; i < t->n; i++)
            net[i] = t->q[j * t->n + i] - price[i];
        jt_congestion_softmax(own, net, t->n, 1.0);
        for (size_t i = 0; i < t->n; i++)
            m[i] += t->share[j] * own[i];
    }
}

/* Prices gamma m at rest are where sum_j share_j log sum_i exp(q_ij - price_i) +
 * |price|^2 / (2 gamma) is least. Its curvature lies between 1 / gamma and 1 / gamma +
 * 1 / 2, for which Nesterov's steps are damped fixed point steps with momentum. */
void jt_congestion_rest_types(double *m, const jt_congestion_types *t, double gamma,
                              double *room)
{
    double damp = 1.0 + 0.5 * gamma, root = sqrt(damp);
    double momentum = (root - 1.0) / (root + 1.0);
    double *price = room + 2 * t->n, *ahead = price + t->n; /* with momentum */
    for (size_t i = 0; i < t->n; i++)
        price[i] = ahead[i] = gamma / (double)t->n;
    for (int round = 0; round < 2000; round++) {
        double worst = 0.0;
        meet(m, t, ahead, room);
        for (size_t i = 0; i < t->n; i++) {
            double step = gamma * m[i] - ahead[i];
            double next = ahead[i] + step / damp;
            worst = fmax(worst, fabs(step));
            ahead[i] = next + momentum * (next - price[i]);
            price[i] = next;
        }
        if (worst <= 1e-9)
            return;
    }
}

/* ---- types ---- */

static double distance(const double *a, const double *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

size_t jt_congestion_type(const double *centre, size_t types, const double *x, size_t n)
{
    size_t best = 0;
    double least = INFINITY;
    for (size_t j = 0; j < types; j++) {
        double here = distance(centre + j * n, x, n);
        if (here < least) {
            least = here;
            best = j;
        }
    }
    return best;
}

/* First centres: a row, then each time the row that is farthest from all of them. */
static size_t spread_centres(double *centre, size_t most, const double *x, size_t rows,
                             size_t n)
{
    memcpy(centre, x, n * sizeof *centre);
    for (size_t types = 1; types < most; types++) {
        size_t far = 0;
        double farthest = 0.0;
        for (size_t r = 0; r < rows; r++) {
            const double *row = x + r * n;
            size_t near = jt_congestion_type(centre, types, row, n);
            double here = distance(centre + near * n, row, n);
            if (here > farthest) {
                farthest = here;
                far = r;
            }
        }
        if (!(farthest > 0.0))
            return types;
        memcpy(centre + types * n, x + far * n, n * sizeof *centre);
    }
    return most;
}

size_t jt_congestion_centres(double *centre, size_t most, const double *x, size_t rows,
                             size_t n, double *room)
{
    enum { ROUNDS = 10 };
    size_t types = spread_centres(centre, most, x, rows, n);
    double *sum = room, *count = room + most * n;
    for (int round = 0; round < ROUNDS; round++) {
        memset(room, 0, most * (n + 1) * sizeof *room);
        for (size_t r = 0; r < rows; r++) {
            size_t j = jt_congestion_type(centre, types, x + r * n, n);
            count[j]++;
            for (size_t i = 0; i < n; i++)
                sum[j * n + i] += x[r * n + i];
        }
        for (size_t j = 0; j < types; j++) {
            for (size_t i = j * n; count[j] > 0.0 && i < (j + 1) * n; i++)
                centre[i] = sum[i] / count[j];
        }
    }
    return types;
}
