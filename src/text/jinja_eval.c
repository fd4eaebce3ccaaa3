/* The value of an expression. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja.h"

enum { MOST_DEPTH = 400 };

/* ---- the run's hands ---- */

void jt_jfail(jt_jrun *run, const char *fmt, ...)
{
    char what[400];
    va_list args;
    if (run->status != JT_OK)
        return;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    run->status =
        jt_fail(run->err, JT_E_FORMAT, "template line %d: %s", run->line, what);
}

bool jt_jstep(jt_jrun *run, size_t steps)
{
    if (run->status == JT_OK && run->steps_left <= steps)
        run->status = jt_fail(run->err, JT_E_LIMIT,
                              "template line %d: it takes too many steps", run->line);
    run->steps_left -= run->status == JT_OK ? steps : 0;
    return run->status == JT_OK;
}

bool jt_jenter(jt_jrun *run)
{
    if (!jt_jstep(run, 1))
        return false;
    if (run->depth >= MOST_DEPTH) {
        run->status =
            jt_fail(run->err, JT_E_LIMIT,
                    "template line %d: calls or values nested too deeply", run->line);
        return false;
    }
    run->depth++;
    return true;
}

void *jt_jalloc(jt_jrun *run, size_t count, size_t size)
{
    size_t bytes;
    if (run->status != JT_OK)
        return NULL;
    if (!jt_mul(count, size, &bytes) || bytes > run->bytes_left) {
        run->status = jt_fail(run->err, JT_E_LIMIT,
                              "template line %d: it takes too much memory", run->line);
        return NULL;
    }
    run->bytes_left -= bytes;
    void *memory = jt_arena_alloc(&run->arena, bytes + 1, 1);
    if (!memory)
        run->status = jt_fail_memory(run->err, "rendering a template");
    return memory;
}

/* ---- arguments ---- */

bool jt_jarg(const jt_jargs *args, size_t i, const char *name, jt_jval *out)
{
    const jt_jval *found =
        i < args->count ? &args->item[i] : jt_jdict_find_name(&args->named, name);
    if (found)
        *out = *found;
    return found != NULL;
}

int64_t jt_jarg_int(jt_jrun *run, const jt_jargs *args, size_t i, const char *name,
                    int64_t usual)
{
    jt_jval value;
    if (!jt_jarg(args, i, name, &value) || value.kind == JT_J_NONE)
        return usual;
    if (value.kind != JT_J_INT && value.kind != JT_J_BOOL)
        jt_jfail(run, "argument '%s' is %s, not a whole number", name,
                 jt_jkind_name(value));
    return jt_jis_number(value) ? jt_jinteger(value) : usual;
}

bool jt_jarg_truth(const jt_jargs *args, size_t i, const char *name, bool usual)
{
    jt_jval value;
    return jt_jarg(args, i, name, &value) ? jt_jtruth(value) : usual;
}

jt_str jt_jarg_text(jt_jrun *run, const jt_jargs *args, size_t i, const char *name,
                    const char *usual)
{
    jt_jval value = usual ? jt_jstring(jt_jstr(usual)) : jt_jnone();
    jt_jarg(args, i, name, &value);
    if (value.kind == JT_J_STRING)
        return value.text;
    jt_jfail(run, "argument '%s' is %s, not a text", name, jt_jkind_name(value));
    return jt_jstr("");
}

static jt_jargs eval_arguments(jt_jrun *run, const jt_jnode *list)
{
    jt_jargs args = {0};
    size_t count = 0;
    for (const jt_jnode *n = list; n; n = n->next)
        count++;
    jt_jval *item = jt_jalloc(run, count, sizeof *item);
    for (; item && list; list = list->next) {
        if (list->kind == JT_N_KEYWORD)
            jt_jdict_set(run, &args.named, jt_jstring(list->text),
                         jt_jeval(run, list->a));
        else
            item[args.count++] = jt_jeval(run, list);
    }
    args.item = item;
    return args;
}

/* ---- arithmetic ---- */

