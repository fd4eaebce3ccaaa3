/* Text line by line. */
#ifndef JT_LINES_H
#define JT_LINES_H

#include <stdbool.h>

#include "junto/gguf.h"

/* Without a byte order mark. */
jt_str jt_skip_mark(jt_str text);
/* Take the first line, with its end, off `text`. */
jt_str jt_take_line(jt_str *text);
bool jt_is_blank(jt_str text);

#endif
