#include "text/nfc.h"

#include <stdbool.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "base/memory.h"

enum { DECOMPOSED_MOST = 4 }; /* canonical decomposition of one character */

/* All characters below U+0300 (first bytes below 0xcc) are normal and stay apart. */
static bool is_plain(jt_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.data[i] >= 0xcc)
            return false;
    }
    return true;
}

static jt_status decompose(jt_nfc *work, jt_str text, size_t *count, jt_err *err)
{
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text.data;
    size_t n = 0;
    for (size_t at = 0; at < text.len;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t len = text.len - at;
        at += (size_t)utf8proc_iterate(bytes + at, len, &c);
        /* utf8proc_reencode wants room for one more. */
        if (!jt_grow((void **)&work->chars, &work->capacity, n + DECOMPOSED_MOST + 1,
                     sizeof *work->chars))
            return jt_fail_memory(err, "normalizing text");
        n += (size_t)utf8proc_decompose_char(c, work->chars + n, DECOMPOSED_MOST,
                                             UTF8PROC_DECOMPOSE, NULL);
    }
    *count = n;
    return JT_OK;
}

static int compare_marks(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sort a run of marks by combining class, keeping the order within a class. Keys carry
 * class, place and character. utf8proc_decompose would do this too, but in quadratic
 * time: a text of nothing but marks could stop the program. */
static jt_status order_run(jt_nfc *work, int32_t *chars, size_t count, jt_err *err)
{
    if (!jt_grow((void **)&work->marks, &work->marks_capacity, count,
                 sizeof *work->marks))
        return jt_fail_memory(err, "normalizing text");
    for (size_t i = 0; i < count; i++) {
        uint64_t class = (uint64_t)utf8proc_get_property(chars[i])->combining_class;
        work->marks[i] = class << 56 | (uint64_t)i << 21 | (uint64_t)chars[i];
    }
    qsort(work->marks, count, sizeof *work->marks, compare_marks);
    for (size_t i = 0; i < count; i++)
        chars[i] = (int32_t)(work->marks[i] & 0x1fffff);
    return JT_OK;
}

static jt_status order_marks(jt_nfc *work, size_t count, jt_err *err)
{
    size_t start = 0; /* of the run of marks that ends before i */
    for (size_t i = 0; i <= count; i++) {
        if (i < count && utf8proc_get_property(work->chars[i])->combining_class)
            continue;
        if (i - start > 1)
            JT_TRY(order_run(work, work->chars + start, i - start, err));
        start = i + 1;
    }
    return JT_OK;
}

jt_status jt_nfc_run(jt_nfc *work, jt_str text, jt_str *out, jt_err *err)
{
    *out = text;
    if (is_plain(text))
        return JT_OK;
    size_t count = 0;
    JT_TRY(decompose(work, text, &count, err));
    JT_TRY(order_marks(work, count, err));
    utf8proc_ssize_t len = utf8proc_reencode(work->chars, (utf8proc_ssize_t)count,
                                             UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    *out = (jt_str){(const char *)work->chars, (size_t)len};
    return JT_OK;
}

void jt_nfc_free(jt_nfc *work)
{
    free(work->chars);
    free(work->marks);
    *work = (jt_nfc){0};
}
