#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "shrink/rules.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

typedef struct rule {
    pcre2_code *code;
    jt_dtype dtype;
} rule;

struct jt_rules {
    size_t count;
    rule *items;
    pcre2_match_data *match;
};

static jt_status read_rule(rule *out, const char *text, jt_err *err)
{
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text)
        return jt_fail(err, JT_E_ARG, "rule '%s' is not of the form regex=type", text);
    if (!jt_dtype_from_name(equals + 1, &out->dtype) ||
        !jt_dtype_is_weight(out->dtype) || !jt_dtype_can_quantize(out->dtype))
        return jt_fail(err, JT_E_ARG, "rule '%s': no type '%s' that can be written",
                       text, equals + 1);
    int code;
    PCRE2_SIZE at;
    out->code = pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)(equals - text), 0, &code,
                              &at, NULL);
    if (out->code)
        return JT_OK;
    PCRE2_UCHAR why[128] = {0};
    pcre2_get_error_message(code, why, sizeof why);
    return jt_fail(err, JT_E_ARG, "rule '%s': %s at %zu", text, (const char *)why,
                   (size_t)at);
}

jt_status jt_rules_new(jt_rules **out, const char *const *texts, size_t count,
                       jt_err *err)
{
    jt_rules *r = jt_calloc(1, sizeof *r);
    if (!r)
        return jt_fail_memory(err, "reading rules");
    r->items = jt_calloc(count, sizeof *r->items);
    r->match = pcre2_match_data_create(1, NULL);
    jt_status status =
        r->items && r->match ? JT_OK : jt_fail_memory(err, "reading rules");
    for (; status == JT_OK && r->count < count; r->count++)
        status = read_rule(&r->items[r->count], texts[r->count], err);
    if (status == JT_OK)
        *out = r;
    else
        jt_rules_free(r);
    return status;
}

void jt_rules_free(jt_rules *r)
{
    if (!r)
        return;
    for (size_t i = 0; r->items && i < r->count; i++)
        pcre2_code_free(r->items[i].code);
    pcre2_match_data_free(r->match);
    free(r->items);
    free(r);
}

/* A match that takes too long counts as none: pcre2's own limit. */
bool jt_rules_find(const jt_rules *r, const char *name, jt_dtype *dtype)
{
    for (size_t i = 0; i < r->count; i++)
        if (pcre2_match(r->items[i].code, (PCRE2_SPTR)name, strlen(name), 0, 0,
                        r->match, NULL) >= 0) {
            *dtype = r->items[i].dtype;
            return true;
        }
    return false;
}
