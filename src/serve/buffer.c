#include "serve/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

bool jt_buffer_add(jt_buffer *b, const char *text, size_t len)
{
    if (len == 0)
        return true;
    if (!jt_grow((void **)&b->data, &b->capacity, b->len + len, 1))
        return false;
    memcpy(b->data + b->len, text, len);
    b->len += len;
    return true;
}

void jt_buffer_drop(jt_buffer *b, size_t n)
{
    b->len -= n;
    if (b->len)
        memmove(b->data, b->data + n, b->len);
}

size_t jt_buffer_tail(const jt_buffer *b, const char *mark)
{
    size_t most = strlen(mark) - 1, n = most < b->len ? most : b->len;
    while (n && memcmp(b->data + b->len - n, mark, n) != 0)
        n--;
    return n;
}

static bool add_unknown(jt_buffer *b, size_t count)
{
    static const char unknown[] = "\xef\xbf\xbd";
    bool fits = true;
    for (size_t i = 0; i < count && fits; i++)
        fits = jt_buffer_add(b, unknown, sizeof unknown - 1);
    return fits;
}

/* A NUL is valid UTF-8, but a reader refuses \u0000: so would ours when a client sends
 * an answer back as part of a conversation. */
json_t *jt_buffer_json(const jt_buffer *b)
{
    jt_buffer clean = {0};
    bool fits = true;
    for (size_t at = 0; at < b->len && fits;) {
        size_t rest = b->len - at, valid = jt_utf8_valid(b->data + at, rest);
        const char *nul = memchr(b->data + at, '\0', valid);
        if (nul)
            valid = (size_t)(nul - (b->data + at));
        size_t bad = nul ? 1 : jt_utf8_invalid(b->data + at + valid, rest - valid);
        fits = jt_buffer_add(&clean, b->data + at, valid) && add_unknown(&clean, bad);
        at += valid + bad;
    }
    json_t *json = fits ? json_stringn(clean.data ? clean.data : "", clean.len) : NULL;
    free(clean.data);
    return json;
}
