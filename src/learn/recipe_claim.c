/* The conditions of claims, computed as they are read. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learn/recipe_impl.h"

typedef struct reader {
    const char *condition, *at; /* `at` stands at a word or at the end */
    jt_claim_lookup *lookup;
    void *user;
    int depth;
    jt_err *err;
} reader;

enum { MAX_DEPTH = 32 };

static bool is_bracket(char c)
{
    return c == '(' || c == ')';
}

static size_t word_length(const reader *r)
{
    size_t len = 0;
    if (is_bracket(*r->at))
        return 1;
    while (r->at[len] && !isspace((unsigned char)r->at[len]) && !is_bracket(r->at[len]))
        len++;
    return len;
}

static void next_word(reader *r)
{
    r->at += word_length(r);
    while (isspace((unsigned char)*r->at))
        r->at++;
}

/* Is the word this single character? */
static bool at(const reader *r, char c)
{
    return *r->at == c && word_length(r) == 1;
}

static jt_status fail_here(const reader *r, const char *expected)
{
    if (!*r->at)
        return jt_fail(r->err, JT_E_ARG, "'%s' ends where %s should come", r->condition,
                       expected);
    return jt_fail(r->err, JT_E_ARG, "'%s': expected %s at '%.*s'", r->condition,
                   expected, (int)word_length(r), r->at);
}

static jt_status read_sum(reader *r, double *value);

/* A number, a metric, or a sum in brackets. */
static jt_status read_factor(reader *r, double *value)
{
    char *end;
    size_t len = word_length(r);
    const char *dot = memchr(r->at, '.', len);
    if (at(r, '(')) {
        if (r->depth++ == MAX_DEPTH)
            return fail_here(r, "fewer brackets");
        next_word(r);
        JT_TRY(read_sum(r, value));
        r->depth--;
        if (!at(r, ')'))
            return fail_here(r, "')'");
    } else if (isdigit((unsigned char)*r->at)) {
        *value = strtod(r->at, &end);
        if (end != r->at + len)
            return fail_here(r, "a number");
    } else if (dot && dot > r->at && dot + 1 < r->at + len) {
        size_t name = (size_t)(dot - r->at);
        jt_status status =
            r->lookup(r->user, r->at, name, dot + 1, len - name - 1, value, r->err);
        if (status != JT_OK)
            return jt_fail_within(r->err, status, "'%s'", r->condition);
    } else {
        return fail_here(r, "a number or VARIANT.METRIC");
    }
    next_word(r);
    return JT_OK;
}

static jt_status read_product(reader *r, double *value)
{
    JT_TRY(read_factor(r, value));
    while (at(r, '*') || at(r, '/')) {
        double right;
        bool times = *r->at == '*';
        next_word(r);
        JT_TRY(read_factor(r, &right));
        *value = times ? *value * right : *value / right;
    }
    return JT_OK;
}

static jt_status read_sum(reader *r, double *value)
{
    JT_TRY(read_product(r, value));
    while (at(r, '+') || at(r, '-')) {
        double right;
        bool plus = *r->at == '+';
        next_word(r);
        JT_TRY(read_product(r, &right));
        *value += plus ? right : -right;
    }
    return JT_OK;
}

jt_status jt_claim_margin(const char *condition, jt_claim_lookup *lookup, void *user,
                          double *margin, jt_err *err)
{
    reader r = {.condition = condition,
                .at = condition,
                .lookup = lookup,
                .user = user,
                .err = err};
    double left, right, least = INFINITY;
    while (isspace((unsigned char)*r.at))
        r.at++;
    JT_TRY(read_sum(&r, &left));
    if (!at(&r, '<') && !at(&r, '>'))
        return fail_here(&r, "< or >");
    while (at(&r, '<') || at(&r, '>')) {
        bool less = *r.at == '<';
        next_word(&r);
        JT_TRY(read_sum(&r, &right));
        double link = less ? right - left : left - right;
        if (isnan(link) || link < least) /* a NaN stays */
            least = link;
        left = right;
    }
    if (*r.at)
        return fail_here(&r, "the end");
    *margin = least;
    return JT_OK;
}
