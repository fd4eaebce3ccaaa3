#include "adapt/pattern.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/memory.h"

enum { MOST_STEPS = 1000000 };

struct jt_pattern {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

void jt_pattern_free(jt_pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->limits);
    free(p);
}

static jt_status compile(jt_pattern *p, const char *text, jt_err *err)
{
    int code;
    PCRE2_SIZE at;
    p->code =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);
    if (!p->code) {
        char why[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return jt_fail(err, JT_E_ARG, "pattern '%.100s', character %zu: %s", text,
                       (size_t)at + 1, why);
    }
    p->match = pcre2_match_data_create_from_pattern(p->code, NULL);
    p->limits = pcre2_match_context_create(NULL);
    if (!p->match || !p->limits)
        return jt_fail_memory(err, "reading a pattern");
    pcre2_set_match_limit(p->limits, MOST_STEPS);
    return JT_OK;
}

jt_status jt_pattern_new(jt_pattern **out, const char *text, jt_err *err)
{
    jt_pattern *p = jt_calloc(1, sizeof *p);
    if (!p)
        return jt_fail_memory(err, "reading a pattern");
    jt_status status = compile(p, text, err);
    if (status != JT_OK) {
        jt_pattern_free(p);
        return status;
    }
    *out = p;
    return JT_OK;
}

static bool matches_from(const jt_pattern *p, const char *name, uint32_t options)
{
    return pcre2_match(p->code, (PCRE2_SPTR)name, strlen(name), 0, options, p->match,
                       p->limits) >= 0;
}

bool jt_pattern_matches(const jt_pattern *p, const char *name, bool whole)
{
    if (!whole)
        return matches_from(p, name, 0);
    for (; name; name = strchr(name, '.') ? strchr(name, '.') + 1 : NULL) {
        if (matches_from(p, name, PCRE2_ANCHORED | PCRE2_ENDANCHORED))
            return true;
    }
    return false;
}
