#include "base/order.h"

#include <math.h>
#include <stdbool.h>

/* Hoare's FIND, in falling order. The scans need no bounds: a value that is not on the
 * wrong side of the pivot stops each of them, and a NaN is on neither. */
float jt_nth_largest(float *values, size_t n, size_t nth)
{
    ptrdiff_t low = 0, high = (ptrdiff_t)n - 1, at = (ptrdiff_t)nth - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        ptrdiff_t i = low, j = high;
        while (i <= j) {
            while (values[i] > pivot)
                i++;
            while (values[j] < pivot)
                j--;
            if (i > j)
                break;
            float swapped = values[i];
            values[i++] = values[j];
            values[j--] = swapped;
        }
        if (at <= j)
            high = j;
        else if (at >= i)
            low = i;
        else
            break;
    }
    return values[at];
}

void jt_keep_largest(const float *values, size_t n, size_t count, float *room,
                     uint8_t *keep)
{
    size_t in = 0, spare = count;
    for (size_t i = 0; i < n; i++) {
        if (values[i] > -INFINITY)
            room[in++] = values[i];
    }
    float least = in > count && count ? jt_nth_largest(room, in, count) : -INFINITY;
    for (size_t i = 0; i < n; i++)
        spare -= values[i] > least && spare ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        bool tied = values[i] == least && least > -INFINITY && spare > 0;
        keep[i] = count && (values[i] > least || tied);
        spare -= tied ? 1 : 0;
    }
}