static jt_jval fail_operands(jt_jrun *run, jt_jop op, jt_jval a, jt_jval b)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    jt_jfail(run, "'%s' does not go with %s and %s", signs[op], jt_jkind_name(a),
             jt_jkind_name(b));
    return jt_jnone();
}

/* Python's rounding: towards minus infinity; the remainder has the divisor's sign. */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static bool int_power(int64_t base, int64_t exponent, int64_t *out)
{
    *out = 1;
    for (int64_t i = 0; i < exponent; i++) {
        if (__builtin_mul_overflow(*out, base, out))
            return false;
        if (*out == 0 || *out == 1)
            break;
    }
    return true;
}

static jt_jval int_binary(jt_jrun *run, jt_jop op, int64_t a, int64_t b)
{
    int64_t r = 0;
    bool fits = true;
    if ((op == JT_OP_FLOORDIV || op == JT_OP_MOD) && (b == 0 || b == -1)) {
        if (b == 0)
            jt_jfail(run, "division by zero");
        return op == JT_OP_MOD || !b ? jt_jint(0) : int_binary(run, JT_OP_SUB, 0, a);
    }
    switch (op) {
    case JT_OP_ADD:
        fits = !__builtin_add_overflow(a, b, &r);
        break;
    case JT_OP_SUB:
        fits = !__builtin_sub_overflow(a, b, &r);
        break;
    case JT_OP_MUL:
        fits = !__builtin_mul_overflow(a, b, &r);
        break;
    case JT_OP_FLOORDIV:
        r = floor_div(a, b);
        break;
    case JT_OP_MOD:
        r = a - floor_div(a, b) * b;
        break;
    default:
        fits = int_power(a, b, &r);
    }
    if (!fits)
        jt_jfail(run, "a number that is too large");
    return jt_jint(r);
}

static jt_jval float_binary(jt_jrun *run, jt_jop op, double a, double b)
{
    if ((op == JT_OP_DIV || op == JT_OP_FLOORDIV || op == JT_OP_MOD) && b == 0.0) {
        jt_jfail(run, "division by zero");
        return jt_jnone();
    }
    switch (op) {
    case JT_OP_ADD:
        return jt_jfloat(a + b);
    case JT_OP_SUB:
        return jt_jfloat(a - b);
    case JT_OP_MUL:
        return jt_jfloat(a * b);
    case JT_OP_DIV:
        return jt_jfloat(a / b);
    case JT_OP_FLOORDIV:
        return jt_jfloat(floor(a / b));
    case JT_OP_MOD:
        return jt_jfloat(a - floor(a / b) * b);
    default:
        return jt_jfloat(pow(a, b));
    }
}

static jt_jval join_lists(jt_jrun *run, jt_jval a, jt_jval b)
{
    jt_jval list = jt_jlist_new(run, a.kind);
    for (size_t i = 0; run->status == JT_OK && i < a.list->count; i++)
        jt_jlist_add(run, list.list, a.list->item[i]);
    for (size_t i = 0; run->status == JT_OK && i < b.list->count; i++)
        jt_jlist_add(run, list.list, b.list->item[i]);
    return list;
}

static jt_jval join_texts(jt_jrun *run, jt_str a, jt_str b)
{
    char *both = jt_jstep(run, 1 + (a.len + b.len) / 256)
                     ? jt_jalloc(run, a.len + b.len, 1)
                     : NULL;
    if (!both)
        return jt_jnone();
    memcpy(both, a.data, a.len);
    memcpy(both + a.len, b.data, b.len);
    return jt_jstring((jt_str){both, a.len + b.len});
}

/* "ab" * 3, [1] * 3. */
static jt_jval repeat(jt_jrun *run, jt_jval v, int64_t times)
{
    if (v.kind == JT_J_STRING) {
        jt_jtext text = {0};
        for (int64_t i = 0; i < times && jt_jstep(run, 1 + v.text.len / 256); i++)
            jt_jwrite(run, &text, v.text.data, v.text.len);
        return jt_jtext_value(&text);
    }
    jt_jval list = jt_jlist_new(run, v.kind);
    for (int64_t i = 0; i < times && jt_jstep(run, 1); i++) {
        for (size_t j = 0; j < v.list->count && run->status == JT_OK; j++)
            jt_jlist_add(run, list.list, v.list->item[j]);
    }
    return list;
}

