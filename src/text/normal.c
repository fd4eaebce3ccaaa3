#include "text/normal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "base/memory.h"

enum { DECOMPOSED_MOST = 18 }; /* one character becomes, U+FDFA in form KD */

/* ASCII is normal in all forms. In form C all characters below U+0300 (first bytes
 * below 0xcc) are, and stay apart. */
static bool is_plain(jt_normal_form form, jt_str text)
{
    unsigned char first = form == JT_NFC ? 0xcc : 0x80;
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.data[i] >= first)
            return false;
    }
    return true;
}

static jt_status decompose(jt_normal *work, jt_normal_form form, jt_str text,
                           size_t *count, jt_err *err)
{
    utf8proc_option_t how = UTF8PROC_DECOMPOSE;
    if (form == JT_NFKC || form == JT_NFKD)
        how |= UTF8PROC_COMPAT;
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
        n += (size_t)utf8proc_decompose_char(c, work->chars + n, DECOMPOSED_MOST, how,
                                             NULL);
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
static jt_status order_run(jt_normal *work, int32_t *chars, size_t count, jt_err *err)
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

static jt_status order_marks(jt_normal *work, size_t count, jt_err *err)
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

jt_status jt_normal_run(jt_normal *work, jt_normal_form form, jt_str text, jt_str *out,
                        jt_err *err)
{
    *out = text;
    if (is_plain(form, text))
        return JT_OK;
    size_t count = 0;
    JT_TRY(decompose(work, form, text, &count, err));
    JT_TRY(order_marks(work, count, err));
    utf8proc_option_t how = UTF8PROC_STABLE;
    if (form == JT_NFC || form == JT_NFKC)
        how |= UTF8PROC_COMPOSE;
    utf8proc_ssize_t len = utf8proc_reencode(work->chars, (utf8proc_ssize_t)count, how);
    *out = (jt_str){(const char *)work->chars, (size_t)len};
    return JT_OK;
}

void jt_normal_free(jt_normal *work)
{
    free(work->chars);
    free(work->marks);
    *work = (jt_normal){0};
}

/* ---- characters ---- */

int32_t jt_char_at(jt_str text)
{
    utf8proc_int32_t c = -1;
    (void)utf8proc_iterate((const utf8proc_uint8_t *)text.data,
                           (utf8proc_ssize_t)text.len, &c);
    return c;
}

size_t jt_char_bytes(int32_t c)
{
    return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

bool jt_char_is_space(int32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= '\t' && c <= '\r');
    utf8proc_category_t category = utf8proc_category(c);
    return c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

bool jt_char_is_mark(int32_t c, bool all)
{
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_MN ||
           (all &&
            (category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME));
}

bool jt_char_is_control(int32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r')
        return false;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
        return true;
    default:
        return false;
    }
}

bool jt_char_is_ideograph(int32_t c)
{
    /* 2b920 is where the published code begins, Unicode's extension E begins at 2b820.
     */
    static const int32_t ranges[][2] = {
        {0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},   {0x20000, 0x2a6df},
        {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f}, {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    }
    return false;
}

bool jt_char_is_word(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
           category == UTF8PROC_CATEGORY_PC;
}

size_t jt_char_lower(int32_t c, int32_t out[2])
{
    enum { CAPITAL_I_DOT = 0x130, DOT_ABOVE = 0x307 };
    out[0] = c == CAPITAL_I_DOT ? 'i' : utf8proc_tolower(c);
    out[1] = DOT_ABOVE;
    return c == CAPITAL_I_DOT ? 2 : 1;
}
