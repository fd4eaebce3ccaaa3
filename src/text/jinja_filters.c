/* Filters on single values: default, numbers, JSON. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja.h"

static jt_jval do_default(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)run;
    jt_jval otherwise = jt_jstring(jt_jstr(""));
    jt_jarg(args, 0, "default_value", &otherwise);
    bool falsy = jt_jarg_truth(args, 1, "boolean", false) && !jt_jtruth(self);
    return self.kind == JT_J_UNDEFINED || falsy ? otherwise : self;
}

static jt_jval do_abs(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)args;
    if (self.kind == JT_J_FLOAT)
        return jt_jfloat(fabs(self.number));
    if (!jt_jis_number(self) || jt_jinteger(self) == INT64_MIN)
        jt_jfail(run, "abs of %s", jt_jkind_name(self));
    int64_t i = jt_jis_number(self) ? jt_jinteger(self) : 0;
    return jt_jint(i < 0 && i != INT64_MIN ? -i : i);
}

/* The text of a number without white space around it; false when it is too long. */
static bool number_text(jt_str text, char *out, size_t room)
{
    text = jt_jstrip(text, true, true, NULL);
    if (!text.len || text.len >= room || memchr(text.data, '\0', text.len))
        return false;
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

static jt_jval do_int(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    char digits[64], *end;
    int64_t otherwise = jt_jarg_int(run, args, 0, "default", 0);
    int64_t base = jt_jarg_int(run, args, 1, "base", 10);
    if (self.kind == JT_J_FLOAT)
        return jt_jint(fabs(self.number) < 9e18 ? (int64_t)self.number : otherwise);
    if (jt_jis_number(self))
        return jt_jint(jt_jinteger(self));
    if (self.kind != JT_J_STRING || !number_text(self.text, digits, sizeof digits) ||
        base < 2 || base > 36)
        return jt_jint(otherwise);
    errno = 0;
    long long value = strtoll(digits, &end, (int)base);
    if (!*end && !errno)
        return jt_jint(value);
    double real = strtod(digits, &end);
    return jt_jint(!*end && fabs(real) < 9e18 ? (int64_t)real : otherwise);
}

static jt_jval do_float(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    char digits[64], *end;
    jt_jval otherwise = jt_jfloat(0.0);
    (void)run;
    jt_jarg(args, 0, "default", &otherwise);
    if (jt_jis_number(self))
        return jt_jfloat(jt_jnumber(self));
    if (self.kind != JT_J_STRING || !number_text(self.text, digits, sizeof digits))
        return otherwise;
    double value = strtod(digits, &end);
    return *end ? otherwise : jt_jfloat(value);
}

static jt_jval do_round(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    int64_t precision = jt_jarg_int(run, args, 0, "precision", 0);
    jt_str method = jt_jarg_text(run, args, 1, "method", "common");
    if (!jt_jis_number(self) || precision < -18 || precision > 18) {
        jt_jfail(run, "round of %s", jt_jkind_name(self));
        return self;
    }
    double unit = pow(10.0, (double)precision), v = jt_jnumber(self) * unit;
    if (jt_jsame_text(method, jt_jstr("ceil")))
        v = ceil(v);
    else if (jt_jsame_text(method, jt_jstr("floor")))
        v = floor(v);
    else
        v = nearbyint(v); /* halves to even, as Python */
    return jt_jfloat(v / unit);
}

/* json.dumps: separators are ", " and ": ", with an indent "," and ": ". */
static jt_jval do_tojson(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    jt_jval indent = jt_jnone(), separators = jt_jnone();
    jt_jarg(args, 1, "indent", &indent);
    jt_jarg(args, 2, "separators", &separators);
    jt_jjson how = {.ascii = jt_jarg_truth(args, 0, "ensure_ascii", false),
                    .sort_keys = jt_jarg_truth(args, 3, "sort_keys", false),
                    .indent = -1,
                    .item_separator = jt_jstr(", "),
                    .key_separator = jt_jstr(": ")};
    if (indent.kind == JT_J_INT) {
        how.indent = indent.integer > 0 ? (int)(indent.integer & 63) : 0;
        how.item_separator = jt_jstr(",");
    }
    if (jt_jis_list(separators) && separators.list->count == 2 &&
        separators.list->item[0].kind == JT_J_STRING &&
        separators.list->item[1].kind == JT_J_STRING) {
        how.item_separator = separators.list->item[0].text;
        how.key_separator = separators.list->item[1].text;
    }
    jt_jtext text = {0};
    jt_jwrite_json(run, &text, self, &how, 0);
    return jt_jtext_value(&text);
}

const jt_jnamed jt_jinja_value_filters[] = {
    {"abs", do_abs}, {"d", do_default},   {"default", do_default}, {"float", do_float},
    {"int", do_int}, {"round", do_round}, {"tojson", do_tojson},   {NULL, NULL},
};
