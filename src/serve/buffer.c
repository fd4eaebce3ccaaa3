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

json_t *jt_buffer_json(const jt_buffer *b)
{
    static const char unknown[] = "\xef\xbf\xbd";
    jt_buffer clean = {0};
    bool fits = true;
    for (size_t at = 0; at < b->len && fits;) {
        size_t valid = jt_utf8_valid(b->data + at, b->len - at);
        fits = jt_buffer_add(&clean, b->data + at, valid);
        at += valid;
        size_t bad = jt_utf8_invalid(b->data + at, b->len - at);
        for (size_t i = 0; i < bad; i++)
            fits &= jt_buffer_add(&clean, unknown, sizeof unknown - 1);
        at += bad;
    }
    json_t *json = fits ? json_stringn(clean.data ? clean.data : "", clean.len) : NULL;
    free(clean.data);
    return json;
}