static bool is_sequence(jt_jval v)
{
    return v.kind == JT_J_STRING || jt_jis_list(v);
}

static jt_jval binary(jt_jrun *run, jt_jop op, jt_jval a, jt_jval b)
{
    if (run->status != JT_OK)
        return jt_jnone();
    if (op == JT_OP_CONCAT)
        return join_texts(run, jt_jshow(run, a), jt_jshow(run, b));
    if (jt_jis_number(a) && jt_jis_number(b)) {
        bool real = a.kind == JT_J_FLOAT || b.kind == JT_J_FLOAT || op == JT_OP_DIV ||
                    (op == JT_OP_POW && jt_jinteger(b) < 0);
        return real ? float_binary(run, op, jt_jnumber(a), jt_jnumber(b))
                    : int_binary(run, op, jt_jinteger(a), jt_jinteger(b));
    }
    if (op == JT_OP_ADD && a.kind == b.kind && a.kind == JT_J_STRING)
        return join_texts(run, a.text, b.text);
    if (op == JT_OP_ADD && a.kind == b.kind && jt_jis_list(a))
        return join_lists(run, a, b);
    if (op == JT_OP_MUL && is_sequence(a) && b.kind == JT_J_INT)
        return repeat(run, a, b.integer);
    if (op == JT_OP_MUL && is_sequence(b) && a.kind == JT_J_INT)
        return repeat(run, b, a.integer);
    return fail_operands(run, op, a, b);
}

/* ---- comparisons ---- */

static bool holds(jt_jrun *run, jt_jop op, jt_jval a, jt_jval b)
{
    switch (op) {
    case JT_OP_EQ:
        return jt_jequal(run, a, b);
    case JT_OP_NE:
        return !jt_jequal(run, a, b);
    case JT_OP_LT:
        return jt_jcompare(run, a, b) < 0;
    case JT_OP_LE:
        return jt_jcompare(run, a, b) <= 0;
    case JT_OP_GT:
        return jt_jcompare(run, a, b) > 0;
    case JT_OP_GE:
        return jt_jcompare(run, a, b) >= 0;
    case JT_OP_IN:
        return jt_jcontains(run, b, a);
    default:
        return !jt_jcontains(run, b, a);
    }
}

static jt_jval eval_compare(jt_jrun *run, const jt_jnode *node)
{
    jt_jval left = jt_jeval(run, node->a);
    for (const jt_jnode *o = node->list; o; o = o->next) {
        jt_jval right = jt_jeval(run, o->a);
        if (run->status != JT_OK || !holds(run, o->op, left, right))
            return jt_jbool(false);
        left = right;
    }
    return jt_jbool(true);
}

/* ---- slices ---- */

/* A bound of a slice, as Python clips it. */
static int64_t bound(jt_jrun *run, const jt_jnode *node, int64_t usual, int64_t low,
                     int64_t high, int64_t n)
{
    jt_jval v = node ? jt_jeval(run, node) : jt_jnone();
    if (v.kind == JT_J_NONE)
        return usual;
    if (v.kind != JT_J_INT && v.kind != JT_J_BOOL) {
        jt_jfail(run, "a bound of a slice is %s", jt_jkind_name(v));
        return usual;
    }
    int64_t i = jt_jinteger(v);
    i += i < 0 ? n : 0;
    return i < low ? low : i > high ? high : i;
}

