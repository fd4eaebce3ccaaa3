/* Base64 (RFC 4648), as vocabularies in text files use it for bytes. */
#ifndef JT_TEXT_BASE64_H
#define JT_TEXT_BASE64_H

#include <stdint.h>

#include "junto/gguf.h"

/* Decode into `out`, which has room for 3/4 of the text. Returns how many bytes,
 * SIZE_MAX when it is no base64. */
size_t jt_base64_decode(char *out, jt_str text);

/* As text that ends with NUL and is the caller's to free; NULL when out of memory. */
char *jt_base64_encode(jt_str bytes);

#endif
