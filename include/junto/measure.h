/* What this machine does at most: the rooflines for speeds. */
#ifndef JUNTO_MEASURE_H
#define JUNTO_MEASURE_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Threads and memory to measure with, kept so that a measurement takes no longer than
 * it must: what a machine does may change from one second to the next. */
typedef struct jt_roofline jt_roofline;

/* `threads` 0: all processors; `bytes` of memory to stream over; `cpu`: the kernel
 * level as for sessions, NULL: the best. JT_E_ARG, JT_E_UNSUPPORTED (cpu), JT_E_MEMORY.
 */
JT_API jt_status jt_roofline_new(jt_roofline **out, int threads, size_t bytes,
                                 const char *cpu, jt_err *err);
JT_API void jt_roofline_free(jt_roofline *roofline); /* NULL is fine */

/* Read some `*bytes` of the memory, at most all, from where the last call ended; with
 * all threads together. Says how many it were, and returns the seconds that they took.
 * The speed bounds decoding. */
JT_API double jt_roofline_read(jt_roofline *roofline, size_t *bytes);

/* Operations per second (a multiply-add is two) of threads whose multipliers wait for
 * nothing, the best of `rounds` of some milliseconds. It bounds prefill: `int8`,
 * products of bytes, that of quantised weights; otherwise of floats. */
JT_API double jt_roofline_peak(jt_roofline *roofline, bool int8, int rounds);

#ifdef __cplusplus
}
#endif
#endif
