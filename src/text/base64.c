#include "text/base64.h"

#include <string.h>

#include "base/memory.h"

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Six bits of base64; -1 for other characters. */
static int base64_digit(char c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
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

char *jt_base64_encode(jt_str bytes)
{
    const unsigned char *from = (const unsigned char *)bytes.data;
    char *text = jt_alloc(bytes.len / 3 + 2, 4);
    size_t n = 0;
    for (size_t i = 0; text && i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t bits = (uint32_t)from[i] << 16 |
                        (uint32_t)(left > 1 ? from[i + 1] : 0) << 8 |
                        (left > 2 ? from[i + 2] : 0);
        for (size_t k = 0; k < 4; k++)
            text[n++] = k <= left ? alphabet[bits >> (18 - 6 * k) & 63] : '=';
    }
    if (text)
        text[n] = '\0';
    return text;
}
