/* Statements: text, prints, and the blocks if, for, set, macro, call, filter,
 * generation, break and continue. */
#include <stdio.h>
#include <string.h>

#include "text/jinja.h"

enum { MOST_DEPTH = 200 };

/* ---- the parser's hands ---- */

void jt_jparse_fail(jt_jparser *p, const char *what)
{
    static const jt_jtoken end = {.kind = JT_T_END};
    if (p->status == JT_OK)
        p->status = what ? jt_fail(p->err, JT_E_FORMAT, "template line %d: %s",
                                   p->token->line, what)
                         : jt_fail_memory(p->err, "reading a template");
    p->token = &end;
}

jt_jnode *jt_jnode_new(jt_jparser *p, jt_jnode_kind kind)
{
    jt_jnode *node =
        p->status == JT_OK ? jt_arena_alloc(p->arena, 1, sizeof *node) : NULL;
    if (!node) {
        jt_jparse_fail(p, NULL);
        return NULL;
    }
    *node = (jt_jnode){.kind = kind, .line = p->token->line};
    return node;
}

bool jt_jparse_is(const jt_jparser *p, jt_jtoken_kind kind, const char *text)
{
    return p->token->kind == kind && jt_jsame_text(p->token->text, jt_jstr(text));
}

bool jt_jparse_skip(jt_jparser *p, jt_jtoken_kind kind, const char *text)
{
    bool is = jt_jparse_is(p, kind, text);
    p->token += is ? 1 : 0;
    return is;
}

void jt_jparse_expect(jt_jparser *p, jt_jtoken_kind kind, const char *text)
{
    char what[40];
    if (jt_jparse_skip(p, kind, text))
        return;
    snprintf(what, sizeof what, "expected '%s'", text);
    jt_jparse_fail(p, what);
}

jt_str jt_jparse_name(jt_jparser *p)
{
    jt_str name = p->token->text;
    if (p->token->kind == JT_T_NAME)
        p->token++;
    else
        jt_jparse_fail(p, "expected a name");
    return name;
}

bool jt_jparse_enter(jt_jparser *p)
{
    if (p->depth >= MOST_DEPTH)
        jt_jparse_fail(p, "nested too deeply");
    if (p->status != JT_OK)
        return false;
    p->depth++;
    return true;
}

/* ---- blocks ---- */

static jt_jnode *parse_body(jt_jparser *p, const char *const *ends);

static void expect_end(jt_jparser *p)
{
    if (p->token->kind == JT_T_BLOCK_END)
        p->token++;
    else
        jt_jparse_fail(p, "expected the end of the block");
}

/* The body up to one of `ends` (a list that ends in NULL), whose name comes back; the
 * parser is after the name. */
static const char *parse_until(jt_jparser *p, jt_jnode **body, const char *const *ends)
{
    expect_end(p);
    *body = parse_body(p, ends);
    for (; *ends; ends++) {
        if (jt_jparse_skip(p, JT_T_NAME, *ends))
            return *ends;
    }
    jt_jparse_fail(p, "a block without end");
    return "";
}

static jt_jnode *parse_to(jt_jparser *p, const char *end)
{
    jt_jnode *body;
    parse_until(p, &body, (const char *const[]){end, NULL});
    expect_end(p);
    return body;
}

static jt_jnode *parse_if(jt_jparser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jt_jnode *node = jt_jnode_new(p, JT_N_IF);
    if (!node || !jt_jparse_enter(p))
        return NULL;
    node->a = jt_jparse_tuple(p);
    const char *end = parse_until(p, &node->list, ends);
    if (strcmp(end, "elif") == 0)
        node->other = parse_if(p);
    else if (strcmp(end, "else") == 0)
        node->other = parse_to(p, "endif");
    else
        expect_end(p);
    p->depth--;
    return node;
}

static jt_jnode *parse_for(jt_jparser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    jt_jnode *node = jt_jnode_new(p, JT_N_FOR);
    if (!node)
        return NULL;
    node->a = jt_jparse_target(p);
    jt_jparse_expect(p, JT_T_NAME, "in");
    node->b = jt_jparse_loop_values(p);
    if (jt_jparse_skip(p, JT_T_NAME, "if"))
        node->c = jt_jparse_expression(p);
    if (jt_jparse_is(p, JT_T_NAME, "recursive"))
        jt_jparse_fail(p, "recursive loops are not supported");
    p->loop_depth++;
    const char *end = parse_until(p, &node->list, ends);
    p->loop_depth--;
    if (strcmp(end, "else") == 0)
        node->other = parse_to(p, "endfor");
    else
        expect_end(p);
    return node;
}

static jt_jnode *parse_set(jt_jparser *p)
{
    jt_jnode *node = jt_jnode_new(p, JT_N_SET);
    if (!node)
        return NULL;
    node->a = jt_jparse_target(p);
    if (jt_jparse_skip(p, JT_T_OP, "=")) {
        node->b = jt_jparse_tuple(p);
        expect_end(p);
        return node;
    }
    if (jt_jparse_skip(p, JT_T_OP, "|"))
        node->c = jt_jparse_filters(p, NULL);
    node->list = parse_to(p, "endset");
    return node;
}