static jt_jval slice(jt_jrun *run, jt_jval of, const jt_jnode *node)
{
    if (of.kind == JT_J_UNDEFINED || !is_sequence(of)) {
        jt_jfail(run, "%s cannot be sliced", jt_jkind_name(of));
        return jt_jnone();
    }
    const jt_jlist *items = jt_jitems(run, of);
    int64_t n = (int64_t)items->count;
    int64_t step = bound(run, node->c, 1, INT64_MIN, INT64_MAX, 0);
    if (step == 0)
        jt_jfail(run, "a slice with step 0");
    bool back = step < 0;
    int64_t from =
        bound(run, node->a, back ? n - 1 : 0, back ? -1 : 0, back ? n - 1 : n, n);
    int64_t to = bound(run, node->b, back ? -1 : n, back ? -1 : 0, back ? n - 1 : n, n);
    jt_jtext text = {0};
    jt_jval list = jt_jlist_new(run, of.kind == JT_J_TUPLE ? JT_J_TUPLE : JT_J_LIST);
    step = step > n ? n + 1 : step < -n ? -n - 1 : step;
    for (int64_t i = from; run->status == JT_OK && (back ? i > to : i < to);
         i += step) {
        if (of.kind == JT_J_STRING)
            jt_jwrite_str(run, &text, items->item[i]);
        else
            jt_jlist_add(run, list.list, items->item[i]);
    }
    return of.kind == JT_J_STRING ? jt_jtext_value(&text) : list;
}

/* ---- names, calls, filters ---- */

static jt_jval look_up(jt_jrun *run, jt_str name)
{
    for (const jt_jscope *s = run->scope; s; s = s->up) {
        if (!jt_jstep(run, 1 + s->vars.count / 8))
            return jt_jnone();
        const jt_jval *found = jt_jdict_find(&s->vars, jt_jstring(name));
        if (found)
            return *found;
    }
    jt_jfunction *global = jt_jnamed_find(jt_jinja_globals, name);
    jt_jcallable *callable = global ? jt_jalloc(run, 1, sizeof *callable) : NULL;
    if (!callable)
        return jt_jundefined(name);
    *callable = (jt_jcallable){.function = global};
    return (jt_jval){.kind = JT_J_CALLABLE, .callable = callable};
}

jt_jval jt_jcall(jt_jrun *run, jt_jval callee, const jt_jargs *args)
{
    jt_jval result = jt_jnone();
    if (run->status != JT_OK || !jt_jenter(run))
        return result;
    if (callee.kind == JT_J_UNDEFINED)
        jt_jfail(run, "'%.*s' is undefined and cannot be called",
                 (int)(callee.text.len < 80 ? callee.text.len : 80),
                 callee.text.len ? callee.text.data : "");
    else if (callee.kind != JT_J_CALLABLE)
        jt_jfail(run, "%s cannot be called", jt_jkind_name(callee));
    else if (callee.callable->function)
        result = callee.callable->function(run, callee.callable->self, args);
    else
        result = jt_jcall_macro(run, callee.callable, args);
    run->depth--;
    return result;
}

jt_jfunction *jt_jinja_filter(jt_str name)
{
    jt_jfunction *filter = jt_jnamed_find(jt_jinja_string_filters, name);
    filter = filter ? filter : jt_jnamed_find(jt_jinja_list_filters, name);
    return filter ? filter : jt_jnamed_find(jt_jinja_value_filters, name);
}

jt_jval jt_japply(jt_jrun *run, const jt_jnode *node, jt_jval self)
{
    bool test = node->kind == JT_N_TEST;
    jt_jfunction *function =
        test ? jt_jnamed_find(jt_jinja_tests, node->text) : jt_jinja_filter(node->text);
    jt_jargs args = eval_arguments(run, node->list);
    run->line = node->line;
    if (!function) {
        jt_jfail(run, "%s '%.*s' is not known", test ? "test" : "filter",
                 (int)(node->text.len < 80 ? node->text.len : 80), node->text.data);
        return jt_jnone();
    }
    return run->status == JT_OK ? function(run, self, &args) : jt_jnone();
}

/* ---- all expressions ---- */

static jt_jval eval_items(jt_jrun *run, const jt_jnode *node, jt_jkind kind)
{
    jt_jval list = jt_jlist_new(run, kind);
    for (const jt_jnode *n = node->list; n && run->status == JT_OK; n = n->next)
        jt_jlist_add(run, list.list, jt_jeval(run, n));
    return list;
}

