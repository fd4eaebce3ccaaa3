#include "text/alphabet.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

/* Printable characters of Latin-1 stand for themselves. */
static bool is_printable(unsigned c)
{
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xff && c != 0xad);
}

enum { FIRST_OTHER = 0x100, OTHERS = 68 }; /* the other bytes, in order */

static unsigned code_point(unsigned char byte)
{
    if (is_printable(byte))
        return byte;
    unsigned before = 0;
    for (unsigned b = 0; b < byte; b++)
        before += !is_printable(b);
    return FIRST_OTHER + before;
}

/* -1: not of the alphabet. */
static int byte_of(unsigned code)
{
    if (code < FIRST_OTHER)
        return is_printable(code) ? (int)code : -1;
    if (code >= FIRST_OTHER + OTHERS)
        return -1;
    unsigned n = code - FIRST_OTHER;
    /* 0x00 to 0x20, 0x7f to 0xa0, 0xad */
    return (int)(n <= 0x20 ? n : n <= 0x42 ? n + 0x7f - 0x21 : 0xad);
}

size_t jt_alphabet_char(unsigned char byte, char out[2])
{
    unsigned code = code_point(byte);
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

void jt_alphabet_order(unsigned char bytes[256])
{
    size_t n = 0;
    for (unsigned code = 0; code < FIRST_OTHER + OTHERS; code++) {
        int byte = byte_of(code);
        if (byte >= 0)
            bytes[n++] = (unsigned char)byte;
    }
}

size_t jt_alphabet_decode(char *out, jt_str text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned code = (unsigned char)text.data[i];
        if (code >= 0x80) { /* two bytes, or not of the alphabet, as 0 is not */
            bool two = jt_utf8_char(text.data + i, text.len - i) == 2;
            code =
                two ? (code & 0x1f) << 6 | ((unsigned char)text.data[++i] & 0x3f) : 0;
        }
        int byte = byte_of(code);
        if (byte < 0) {
            memcpy(out, text.data, text.len);
            return text.len;
        }
        out[n++] = (char)byte;
    }
    return n;
}
