/* Small help with text: UTF-8 in streams, words that are nearly the same. */
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

/* Edit distance of two words (insert, delete, replace, swap neighbours), for "did you
 * mean"; words over 40 bytes are infinitely far from all. */
JT_API int jt_text_distance(const char *a, size_t a_len, const char *b, size_t b_len);

#ifdef __cplusplus
}
#endif
#endif
