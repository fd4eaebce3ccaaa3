/* What statements do: print, choose, loop, set, define. */
#include <string.h>

#include "text/jinja.h"

/* How a body ended. */
typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

static flow execute(jt_jrun *run, const jt_jnode *body);

void jt_jdefine(jt_jrun *run, jt_str name, jt_jval value)
{
    jt_jdict_set(run, &run->scope->vars, jt_jstring(name), value);
}

/* ---- text that is not printed at once ---- */

static jt_jval capture(jt_jrun *run, const jt_jnode *body)
{
    jt_jtext text = {0}, *outer = run->out;
    run->out = &text;
    execute(run, body);
    run->out = outer;
    return jt_jtext_value(&text);
}

/* The filters of a block, innermost first: a chain that ends in one without `a`. */
static jt_jval filtered(jt_jrun *run, const jt_jnode *filter, jt_jval text)
{
    return jt_japply(run, filter, filter->a ? filtered(run, filter->a, text) : text);
}

/* ---- set ---- */

static void assign(jt_jrun *run, const jt_jnode *target, jt_jval value)
{
    if (target->kind == JT_N_NAME) {
        jt_jdefine(run, target->text, value);
    } else if (target->kind == JT_N_ATTR) {
        jt_jval of = jt_jeval(run, target->a);
        if (of.kind == JT_J_NAMESPACE)
            jt_jdict_set(run, of.dict, jt_jstring(target->text), value);
        else
            jt_jfail(run, "members can be set of namespaces only, not of %s",
                     jt_jkind_name(of));
    } else if (target->kind == JT_N_TUPLE) {
        const jt_jlist *items = jt_jitems(run, value);
        size_t i = 0;
        for (const jt_jnode *n = target->list; n; n = n->next, i++) {
            if (i < items->count)
                assign(run, n, items->item[i]);
        }
        if (i != items->count)
            jt_jfail(run, "%zu values for %zu names", items->count, i);
    } else {
        jt_jfail(run, "cannot assign to this");
    }
}

static void run_set(jt_jrun *run, const jt_jnode *node)
{
    if (node->b) {
        assign(run, node->a, jt_jeval(run, node->b));
        return;
    }
    jt_jval text = capture(run, node->list);
    assign(run, node->a, node->c ? filtered(run, node->c, text) : text);
}

/* ---- for ---- */

static void set_member(jt_jrun *run, jt_jdict *dict, const char *name, jt_jval value)
{
    jt_jdict_set(run, dict, jt_jstring(jt_jstr(name)), value);
}

/* The members of `loop` in round i of n. */
static void describe_round(jt_jrun *run, jt_jdict *loop, const jt_jlist *items,
                           size_t i)
{
    int64_t n = (int64_t)items->count, at = (int64_t)i;
    set_member(run, loop, "index0", jt_jint(at));
    set_member(run, loop, "index", jt_jint(at + 1));
    set_member(run, loop, "first", jt_jbool(i == 0));
    set_member(run, loop, "last", jt_jbool(at + 1 == n));
    set_member(run, loop, "length", jt_jint(n));
    set_member(run, loop, "revindex", jt_jint(n - at));
    set_member(run, loop, "revindex0", jt_jint(n - at - 1));
    set_member(run, loop, "previtem",
               i ? items->item[i - 1] : jt_jundefined(jt_jstr("previtem")));
    set_member(run, loop, "nextitem",
               at + 1 < n ? items->item[i + 1] : jt_jundefined(jt_jstr("nextitem")));
}

/* The items for which the condition of the loop holds. */
static const jt_jlist *chosen(jt_jrun *run, const jt_jnode *node, const jt_jlist *items)
{
    jt_jval list = jt_jlist_new(run, JT_J_LIST);
    for (size_t i = 0; i < items->count && run->status == JT_OK; i++) {
        jt_jscope scope = {.up = run->scope};
        run->scope = &scope;
        assign(run, node->a, items->item[i]);
        if (jt_jtruth(jt_jeval(run, node->c)))
            jt_jlist_add(run, list.list, items->item[i]);
        run->scope = scope.up;
    }
    return run->status == JT_OK ? list.list : items;
}

/* Each round has a scope of its own: what is set inside is gone after it. */
static flow run_round(jt_jrun *run, const jt_jnode *node, jt_jval loop, jt_jval item)
{
    jt_jscope *scope = jt_jalloc(run, 1, sizeof *scope); /* macros may keep it */
    if (!scope)
        return FLOW_BREAK;
    *scope = (jt_jscope){.up = run->scope};
    run->scope = scope;
    jt_jdefine(run, jt_jstr("loop"), loop);
    assign(run, node->a, item);
    flow end = run->status == JT_OK ? execute(run, node->list) : FLOW_BREAK;
    run->scope = scope->up;
    return end;
}

