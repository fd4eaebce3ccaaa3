#include <stdlib.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "junto/tokenizer.h"
#include "watch/report_impl.h"

jt_status jt_report_label_groups(report_groups *out, const jt_trace *trace, jt_err *err)
{
    jt_trace_info info;
    jt_trace_describe(trace, &info);
    out->n_ids = info.n_labels;
    out->of_id = jt_alloc(info.n_labels, 1);
    if (!out->of_id)
        return jt_fail_memory(err, "grouping tokens");
    bool many = info.n_labels > JT_REPORT_GROUPS;
    out->n = many ? JT_REPORT_GROUPS : info.n_labels;
    for (size_t i = 0; i < info.n_labels; i++) {
        size_t group = i < out->n ? i : out->n - 1;
        out->of_id[i] = (uint8_t)group;
        out->names[group] = jt_trace_label_name(trace, (int32_t)i);
    }
    if (many)
        out->names[out->n - 1] = "(all others)";
    return JT_OK;
}

/* ---- classes ---- */

#define CLASS_LIST(X)             \
    X(LETTERS, "letters")         \
    X(DIGITS, "digits")           \
    X(PUNCTUATION, "punctuation") \
    X(SPACES, "spaces")           \
    X(SPECIAL, "special tokens")  \
    X(OTHER, "other")
enum {
#define X(name, text) CLASS_##name,
    CLASS_LIST(X)
#undef X
        CLASSES
};
static const char *const class_names[] = {
#define X(name, text) text,
    CLASS_LIST(X)
#undef X
};

/* By Unicode's general category; marks go with the letters that they belong to. */
static int class_of_char(utf8proc_int32_t c)
{
    if (c == ' ' || (c >= '\t' && c <= '\r'))
        return CLASS_SPACES;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CLASS_LETTERS;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CLASS_DIGITS;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
        return CLASS_PUNCTUATION;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return CLASS_SPACES;
    default:
        return CLASS_OTHER;
    }
}

/* The class of the first character that is no space. */
static int class_of_piece(jt_str piece)
{
    int class = CLASS_OTHER;
    for (size_t at = 0; at < piece.len;) {
        size_t bytes = jt_utf8_char(piece.data + at, piece.len - at);
        utf8proc_int32_t c;
        if (!bytes)
            return CLASS_OTHER; /* a part of a character */
        utf8proc_iterate((const utf8proc_uint8_t *)piece.data + at,
                         (utf8proc_ssize_t)bytes, &c);
        class = class_of_char(c);
        if (class != CLASS_SPACES)
            return class;
        at += bytes;
    }
    return class;
}

jt_status jt_report_class_groups(report_groups *out, const jt_tokenizer *tokenizer,
                                 jt_err *err)
{
    out->n_ids = jt_vocab_size(tokenizer);
    out->of_id = jt_alloc(out->n_ids, 1);
    if (!out->of_id)
        return jt_fail_memory(err, "grouping tokens");
    out->n = CLASSES;
    for (int i = 0; i < CLASSES; i++)
        out->names[i] = class_names[i];
    for (size_t i = 0; i < out->n_ids; i++) {
        int32_t id = (int32_t)i;
        int class = jt_token_is_special(tokenizer, id)
                        ? CLASS_SPECIAL
                        : class_of_piece(jt_token_piece(tokenizer, id));
        out->of_id[i] = (uint8_t) class;
    }
    return JT_OK;
}
