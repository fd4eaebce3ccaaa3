/* What this machine does at most: the rooflines for speeds. */
#ifndef JUNTO_MEASURE_H
#define JUNTO_MEASURE_H

#include <stdbool.h>
#include <stddef.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Read bandwidth in bytes per second: `threads` threads (0: all processors) stream over
 * `bytes` of memory, the best of `rounds`. It bounds decoding. JT_E_ARG, JT_E_MEMORY.
 */
JT_API jt_status jt_measure_bandwidth(double *bytes_per_second, int threads,
                                      size_t bytes, int rounds, jt_err *err);

/* Operations per second (a multiply-add is two) of `threads` threads whose multipliers
 * wait for nothing, the best of `rounds` of some milliseconds. It bounds prefill:
 * `int8`, products of bytes, that of quantised weights; otherwise of floats. `cpu` is
 * the kernel level as for sessions; NULL: the best. JT_E_ARG, JT_E_UNSUPPORTED (cpu),
 * JT_E_MEMORY. */
JT_API jt_status jt_measure_peak(double *per_second, bool int8, int threads,
                                 const char *cpu, int rounds, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
