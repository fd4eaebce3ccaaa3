/* Tests: what stands after "is". */
#include "text/jinja.h"

/* A test of the kind alone. */
#define KIND_TEST(name, condition)                                     \
    static jt_jval name(jt_jrun *run, jt_jval v, const jt_jargs *args) \
    {                                                                  \
        (void)run;                                                     \
        (void)args;                                                    \
        return jt_jbool(condition);                                    \
    }

KIND_TEST(is_defined, v.kind != JT_J_UNDEFINED)
KIND_TEST(is_undefined, v.kind == JT_J_UNDEFINED)
KIND_TEST(is_none, v.kind == JT_J_NONE)
KIND_TEST(is_boolean, v.kind == JT_J_BOOL)
KIND_TEST(is_true, v.kind == JT_J_BOOL && v.truth)
KIND_TEST(is_false, v.kind == JT_J_BOOL && !v.truth)
KIND_TEST(is_integer, v.kind == JT_J_INT)
KIND_TEST(is_float, v.kind == JT_J_FLOAT)
KIND_TEST(is_number, jt_jis_number(v))
KIND_TEST(is_string, v.kind == JT_J_STRING)
KIND_TEST(is_mapping, v.kind == JT_J_DICT)
KIND_TEST(is_callable, v.kind == JT_J_CALLABLE)
KIND_TEST(is_iterable, v.kind == JT_J_UNDEFINED || v.kind == JT_J_STRING ||
                           v.kind == JT_J_DICT || jt_jis_list(v))
KIND_TEST(is_sequence, v.kind == JT_J_UNDEFINED || v.kind == JT_J_STRING ||
                           v.kind == JT_J_DICT || jt_jis_list(v))
KIND_TEST(is_filter, v.kind == JT_J_STRING && jt_jinja_filter(v.text))
KIND_TEST(is_test, v.kind == JT_J_STRING && jt_jnamed_find(jt_jinja_tests, v.text))

static jt_jval other(jt_jrun *run, const jt_jargs *args)
{
    jt_jval v = jt_jnone();
    if (!jt_jarg(args, 0, "other", &v))
        jt_jfail(run, "a test without the value to compare with");
    return v;
}

static jt_jval is_eq(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    return jt_jbool(jt_jequal(run, v, other(run, args)));
}

static jt_jval is_ne(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    return jt_jbool(!jt_jequal(run, v, other(run, args)));
}

static jt_jval is_lt(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    return jt_jbool(jt_jcompare(run, v, other(run, args)) < 0);
}

static jt_jval is_le(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    return jt_jbool(jt_jcompare(run, v, other(run, args)) <= 0);
}

static jt_jval is_gt(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    return jt_jbool(jt_jcompare(run, v, other(run, args)) > 0);
}

static jt_jval is_ge(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    return jt_jbool(jt_jcompare(run, v, other(run, args)) >= 0);
}

static jt_jval is_in(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    return jt_jbool(jt_jcontains(run, other(run, args), v));
}

/* The same object: for values that JSON has, the same kind and value. */
static jt_jval is_sameas(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    jt_jval o = other(run, args);
    return jt_jbool(v.kind == o.kind && jt_jequal(run, v, o));
}

static int64_t whole(jt_jrun *run, jt_jval v)
{
    if (v.kind == JT_J_INT || v.kind == JT_J_BOOL)
        return jt_jinteger(v);
    jt_jfail(run, "%s is not a whole number", jt_jkind_name(v));
    return 0;
}

static jt_jval is_divisibleby(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    int64_t by = whole(run, other(run, args));
    if (by == 0)
        jt_jfail(run, "division by zero");
    return jt_jbool(by == -1 || (by != 0 && whole(run, v) % by == 0));
}

static jt_jval is_even(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    (void)args;
    return jt_jbool(whole(run, v) % 2 == 0);
}

static jt_jval is_odd(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    (void)args;
    return jt_jbool(whole(run, v) % 2 != 0);
}

static jt_jval by_method(jt_jrun *run, jt_jval v, const char *method)
{
    jt_jargs none = {0};
    jt_jval text = jt_jstring(jt_jshow(run, v));
    return jt_jnamed_find(jt_jinja_string_methods, jt_jstr(method))(run, text, &none);
}

static jt_jval is_lower(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    (void)args;
    return by_method(run, v, "islower");
}

static jt_jval is_upper(jt_jrun *run, jt_jval v, const jt_jargs *args)
{
    (void)args;
    return by_method(run, v, "isupper");
}

const jt_jnamed jt_jinja_tests[] = {
    {"boolean", is_boolean},
    {"callable", is_callable},
    {"defined", is_defined},
    {"divisibleby", is_divisibleby},
    {"eq", is_eq},
    {"equalto", is_eq},
    {"even", is_even},
    {"false", is_false},
    {"filter", is_filter},
    {"float", is_float},
    {"ge", is_ge},
    {"greaterthan", is_gt},
    {"gt", is_gt},
    {"in", is_in},
    {"integer", is_integer},
    {"iterable", is_iterable},
    {"le", is_le},
    {"lessthan", is_lt},
    {"lower", is_lower},
    {"lt", is_lt},
    {"mapping", is_mapping},
    {"ne", is_ne},
    {"none", is_none},
    {"number", is_number},
    {"odd", is_odd},
    {"sameas", is_sameas},
    {"sequence", is_sequence},
    {"string", is_string},
    {"test", is_test},
    {"true", is_true},
    {"undefined", is_undefined},
    {"upper", is_upper},
    {"==", is_eq},
    {"!=", is_ne},
    {"<", is_lt},
    {"<=", is_le},
    {">", is_gt},
    {">=", is_ge},
    {NULL, NULL},
};