static jt_jval eval_dict(jt_jrun *run, const jt_jnode *node)
{
    jt_jval dict = jt_jdict_new(run, JT_J_DICT);
    for (const jt_jnode *n = node->list; n && n->next && run->status == JT_OK;
         n = n->next->next) {
        jt_jval key = jt_jeval(run, n);
        jt_jdict_set(run, dict.dict, key, jt_jeval(run, n->next));
    }
    return dict;
}

static jt_jval eval_sign(jt_jrun *run, const jt_jnode *node)
{
    jt_jval v = jt_jeval(run, node->a);
    if (v.kind == JT_J_FLOAT)
        return jt_jfloat(node->kind == JT_N_NEG ? -v.number : v.number);
    if (jt_jis_number(v))
        return node->kind == JT_N_NEG ? int_binary(run, JT_OP_SUB, 0, jt_jinteger(v))
                                      : jt_jint(jt_jinteger(v));
    jt_jfail(run, "%s has no sign", jt_jkind_name(v));
    return v;
}

static jt_jval eval_call(jt_jrun *run, const jt_jnode *node)
{
    jt_jval callee = jt_jeval(run, node->a);
    jt_jargs args = eval_arguments(run, node->list);
    run->line = node->line;
    return jt_jcall(run, callee, &args);
}

static jt_jval eval_member(jt_jrun *run, const jt_jnode *node)
{
    jt_jval of = jt_jeval(run, node->a);
    if (node->kind == JT_N_ATTR)
        return jt_jattribute(run, of, node->text);
    return node->b->kind == JT_N_SLICE ? slice(run, of, node->b)
                                       : jt_jitem(run, of, jt_jeval(run, node->b));
}

static jt_jval eval_choice(jt_jrun *run, const jt_jnode *node)
{
    jt_jval left = jt_jeval(run, node->a);
    if (node->kind == JT_N_AND)
        return jt_jtruth(left) ? jt_jeval(run, node->b) : left;
    if (node->kind == JT_N_OR)
        return jt_jtruth(left) ? left : jt_jeval(run, node->b);
    if (jt_jtruth(left))
        return jt_jeval(run, node->b);
    return node->c ? jt_jeval(run, node->c) : jt_jundefined(jt_jstr("if without else"));
}

static jt_jval eval(jt_jrun *run, const jt_jnode *node)
{
    switch (node->kind) {
    case JT_N_CONST:
        return node->value;
    case JT_N_NAME:
        return look_up(run, node->text);
    case JT_N_LIST:
        return eval_items(run, node, JT_J_LIST);
    case JT_N_TUPLE:
        return eval_items(run, node, JT_J_TUPLE);
    case JT_N_DICT:
        return eval_dict(run, node);
    case JT_N_ATTR:
    case JT_N_ITEM:
        return eval_member(run, node);
    case JT_N_CALL:
        return eval_call(run, node);
    case JT_N_FILTER:
    case JT_N_TEST:
        return jt_japply(run, node, jt_jeval(run, node->a));
    case JT_N_NOT:
        return jt_jbool(!jt_jtruth(jt_jeval(run, node->a)));
    case JT_N_NEG:
    case JT_N_POS:
        return eval_sign(run, node);
    case JT_N_AND:
    case JT_N_OR:
    case JT_N_COND:
        return eval_choice(run, node);
    case JT_N_COMPARE:
        return eval_compare(run, node);
    case JT_N_BINARY: {
        jt_jval a = jt_jeval(run, node->a), b = jt_jeval(run, node->b);
        run->line = node->line;
        return binary(run, node->op, a, b);
    }
    default:
        jt_jfail(run, "a slice where there is nothing to slice");
        return jt_jnone();
    }
}

jt_jval jt_jeval(jt_jrun *run, const jt_jnode *node)
{
    if (!jt_jenter(run))
        return jt_jnone();
    run->line = node->line;
    jt_jval value = eval(run, node);
    run->depth--;
    return value;
}
