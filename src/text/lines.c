#include "text/lines.h"

#include <ctype.h>
#include <string.h>

jt_str jt_skip_mark(jt_str text)
{
    if (text.len >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0)
        text = (jt_str){text.data + 3, text.len - 3};
    return text;
}

jt_str jt_take_line(jt_str *text)
{
    const char *end = memchr(text->data, '\n', text->len);
    jt_str line = {text->data, end ? (size_t)(end - text->data) + 1 : text->len};
    *text = (jt_str){text->data + line.len, text->len - line.len};
    return line;
}

bool jt_is_blank(jt_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!isspace((unsigned char)text.data[i]))
            return false;
    }
    return true;
}
