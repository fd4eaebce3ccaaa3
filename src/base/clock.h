/* Seconds on a clock that only goes forward. */
#ifndef JT_CLOCK_H
#define JT_CLOCK_H

#include <time.h>

static inline double jt_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
