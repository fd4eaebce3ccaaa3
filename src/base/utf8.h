/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef JT_BASE_UTF8_H
#define JT_BASE_UTF8_H

#include <stddef.h>

#include "junto/text.h"

/* Bytes of the character at the start of `text`; 0 when none is there. */
size_t jt_utf8_char(const char *text, size_t len);

/* Bytes at the start of `text` that are valid, and that are not. */
size_t jt_utf8_valid(const char *text, size_t len);
size_t jt_utf8_invalid(const char *text, size_t len);

#endif
