/* Interleaving of sources. The first source gets its share of all sequences, evenly
 * spread; the second its share of what is left, and so on. A share is a fraction of
 * 2^32, so that all is exact: of the first n items floor(n * share) are chosen. */
#include <math.h>

#include "learn/data_impl.h"

void jt_mix_new(uint64_t *splits, const double *weights, size_t n)
{
    double rest = 0;
    for (size_t i = n; i-- > 0;) {
        rest += weights[i];
        double share = nearbyint(weights[i] / rest * 0x1p32);
        splits[i] = (uint64_t)fmin(fmax(share, 1), 0x1p32 - 1); /* nobody is left out */
    }
    splits[n - 1] = UINT64_C(1) << 32;
}

/* floor(n * share), without overflow. */
static uint64_t portion(uint64_t n, uint64_t share)
{
    return (n >> 32) * share + ((n & UINT32_MAX) * share >> 32);
}

size_t jt_mix_pick(const uint64_t *splits, size_t n, uint64_t *index)
{
    size_t source = 0;
    for (; source < n - 1; source++) {
        uint64_t before = portion(*index, splits[source]);
        if (portion(*index + 1, splits[source]) > before) {
            *index = before;
            break;
        }
        *index -= before;
    }
    return source;
}
