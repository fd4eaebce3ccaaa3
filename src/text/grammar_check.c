/* Which rules begin with themselves. */
#include <stdlib.h>
#include <string.h>

#include "text/grammar.h"

typedef struct checker {
    const jt_grammar *g;
    bool *nullable;  /* [rules] can be read without a byte */
    uint32_t *seen;  /* [nodes] the walk that saw it last */
    uint32_t *todo;  /* [nodes] */
    size_t *callers; /* [rules] how many rules that are left begin with it */
    size_t *ready;   /* [n_ready] those with none */
    size_t n_ready;
    uint32_t walk;
    size_t work;
} checker;

static void visit(checker *c, uint32_t node, size_t *n)
{
    if (c->seen[node] == c->walk)
        return;
    c->seen[node] = c->walk;
    c->todo[(*n)++] = node;
}

/* Go from the beginning of a rule wherever no byte is read. True: to its end. `call` is
 * told of every rule that is called there. */
static bool walk_rule(checker *c, size_t rule, void (*call)(checker *c, size_t rule))
{
    bool ends = false;
    size_t n = 0;
    c->walk++;
    visit(c, c->g->starts[rule], &n);
    while (n) {
        const jt_grammar_node *node = &c->g->nodes[c->todo[--n]];
        c->work++;
        if (node->kind == JT_GRAMMAR_RETURN) {
            ends = true;
        } else if (node->kind == JT_GRAMMAR_SPLIT) {
            visit(c, node->next, &n);
            visit(c, node->other, &n);
        } else if (node->kind == JT_GRAMMAR_CALL) {
            if (call)
                call(c, node->other);
            if (c->nullable[node->other])
                visit(c, node->next, &n);
        }
    }
    return ends;
}

/* To and fro, so that rules that build on each other settle soon in either order. */
static bool find_nullable(checker *c)
{
    size_t n = c->g->n_rules;
    bool changed = true;
    for (size_t pass = 0; changed; pass++) {
        changed = false;
        for (size_t i = 0; i < n && c->work < JT_GRAMMAR_WORK; i++) {
            size_t rule = pass % 2 ? i : n - 1 - i;
            if (!c->nullable[rule] && walk_rule(c, rule, NULL))
                c->nullable[rule] = changed = true;
        }
        if (c->work >= JT_GRAMMAR_WORK)
            return false;
    }
    return true;
}

static void gain_caller(checker *c, size_t rule)
{
    c->callers[rule]++;
}

static void lose_caller(checker *c, size_t rule)
{
    if (--c->callers[rule] == 0)
        c->ready[c->n_ready++] = rule;
}

/* Take away, again and again, the rules that no other begins with (Kahn 1962). What is
 * left begins with itself; one of it, or n_rules. */
static size_t find_loop(checker *c)
{
    size_t n = c->g->n_rules;
    for (size_t i = 0; i < n; i++)
        walk_rule(c, i, gain_caller);
    for (size_t i = 0; i < n; i++) {
        if (c->callers[i] == 0)
            c->ready[c->n_ready++] = i;
    }
    for (size_t i = 0; i < c->n_ready; i++)
        walk_rule(c, c->ready[i], lose_caller);
    for (size_t i = 0; i < n && c->n_ready < n; i++) {
        if (c->callers[i])
            return i;
    }
    return n;
}

static jt_status check(checker *c, const jt_grammar_text *text, jt_err *err)
{
    if (!find_nullable(c))
        return jt_fail(err, JT_E_LIMIT,
                       "the grammar's rules build on each other too much");
    size_t rule = find_loop(c);
    if (rule == c->g->n_rules)
        return JT_OK;
    jt_str name = text->rules[rule].name;
    return jt_fail(err, JT_E_FORMAT, "grammar: the rule '%.*s' can begin with itself",
                   (int)(name.len < 64 ? name.len : 64), name.data);
}

jt_status jt_grammar_check(const jt_grammar *g, const jt_grammar_text *text,
                           jt_err *err)
{
    checker c = {.g = g,
                 .nullable = jt_calloc(g->n_rules, sizeof *c.nullable),
                 .seen = jt_calloc(g->n_nodes, sizeof *c.seen),
                 .todo = jt_calloc(g->n_nodes, sizeof *c.todo),
                 .callers = jt_calloc(g->n_rules, sizeof *c.callers),
                 .ready = jt_calloc(g->n_rules, sizeof *c.ready)};
    bool fits = c.nullable && c.seen && c.todo && c.callers && c.ready;
    jt_status status =
        fits ? check(&c, text, err) : jt_fail_memory(err, "checking a grammar");
    free(c.nullable);
    free(c.seen);
    free(c.todo);
    free(c.callers);
    free(c.ready);
    return status;
}
