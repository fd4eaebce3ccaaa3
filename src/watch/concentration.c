#include "watch/concentration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

jt_concentration jt_concentration_of(const double *w, size_t n, double *room)
{
    jt_concentration out = {0};
    double sum = 0, ranked = 0, entropy = 0;
    for (size_t i = 0; i < n; i++)
        sum += room[i] = fmax(0.0, w[i]);
    if (!(sum > 0))
        return out;
    qsort(room, n, sizeof *room, ascending);
    for (size_t i = 0; i < n; i++) {
        double p = room[i] / sum;
        ranked += (double)(i + 1) * p;
        entropy -= p > 0 ? p * log(p) : 0;
    }
    double count = (double)n;
    out.gini = (2 * ranked - count - 1) / count;
    out.effective = exp(entropy);
    out.score = n > 1 ? 1 - entropy / log(count) : 1;
    return out;
}

double jt_top_share(const double *w, size_t n, size_t count)
{
    double top = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        all += fmax(0.0, w[i]);
        top += i < count ? fmax(0.0, w[i]) : 0;
    }
    return all > 0 ? top / all : 0;
}

double jt_largest(const double *w, size_t n, size_t nth, double *room)
{
    memcpy(room, w, n * sizeof *room);
    qsort(room, n, sizeof *room, ascending);
    return room[n - nth];
}

static double mean_of(const double *x, size_t n, double *variance)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    *variance = squares / (double)(n - 1) / (double)n;
    return mean;
}

double jt_welch(const double *a, size_t n_a, const double *b, size_t n_b)
{
    double in_a, in_b;
    double difference = mean_of(a, n_a, &in_a) - mean_of(b, n_b, &in_b);
    return difference != 0 ? difference / sqrt(in_a + in_b) : 0;
}

void jt_discoveries(const double *z, double *q, size_t *order, size_t n)
{
    for (size_t i = 0; i < n; i++) { /* insertion: |z| falls */
        size_t at = i;
        for (; at > 0 && fabs(z[order[at - 1]]) < fabs(z[i]); at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    double least = 1;
    for (size_t i = n; i-- > 0;) {
        double p = erfc(fabs(z[order[i]]) / sqrt(2.0));
        least = fmin(least, p * (double)n / (double)(i + 1));
        q[order[i]] = least;
    }
}

double jt_area(const double *a, size_t n_a, const double *b, size_t n_b)
{
    double above = 0;
    for (size_t i = 0; i < n_a; i++) {
        for (size_t j = 0; j < n_b; j++)
            above += a[i] > b[j] ? 1 : a[i] == b[j] ? 0.5 : 0;
    }
    return above / (double)n_a / (double)n_b;
}