static void run_for(jt_jrun *run, const jt_jnode *node)
{
    const jt_jlist *items = jt_jitems(run, jt_jeval(run, node->b));
    if (node->c)
        items = chosen(run, node, items);
    jt_jval loop = jt_jdict_new(run, JT_J_NAMESPACE);
    size_t i = 0;
    for (; i < items->count && run->status == JT_OK; i++) {
        describe_round(run, loop.dict, items, i);
        if (run_round(run, node, loop, items->item[i]) == FLOW_BREAK)
            break;
    }
    if (items->count == 0 && run->status == JT_OK && node->other)
        execute(run, node->other);
}

/* ---- macros ---- */

static jt_jval macro_value(jt_jrun *run, const jt_jnode *node)
{
    jt_jcallable *macro = jt_jalloc(run, 1, sizeof *macro);
    if (!macro)
        return jt_jnone();
    *macro = (jt_jcallable){.macro = node, .scope = run->scope};
    return (jt_jval){.kind = JT_J_CALLABLE, .callable = macro};
}

/* Give the parameters their values: what was passed, the default, or undefined. */
static void bind_parameters(jt_jrun *run, const jt_jnode *macro, const jt_jargs *args)
{
    size_t i = 0, used = 0;
    for (const jt_jnode *p = macro->params; p; p = p->next, i++) {
        const jt_jval *named = jt_jdict_find(&args->named, jt_jstring(p->text));
        used += named != NULL;
        jt_jdefine(run, p->text,
                   i < args->count ? args->item[i]
                   : named         ? *named
                   : p->a          ? jt_jeval(run, p->a)
                                   : jt_jundefined(p->text));
    }
    const jt_jval *caller = jt_jdict_find_name(&args->named, "caller");
    if (caller) {
        jt_jdefine(run, jt_jstr("caller"), *caller);
        used++;
    }
    if (args->count > i || args->named.count > used)
        jt_jfail(run, "macro '%.*s' got an argument that it does not have",
                 (int)(macro->text.len < 80 ? macro->text.len : 80),
                 macro->text.len ? macro->text.data : "");
}

jt_jval jt_jcall_macro(jt_jrun *run, const jt_jcallable *macro, const jt_jargs *args)
{
    jt_jscope *outer = run->scope, *scope = jt_jalloc(run, 1, sizeof *scope);
    if (!scope)
        return jt_jnone();
    *scope = (jt_jscope){.up = macro->scope};
    run->scope = scope;
    bind_parameters(run, macro->macro, args);
    jt_jval text = run->status == JT_OK ? capture(run, macro->macro->list) : jt_jnone();
    run->scope = outer;
    return text;
}

/* "{% call f(x) %}body{% endcall %}": f(x, caller=the body as a macro). */
static jt_jval run_call_block(jt_jrun *run, const jt_jnode *node)
{
    jt_jnode *call = jt_jalloc(run, 1, sizeof *call);
    jt_jnode *caller = jt_jalloc(run, 1, sizeof *caller);
    jt_jnode *value = jt_jalloc(run, 1, sizeof *value);
    if (!call || !caller || !value)
        return jt_jnone();
    *value = (jt_jnode){
        .kind = JT_N_CONST, .line = node->line, .value = macro_value(run, node)};
    *caller = (jt_jnode){.kind = JT_N_KEYWORD,
                         .line = node->line,
                         .text = jt_jstr("caller"),
                         .a = value,
                         .next = node->a->list};
    *call = *node->a;
    call->list = caller;
    return jt_jeval(run, call);
}

/* ---- all statements ---- */

static void print(jt_jrun *run, jt_jval value)
{
    if (run->status == JT_OK)
        jt_jwrite_str(run, run->out, value);
}

static flow run_statement(jt_jrun *run, const jt_jnode *node)
{
    switch (node->kind) {
    case JT_N_TEXT:
        jt_jwrite(run, run->out, node->text.data, node->text.len);
        return FLOW_ON;
    case JT_N_PRINT:
        print(run, jt_jeval(run, node->a));
        return FLOW_ON;
    case JT_N_IF:
        return execute(run,
                       jt_jtruth(jt_jeval(run, node->a)) ? node->list : node->other);
    case JT_N_FOR:
        run_for(run, node);
        return FLOW_ON;
    case JT_N_SET:
        run_set(run, node);
        return FLOW_ON;
    case JT_N_MACRO:
        jt_jdefine(run, node->text, macro_value(run, node));
        return FLOW_ON;
    case JT_N_CALLBLOCK:
        print(run, run_call_block(run, node));
        return FLOW_ON;
    case JT_N_FILTERED:
        if (!node->a)
            return execute(run, node->list);
        print(run, filtered(run, node->a, capture(run, node->list)));
        return FLOW_ON;
    default:
        return node->kind == JT_N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
    }
}

static flow execute(jt_jrun *run, const jt_jnode *body)
{
    flow end = FLOW_ON;
    if (!jt_jenter(run))
        return FLOW_BREAK;
    for (; body && end == FLOW_ON && jt_jstep(run, 1); body = body->next) {
        run->line = body->line;
        end = run_statement(run, body);
    }
    run->depth--;
    return end;
}

void jt_jexecute(jt_jrun *run, const jt_jnode *body)
{
    execute(run, body);
}
