/* Functions that every template has. */
#include <time.h>

#include "text/jinja.h"

static jt_jval do_range(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)self;
    int64_t first = jt_jarg_int(run, args, 0, "start", 0), from = 0, to = first,
            step = 1;
    if (args->count > 1) {
        from = first;
        to = jt_jarg_int(run, args, 1, "stop", 0);
        step = jt_jarg_int(run, args, 2, "step", 1);
    }
    jt_jval list = jt_jlist_new(run, JT_J_LIST);
    if (step == 0)
        jt_jfail(run, "range() with step 0");
    for (int64_t i = from; run->status == JT_OK && (step > 0 ? i < to : i > to);) {
        jt_jlist_add(run, list.list, jt_jint(i));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    return list;
}

/* The named arguments as a dict or namespace, upon those of a dict given first. */
static jt_jval members(jt_jrun *run, const jt_jargs *args, jt_jkind kind)
{
    jt_jval dict = jt_jdict_new(run, kind), from;
    if (jt_jarg(args, 0, "", &from)) {
        if (from.kind != JT_J_DICT)
            jt_jfail(run, "dict() of %s", jt_jkind_name(from));
        for (size_t i = 0; run->status == JT_OK && i < from.dict->count; i++)
            jt_jdict_set(run, dict.dict, from.dict->pair[i].key,
                         from.dict->pair[i].value);
    }
    for (size_t i = 0; run->status == JT_OK && i < args->named.count; i++)
        jt_jdict_set(run, dict.dict, args->named.pair[i].key,
                     args->named.pair[i].value);
    return dict;
}

static jt_jval do_dict(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)self;
    return members(run, args, JT_J_DICT);
}

static jt_jval do_namespace(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)self;
    return members(run, args, JT_J_NAMESPACE);
}

static jt_jval do_raise(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)self;
    jt_jval message = jt_jnone();
    jt_jarg(args, 0, "message", &message);
    jt_str text = jt_jshow(run, message);
    jt_jfail(run, "it says: %.*s", (int)(text.len < 300 ? text.len : 300), text.data);
    return jt_jnone();
}

static jt_jval do_strftime(jt_jrun *run, jt_jval self, const jt_jargs *args)
{
    (void)self;
    jt_str format = jt_jarg_text(run, args, 0, "format", NULL);
    char how[200], shown[400];
    struct tm parts;
    time_t now = run->now ? (time_t)run->now : time(NULL);
    size_t n = 0;
    if (format.len >= sizeof how || !localtime_r(&now, &parts)) {
        jt_jfail(run, "strftime_now() with a format that is too long");
        return jt_jnone();
    }
    __builtin_memcpy(how, format.data, format.len);
    how[format.len] = '\0';
    n = strftime(shown, sizeof shown, how, &parts);
    jt_jtext text = {0};
    jt_jwrite(run, &text, shown, n);
    return jt_jtext_value(&text);
}

const jt_jnamed jt_jinja_globals[] = {
    {"dict", do_dict},   {"namespace", do_namespace},   {"raise_exception", do_raise},
    {"range", do_range}, {"strftime_now", do_strftime}, {NULL, NULL},
};