/* "(a, b=1)"; the first parameter. */
static jt_jnode *parse_parameters(jt_jparser *p)
{
    jt_jnode *list = NULL;
    jt_jparse_expect(p, JT_T_OP, "(");
    for (jt_jnode **at = &list; p->status == JT_OK && !jt_jparse_is(p, JT_T_OP, ")");) {
        *at = jt_jnode_new(p, JT_N_PARAM);
        if (!*at)
            return list;
        (*at)->text = jt_jparse_name(p);
        if (jt_jparse_skip(p, JT_T_OP, "="))
            (*at)->a = jt_jparse_expression(p);
        at = &(*at)->next;
        if (!jt_jparse_skip(p, JT_T_OP, ","))
            break;
    }
    jt_jparse_expect(p, JT_T_OP, ")");
    return list;
}

static jt_jnode *parse_macro(jt_jparser *p)
{
    jt_jnode *node = jt_jnode_new(p, JT_N_MACRO);
    if (!node)
        return NULL;
    int loops = p->loop_depth;
    p->loop_depth = 0;
    node->text = jt_jparse_name(p);
    node->params = parse_parameters(p);
    node->list = parse_to(p, "endmacro");
    p->loop_depth = loops;
    return node;
}

static jt_jnode *parse_call_block(jt_jparser *p)
{
    jt_jnode *node = jt_jnode_new(p, JT_N_CALLBLOCK);
    if (!node)
        return NULL;
    int loops = p->loop_depth;
    p->loop_depth = 0;
    if (jt_jparse_is(p, JT_T_OP, "("))
        node->params = parse_parameters(p);
    node->a = jt_jparse_expression(p);
    if (node->a && node->a->kind != JT_N_CALL)
        jt_jparse_fail(p, "expected a call");
    node->list = parse_to(p, "endcall");
    p->loop_depth = loops;
    return node;
}

static jt_jnode *parse_filter_block(jt_jparser *p)
{
    jt_jnode *node = jt_jnode_new(p, JT_N_FILTERED);
    if (!node)
        return NULL;
    node->a = jt_jparse_filters(p, NULL);
    node->list = parse_to(p, "endfilter");
    return node;
}

static jt_jnode *parse_jump(jt_jparser *p, jt_jnode_kind kind)
{
    jt_jnode *node = jt_jnode_new(p, kind);
    if (!p->loop_depth)
        jt_jparse_fail(p, "break or continue outside of a loop");
    expect_end(p);
    return node;
}

static jt_jnode *parse_block(jt_jparser *p)
{
    if (jt_jparse_skip(p, JT_T_NAME, "if"))
        return parse_if(p);
    if (jt_jparse_skip(p, JT_T_NAME, "for"))
        return parse_for(p);
    if (jt_jparse_skip(p, JT_T_NAME, "set"))
        return parse_set(p);
    if (jt_jparse_skip(p, JT_T_NAME, "macro"))
        return parse_macro(p);
    if (jt_jparse_skip(p, JT_T_NAME, "call"))
        return parse_call_block(p);
    if (jt_jparse_skip(p, JT_T_NAME, "filter"))
        return parse_filter_block(p);
    if (jt_jparse_skip(p, JT_T_NAME, "break"))
        return parse_jump(p, JT_N_BREAK);
    if (jt_jparse_skip(p, JT_T_NAME, "continue"))
        return parse_jump(p, JT_N_CONTINUE);
    if (jt_jparse_skip(p, JT_T_NAME, "generation")) {
        /* Marks the model's own words for training; it prints what is inside. */
        jt_jnode *node = jt_jnode_new(p, JT_N_FILTERED);
        if (node)
            node->list = parse_to(p, "endgeneration");
        return node;
    }
    char what[100];
    snprintf(what, sizeof what, "block '%.*s' is not known here",
             (int)(p->token->text.len < 40 ? p->token->text.len : 40),
             p->token->text.data ? p->token->text.data : "");
    jt_jparse_fail(p, what);
    return NULL;
}

static jt_jnode *parse_statement(jt_jparser *p)
{
    if (p->token->kind == JT_T_TEXT) {
        jt_jnode *node = jt_jnode_new(p, JT_N_TEXT);
        if (node)
            node->text = p->token++->text;
        return node;
    }
    if (p->token->kind == JT_T_BLOCK_BEGIN) {
        p->token++;
        return parse_block(p);
    }
    p->token++;
    jt_jnode *node = jt_jnode_new(p, JT_N_PRINT);
    if (node)
        node->a = jt_jparse_tuple(p);
    if (p->token->kind == JT_T_PRINT_END)
        p->token++;
    else
        jt_jparse_fail(p, "expected '}}'");
    return node;
}

static bool at_one_of(const jt_jparser *p, const char *const *names)
{
    for (; names && *names; names++) {
        if (p->token->kind == JT_T_BLOCK_BEGIN && p->token[1].kind == JT_T_NAME &&
            jt_jsame_text(p->token[1].text, jt_jstr(*names)))
            return true;
    }
    return false;
}

/* Statements up to a block named by one of `ends` (the parser is then at the name), or
 * to the end of the source. */
static jt_jnode *parse_body(jt_jparser *p, const char *const *ends)
{
    jt_jnode *first = NULL;
    if (!jt_jparse_enter(p))
        return NULL;
    for (jt_jnode **at = &first; p->token->kind != JT_T_END && !at_one_of(p, ends);) {
        *at = parse_statement(p);
        if (!*at)
            break;
        at = &(*at)->next;
    }
    p->depth--;
    if (ends && p->token->kind == JT_T_BLOCK_BEGIN)
        p->token++;
    return p->status == JT_OK ? first : NULL;
}

jt_jnode *jt_jinja_parse(jt_jparser *p)
{
    return parse_body(p, NULL);
}
