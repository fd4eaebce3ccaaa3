#include "junto/template.h"

#include <stdlib.h>
#include <string.h>

#include "format/json.h"
#include "text/jinja.h"

enum { MOST_SOURCE = 4 << 20, USUAL_STEPS = 10000000, USUAL_BYTES = 256 << 20 };

static jt_status parse(jt_template *t, jt_str source, jt_err *err)
{
    jt_jparser p = {.arena = &t->arena, .err = err};
    jt_jtoken *tokens;
    JT_TRY(jt_jinja_lex(&tokens, source, &t->arena, err));
    p.token = tokens;
    t->body = jt_jinja_parse(&p);
    return p.status;
}

jt_status jt_template_new(jt_template **out, const char *source, size_t len,
                          jt_err *err)
{
    if (len > MOST_SOURCE)
        return jt_fail(err, JT_E_LIMIT, "a template of %zu bytes (at most %d)", len,
                       MOST_SOURCE);
    jt_template *t = jt_calloc(1, sizeof *t);
    if (!t)
        return jt_fail_memory(err, "reading a template");
    jt_status status = parse(t, (jt_str){source, len}, err);
    if (status != JT_OK) {
        jt_template_free(t);
        return status;
    }
    *out = t;
    return JT_OK;
}

void jt_template_free(jt_template *t)
{
    if (!t)
        return;
    jt_arena_free(&t->arena);
    free(t);
}

/* ---- JSON as values ---- */

static jt_jval read_value(jt_jrun *run, jt_json *j);

/* A number with a fraction or power is a float; a whole one that is too large, too. */
static jt_jval read_number(jt_json *j)
{
    jt_json mark = *j;
    jt_str digits = jt_json_number(j);
    bool whole = true;
    for (size_t i = 0; i < digits.len; i++)
        whole = whole && (digits.data[i] == '-' ||
                          (digits.data[i] >= '0' && digits.data[i] <= '9'));
    if (whole && digits.len < 19)
        return jt_jint(jt_json_int(&mark));
    return jt_jfloat(jt_json_double(&mark));
}

static jt_jval read_members(jt_jrun *run, jt_json *j, jt_json_type type)
{
    bool is_list = type == JT_JSON_ARRAY;
    jt_jval v = is_list ? jt_jlist_new(run, JT_J_LIST) : jt_jdict_new(run, JT_J_DICT);
    jt_json_enter(j, type);
    while (run->status == JT_OK && jt_json_next(j)) {
        jt_str key = j->key;
        jt_jval item = read_value(run, j);
        if (is_list)
            jt_jlist_add(run, v.list, item);
        else
            jt_jdict_set(run, v.dict, jt_jstring(key), item);
    }
    return v;
}

static jt_jval read_value(jt_jrun *run, jt_json *j)
{
    jt_json_type type = jt_json_peek(j);
    switch (type) {
    case JT_JSON_BOOL:
        return jt_jbool(jt_json_bool(j));
    case JT_JSON_NUMBER:
        return read_number(j);
    case JT_JSON_STRING:
        return jt_jstring(jt_json_str(j));
    case JT_JSON_ARRAY:
    case JT_JSON_OBJECT:
        return read_members(run, j, type);
    default:
        jt_json_skip(j);
        return jt_jnone();
    }
}

/* One variable that the template sees, or several. */
static jt_status read_variable(jt_jrun *run, const jt_template_value *v)
{
    const char *name = v->name ? v->name : "values";
    if (v->name && v->plain) {
        jt_jdefine(run, jt_jstr(name), jt_jstring((jt_str){v->data, v->len}));
        return run->status;
    }
    jt_json j;
    jt_json_open(&j, v->data, v->len, &run->arena, run->err);
    if (!v->name && jt_json_peek(&j) != JT_JSON_OBJECT && j.status == JT_OK)
        return jt_fail(run->err, JT_E_ARG, "%s of a template: not a JSON object", name);
    jt_jval value = read_value(run, &j);
    JT_TRY(run->status); /* no memory: the rest was not read */
    jt_status status = jt_json_finish(&j);
    if (status != JT_OK)
        return jt_fail_within(run->err, status == JT_E_FORMAT ? JT_E_ARG : status,
                              "%s of a template", name);
    if (v->name)
        jt_jdefine(run, jt_jstr(name), value);
    for (size_t i = 0; !v->name && run->status == JT_OK && i < value.dict->count; i++)
        jt_jdefine(run, value.dict->pair[i].key.text, value.dict->pair[i].value);
    return run->status;
}

static jt_status render(jt_jrun *run, const jt_template *t,
                        const jt_template_value *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        JT_TRY(read_variable(run, &values[i]));
    /* What the template sets lies above what it was given. */
    jt_jscope own = {.up = run->scope};
    run->scope = &own;
    jt_jexecute(run, t->body);
    return run->status;
}

jt_status jt_template_render(const jt_template *t, const jt_template_value *values,
                             size_t count, const jt_template_limits *limits,
                             char **text, size_t *len, jt_err *err)
{
    jt_template_limits l = limits ? *limits : (jt_template_limits){0};
    jt_jscope given = {0};
    jt_jtext out = {0};
    jt_jrun run = {.bytes_left = l.bytes ? l.bytes : USUAL_BYTES,
                   .steps_left = l.steps ? l.steps : USUAL_STEPS,
                   .now = l.now,
                   .scope = &given,
                   .out = &out,
                   .line = 1,
                   .err = err};
    jt_status status = render(&run, t, values, count);
    if (status == JT_OK) {
        *text = jt_strndup(out.data ? out.data : "", out.len);
        *len = out.len;
        status = *text ? JT_OK : jt_fail_memory(err, "rendering a template");
    }
    jt_arena_free(&run.arena);
    return status;
}
