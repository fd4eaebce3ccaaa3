#include "watch/information.h"

#include <math.h>
#include <string.h>

double jt_n_log_n(uint64_t n)
{
    return n ? (double)n * log((double)n) : 0.0;
}

/* With N picks, N I = sum n_rc log n_rc - sum n_r log n_r - sum n_c log n_c + N log N,
 * and N H = N log N - sum n_c log n_c. */
double jt_mutual(const uint64_t *counts, size_t rows, size_t columns, double *entropy)
{
    double joint = 0.0, of_rows = 0.0, of_columns = 0.0;
    uint64_t total = 0;
    for (size_t r = 0; r < rows; r++) {
        uint64_t sum = 0;
        for (size_t c = 0; c < columns; c++) {
            sum += counts[r * columns + c];
            joint += jt_n_log_n(counts[r * columns + c]);
        }
        of_rows += jt_n_log_n(sum);
        total += sum;
    }
    for (size_t c = 0; c < columns; c++) {
        uint64_t sum = 0;
        for (size_t r = 0; r < rows; r++)
            sum += counts[r * columns + c];
        of_columns += jt_n_log_n(sum);
    }
    *entropy = 0.0;
    double spread = jt_n_log_n(total) - of_columns;
    if (spread <= 1e-12 * jt_n_log_n(total))
        return 0.0;
    *entropy = spread / (double)total;
    return fmax(0.0, (joint - of_rows + spread) / (double)total);
}

double jt_information(const uint64_t *counts, size_t rows, size_t columns)
{
    double entropy, mutual = jt_mutual(counts, rows, columns, &entropy);
    return entropy > 0.0 ? fmin(1.0, mutual / entropy) : 0.0;
}

/* Deal the columns of all picks to the rows anew, into `room`; `left` [columns]: what
 * is still to be dealt. */
static void deal(const uint64_t *counts, size_t rows, size_t columns, jt_rng *rng,
                 uint64_t *room, uint64_t *left)
{
    uint64_t total = 0;
    memset(left, 0, columns * sizeof *left);
    for (size_t cell = 0; cell < rows * columns; cell++) {
        left[cell % columns] += counts[cell];
        total += counts[cell];
        room[cell] = 0;
    }
    for (size_t r = 0; r < rows; r++) {
        uint64_t picks = 0;
        for (size_t c = 0; c < columns; c++)
            picks += counts[r * columns + c];
        for (; picks; picks--, total--) {
            uint64_t ticket = (uint64_t)(jt_rng_double(rng) * (double)total);
            size_t c = 0;
            while (ticket >= left[c])
                ticket -= left[c++];
            left[c]--;
            room[r * columns + c]++;
        }
    }
}

/* More picks than this are dealt as this many with the same shares: what chance gives
 * falls with their number. */
enum { DEALT = 1 << 18, SHUFFLES = 5 };

double jt_information_shuffled(const uint64_t *counts, size_t rows, size_t columns,
                               jt_rng *rng, uint64_t *room)
{
    size_t cells = rows * columns;
    uint64_t total = 0, *fewer = room + cells, *left = fewer + cells;
    for (size_t i = 0; i < cells; i++)
        total += counts[i];
    double share = total > DEALT ? (double)DEALT / (double)total : 1.0, sum = 0.0;
    for (size_t i = 0; i < cells; i++)
        fewer[i] = (uint64_t)llround((double)counts[i] * share);
    for (int n = 0; n < SHUFFLES; n++) {
        deal(fewer, rows, columns, rng, room, left);
        sum += jt_information(room, rows, columns);
    }
    return sum / SHUFFLES * share;
}
