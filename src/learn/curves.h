/* The picture of a training run, from its log. */
#ifndef JT_CURVES_H
#define JT_CURVES_H

#include "junto/status.h"

/* Draw the log at `log_path` (journal.h) as an SVG file: loss of each step and
 * smoothed, held out and per domain; balance of the experts; learning rate; the
 * congestion coefficient of each layer where evaluations have one. Panels without data
 * are left out. Its size does not grow with the log. JT_E_IO, JT_E_MEMORY. */
jt_status jt_curves_write(const char *log_path, const char *svg_path, jt_err *err);

#endif
