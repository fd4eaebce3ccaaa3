/* The alphabet of byte-level vocabularies: GPT-2 writes each byte as a printable
 * character, so that tokens are text. */
#ifndef JT_TEXT_ALPHABET_H
#define JT_TEXT_ALPHABET_H

#include "junto/gguf.h"

/* The character of `byte`: its UTF-8 in out[], 1 or 2 bytes. */
size_t jt_alphabet_char(unsigned char byte, char out[2]);

/* All bytes, in the order of their characters. */
void jt_alphabet_order(unsigned char bytes[256]);

/* The bytes that `text` stands for, at most as many as it has itself, into `out`; the
 * text as it is when a character is not of the alphabet. Returns how many. */
size_t jt_alphabet_decode(char *out, jt_str text);

#endif
