/* What drawings share: text as SVG and HTML hold it, and ticks of an axis. */
#ifndef JT_BASE_SVG_H
#define JT_BASE_SVG_H

#include <stdio.h>

/* Any bytes, as text of an element or of a quoted attribute: nothing in them is markup,
 * control characters become '?', what is not UTF-8 becomes U+FFFD. */
void jt_svg_text(FILE *out, const char *text);

/* The distance of ticks over `range` > 0: 1, 2 or 5 times a power of ten, so that there
 * are `count` or a few less. */
double jt_tick_step(double range, int count);

#endif
