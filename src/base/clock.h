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

/* On that clock, a moment of 200 ms from now: how long to sleep at most before looking
 * around, as pthread_cond_timedwait wants it. */
static inline struct timespec jt_a_moment_later(void)
{
    enum { MOMENT = 200 * 1000 * 1000, SECOND = 1000 * 1000 * 1000 };
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += MOMENT;
    t.tv_sec += t.tv_nsec / SECOND;
    t.tv_nsec %= SECOND;
    return t;
}

#endif
