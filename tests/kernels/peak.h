/* What the multipliers reach when they wait for nothing. */
#ifndef PEAK_H
#define PEAK_H

#include "kernels/kernels.h"

/* Operations that this thread does now, in a loop of fma without loads of the vectors
 * of a level; 0 where there are none. Takes some milliseconds: for a speed, divide by
 * the time on the clock of your choice. */
double peak_work(jt_cpu_level level);

#endif
