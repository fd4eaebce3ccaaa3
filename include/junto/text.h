/* UTF-8 for streams of text. */
#ifndef JUNTO_TEXT_H
#define JUNTO_TEXT_H

#include <stddef.h>

#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How many of `len` bytes may be shown now: all of them, but for an incomplete
 * character at the end (at most 3 bytes), which more bytes may complete. Bytes that are
 * not UTF-8 are not held back. A writer that shows this much, keeps the rest and
 * appends to it never tears a character:
 *
 *     size_t n = jt_utf8_whole(buffer, used);
 *     fwrite(buffer, 1, n, stdout);
 *     memmove(buffer, buffer + n, used -= n);
 */
JT_API size_t jt_utf8_whole(const char *text, size_t len);

#ifdef __cplusplus
}
#endif
#endif
