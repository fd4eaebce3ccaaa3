#include "base/utf8.h"

#include <stdbool.h>

/* Bytes of a character that starts with `lead`; 0 when none does. */
static size_t char_bytes(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2)
        return 0;
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

/* Whether the `len` bytes (1 to 4) can be the beginning of a character that starts with
 * p[0], a valid lead. The second byte is where overlong forms and surrogates show. */
static bool can_begin(const unsigned char *p, size_t len)
{
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return false;
    }
    if (len < 2)
        return true;
    switch (p[0]) {
    case 0xe0:
        return p[1] >= 0xa0;
    case 0xed:
        return p[1] < 0xa0;
    case 0xf0:
        return p[1] >= 0x90;
    case 0xf4:
        return p[1] < 0x90;
    default:
        return true;
    }
}

size_t jt_utf8_char(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t need = len ? char_bytes(*p) : 0;
    return need <= len && can_begin(p, need) ? need : 0;
}

size_t jt_utf8_valid(const char *text, size_t len)
{
    size_t at = 0, n;
    while (at < len && (n = jt_utf8_char(text + at, len - at)) > 0)
        at += n;
    return at;
}

size_t jt_utf8_invalid(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len && jt_utf8_char(text + at, len - at) == 0)
        at++;
    return at;
}

size_t jt_utf8_whole(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t tail = 1; tail <= 3 && tail <= len; tail++) {
        const unsigned char *lead = p + len - tail;
        if ((*lead & 0xc0) == 0x80)
            continue;
        bool open = char_bytes(*lead) > tail && can_begin(lead, tail);
        return open ? len - tail : len;
    }
    return len;
}
