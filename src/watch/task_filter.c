/* What a reply says: an expression picks it out, and white space round it is nothing.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <ctype.h>
#include <pcre2.h>
#include <stdlib.h>
#include <strings.h>
#include <string.h>

#include "base/memory.h"
#include "watch/task.h"

enum { MOST_STEPS = 1000000 }; /* of the expression engine, on one reply */

struct jt_filter {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
};

jt_status jt_filter_new(jt_filter **out, const char *expression, jt_err *err)
{
    int code;
    PCRE2_SIZE at;
    jt_filter *f = jt_calloc(1, sizeof *f);
    if (!f)
        return jt_fail_memory(err, "reading a task");
    f->code = pcre2_compile((PCRE2_SPTR)expression, strlen(expression),
                            PCRE2_UTF | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);
    if (!f->code) {
        PCRE2_UCHAR why[128];
        pcre2_get_error_message(code, why, sizeof why);
        jt_filter_free(f);
        return jt_fail(err, JT_E_FORMAT, "\"filter\", character %zu: %s", (size_t)at,
                       (const char *)why);
    }
    f->match = pcre2_match_data_create_from_pattern(f->code, NULL);
    f->context = pcre2_match_context_create(NULL);
    if (!f->match || !f->context) {
        jt_filter_free(f);
        return jt_fail_memory(err, "reading a task");
    }
    pcre2_set_match_limit(f->context, MOST_STEPS);
    *out = f;
    return JT_OK;
}

void jt_filter_free(jt_filter *filter)
{
    if (!filter)
        return;
    pcre2_match_context_free(filter->context);
    pcre2_match_data_free(filter->match);
    pcre2_code_free(filter->code);
    free(filter);
}

/* The first group of the first match, or all of it without groups; false: no match. */
static bool pick(const jt_filter *f, jt_str *text)
{
    int n = pcre2_match(f->code, (PCRE2_SPTR)text->data, text->len, 0, 0, f->match,
                        f->context);
    if (n <= 0)
        return false;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(f->match);
    size_t i = n > 1 && at[2] != PCRE2_UNSET ? 2 : 0;
    if (at[i] > at[i + 1]) /* \K may do that */
        return false;
    *text = (jt_str){text->data + at[i], at[i + 1] - at[i]};
    return true;
}

static jt_str strip(jt_str text)
{
    while (text.len && isspace((unsigned char)text.data[0]))
        text = (jt_str){text.data + 1, text.len - 1};
    while (text.len && isspace((unsigned char)text.data[text.len - 1]))
        text.len--;
    return text;
}

bool jt_reply_is_right(const jt_task *task, const jt_question *q, jt_str reply)
{
    if (task->filter && !pick(task->filter, &reply))
        return false;
    reply = strip(reply);
    for (size_t i = 0; i < q->n_options; i++) {
        jt_str answer = strip(q->options[i]);
        if (answer.len != reply.len)
            continue;
        if (task->ignore_case ? strncasecmp(answer.data, reply.data, reply.len) == 0
                              : memcmp(answer.data, reply.data, reply.len) == 0)
            return true;
    }
    return false;
}
