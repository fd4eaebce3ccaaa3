#include "text/base64.h"

#include <string.h>

/* Six bits of base64; -1 for other characters. */
static int base64_digit(char c)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

size_t jt_base64_decode(char *out, jt_str text)
{
    uint32_t bits = 0;
    size_t n = 0, digits = 0;
    while (text.len > 0 && text.data[text.len - 1] == '=')
        text.len--;
    for (size_t i = 0; i < text.len; i++) {
        int digit = base64_digit(text.data[i]);
        if (digit < 0)
            return SIZE_MAX;
        bits = bits << 6 | (uint32_t)digit;
        if (++digits % 4 != 1)
            out[n++] = (char)(bits >> (6 - 2 * ((digits - 1) % 4)));
    }
    return digits % 4 == 1 ? SIZE_MAX : n;
}
