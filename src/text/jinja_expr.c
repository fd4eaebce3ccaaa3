/* Expressions, by precedence: if else, or, and, not, comparisons, + -, ~, * / // %, **,
 * signs, then what follows a value: .name [key] (call) |filter, is test. */
#include <string.h>

#include "text/jinja.h"

static bool is_op(const jt_jparser *p, const char *text)
{
    return jt_jparse_is(p, JT_T_OP, text);
}

static bool skip_op(jt_jparser *p, const char *text)
{
    return jt_jparse_skip(p, JT_T_OP, text);
}

static bool skip_name(jt_jparser *p, const char *text)
{
    return jt_jparse_skip(p, JT_T_NAME, text);
}

static jt_jnode *constant(jt_jparser *p, jt_jval value)
{
    jt_jnode *node = jt_jnode_new(p, JT_N_CONST);
    if (node)
        node->value = value;
    return node;
}

/* a, b: a node of two. */
static jt_jnode *pair(jt_jparser *p, jt_jnode_kind kind, jt_jop op, jt_jnode *a,
                      jt_jnode *b)
{
    jt_jnode *node = jt_jnode_new(p, kind);
    if (node) {
        node->op = op;
        node->a = a;
        node->b = b;
    }
    return node;
}

/* ---- primaries ---- */

/* Strings side by side are one. */
static jt_jnode *parse_strings(jt_jparser *p)
{
    jt_str text = p->token->text;
    p->token++;
    while (p->token->kind == JT_T_STRING) {
        jt_str more = p->token->text;
        char *both = jt_arena_alloc(p->arena, text.len + more.len + 1, 1);
        if (!both) {
            jt_jparse_fail(p, NULL);
            return NULL;
        }
        memcpy(both, text.data, text.len);
        memcpy(both + text.len, more.data, more.len);
        text = (jt_str){both, text.len + more.len};
        p->token++;
    }
    return constant(p, jt_jstring(text));
}

static jt_jnode *parse_word(jt_jparser *p)
{
    static const struct {
        const char *name;
        jt_jval value;
    } words[] = {
        {"true", {.kind = JT_J_BOOL, .truth = true}},
        {"True", {.kind = JT_J_BOOL, .truth = true}},
        {"false", {.kind = JT_J_BOOL}},
        {"False", {.kind = JT_J_BOOL}},
        {"none", {.kind = JT_J_NONE}},
        {"None", {.kind = JT_J_NONE}},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (skip_name(p, words[i].name))
            return constant(p, words[i].value);
    }
    jt_jnode *node = jt_jnode_new(p, JT_N_NAME);
    if (node)
        node->text = jt_jparse_name(p);
    return node;
}

/* Items up to `close`; with `pairs` each is key: value. */
static jt_jnode *parse_items(jt_jparser *p, jt_jnode_kind kind, const char *close,
                             bool pairs)
{
    jt_jnode *node = jt_jnode_new(p, kind);
    if (!node)
        return NULL;
    p->token++;
    for (jt_jnode **at = &node->list; p->status == JT_OK && !is_op(p, close);) {
        *at = jt_jparse_expression(p);
        if (*at && pairs) {
            jt_jparse_expect(p, JT_T_OP, ":");
            at = &(*at)->next;
            *at = jt_jparse_expression(p);
        }
        if (!*at || (!is_op(p, close) && !skip_op(p, ",")))
            break;
        at = &(*at)->next;
    }
    jt_jparse_expect(p, JT_T_OP, close);
    return node;
}

static jt_jnode *parse_brackets(jt_jparser *p)
{
    if (is_op(p, "["))
        return parse_items(p, JT_N_LIST, "]", false);
    if (is_op(p, "{"))
        return parse_items(p, JT_N_DICT, "}", true);
    if (!skip_op(p, "(")) {
        jt_jparse_fail(p, "expected a value");
        return NULL;
    }
    jt_jnode *node = is_op(p, ")") ? jt_jnode_new(p, JT_N_TUPLE) : jt_jparse_tuple(p);
    jt_jparse_expect(p, JT_T_OP, ")");
    return node;
}

static jt_jnode *parse_primary(jt_jparser *p)
{
    const jt_jtoken *t = p->token;
    switch (t->kind) {
    case JT_T_STRING:
        return parse_strings(p);
    case JT_T_INT:
        p->token++;
        return constant(p, jt_jint(t->integer));
    case JT_T_FLOAT:
        p->token++;
        return constant(p, jt_jfloat(t->number));
    case JT_T_NAME:
        return parse_word(p);
    default:
        return parse_brackets(p);
    }
}

/* ---- what follows a value ---- */

static jt_jnode *parse_argument(jt_jparser *p)
{
    if (p->token->kind == JT_T_NAME && p->token[1].kind == JT_T_OP &&
        p->token[1].text.len == 1 && p->token[1].text.data[0] == '=') {
        jt_jnode *node = jt_jnode_new(p, JT_N_KEYWORD);
        if (!node)
            return NULL;
        node->text = p->token->text;
        p->token += 2;
        node->a = jt_jparse_expression(p);
        return node;
    }
    if (is_op(p, "*") || is_op(p, "**"))
        jt_jparse_fail(p, "unpacked arguments are not supported");
    return jt_jparse_expression(p);
}

/* "(a, b, name=c)"; the first argument. */
static jt_jnode *parse_arguments(jt_jparser *p)
{
    jt_jnode *list = NULL;
    jt_jparse_expect(p, JT_T_OP, "(");
    for (jt_jnode **at = &list; p->status == JT_OK && !is_op(p, ")");) {
        *at = parse_argument(p);
        if (!*at || (!is_op(p, ")") && !skip_op(p, ",")))
            break;
        at = &(*at)->next;
    }
    jt_jparse_expect(p, JT_T_OP, ")");
    return list;
}

static bool ends_bound(const jt_jparser *p)
{
    return is_op(p, ":") || is_op(p, "]") || is_op(p, ",");
}

/* key, or a slice "start:stop:step" with any of them left out. */
static jt_jnode *parse_subscript(jt_jparser *p)
{
    jt_jnode *first = is_op(p, ":") ? NULL : jt_jparse_expression(p);
    if (!skip_op(p, ":"))
        return first;
    jt_jnode *node = jt_jnode_new(p, JT_N_SLICE);
    if (!node)
        return NULL;
    node->a = first;
    node->b = ends_bound(p) ? NULL : jt_jparse_expression(p);
    if (skip_op(p, ":"))
        node->c = ends_bound(p) ? NULL : jt_jparse_expression(p);
    return node;
}

static jt_jnode *parse_member(jt_jparser *p, jt_jnode *of)
{
    if (is_op(p, "(")) {
        jt_jnode *node = jt_jnode_new(p, JT_N_CALL);
        if (!node)
            return NULL;
        node->a = of;
        node->list = parse_arguments(p);
        return node;
    }
    if (skip_op(p, "[")) {
        jt_jnode *node = pair(p, JT_N_ITEM, 0, of, parse_subscript(p));
        jt_jparse_expect(p, JT_T_OP, "]");
        return node;
    }
    jt_jparse_expect(p, JT_T_OP, ".");
    if (p->token->kind == JT_T_INT)
        return pair(p, JT_N_ITEM, 0, of, parse_primary(p));
    jt_jnode *node = pair(p, JT_N_ATTR, 0, of, NULL);
    if (node)
        node->text = jt_jparse_name(p);
    return node;
}

jt_jnode *jt_jparse_postfix(jt_jparser *p, jt_jnode *node)
{
    while (p->status == JT_OK && (is_op(p, ".") || is_op(p, "[") || is_op(p, "(")))
        node = parse_member(p, node);
    return node;
}

/* name, name(arguments). */
static jt_jnode *parse_filter(jt_jparser *p, jt_jnode *of)
{
    jt_jnode *node = jt_jnode_new(p, JT_N_FILTER);
    if (!node)
        return NULL;
    node->a = of;
    node->text = jt_jparse_name(p);
    if (is_op(p, "("))
        node->list = parse_arguments(p);
    return node;
}

jt_jnode *jt_jparse_filters(jt_jparser *p, jt_jnode *node)
{
    do {
        node = parse_filter(p, node);
    } while (p->status == JT_OK && skip_op(p, "|"));
    return node;
}

/* An argument may follow the name of a test without parentheses. */
static bool has_bare_argument(const jt_jparser *p)
{
    static const char *const not_one[] = {"else", "or", "and", "is", "if", "in", "not"};
    switch (p->token->kind) {
    case JT_T_STRING:
    case JT_T_INT:
    case JT_T_FLOAT:
        return true;
    case JT_T_NAME:
        for (size_t i = 0; i < sizeof not_one / sizeof *not_one; i++) {
            if (jt_jparse_is(p, JT_T_NAME, not_one[i]))
                return false;
        }
        return true;
    default:
        return is_op(p, "[") || is_op(p, "{");
    }
}

static jt_jnode *parse_test(jt_jparser *p, jt_jnode *of)
{
    bool negated = skip_name(p, "not");
    jt_jnode *node = jt_jnode_new(p, JT_N_TEST);
    if (!node)
        return NULL;
    node->a = of;
    node->text = jt_jparse_name(p);
    if (is_op(p, "("))
        node->list = parse_arguments(p);
    else if (has_bare_argument(p))
        node->list = jt_jparse_postfix(p, parse_primary(p));
    return negated ? pair(p, JT_N_NOT, 0, node, NULL) : node;
}

static jt_jnode *parse_filters_and_tests(jt_jparser *p, jt_jnode *node)
{
    while (p->status == JT_OK) {
        if (skip_op(p, "|"))
            node = parse_filter(p, node);
        else if (skip_name(p, "is"))
            node = parse_test(p, node);
        else if (is_op(p, "("))
            node = parse_member(p, node);
        else
            break;
    }
    return node;
}

/* ---- operators ---- */

static jt_jnode *parse_unary(jt_jparser *p, bool with_filters)
{
    jt_jnode *node;
    if (!jt_jparse_enter(p))
        return NULL;
    if (skip_op(p, "-"))
        node = pair(p, JT_N_NEG, 0, parse_unary(p, false), NULL);
    else if (skip_op(p, "+"))
        node = pair(p, JT_N_POS, 0, parse_unary(p, false), NULL);
    else
        node = parse_primary(p);
    p->depth--;
    node = jt_jparse_postfix(p, node);
    return with_filters ? parse_filters_and_tests(p, node) : node;
}

/* Left-associative operators of one level; an operator that ends its list is "". */
typedef struct level {
    const char *text;
    jt_jop op;
} level;

static jt_jnode *parse_level(jt_jparser *p, int depth)
{
    static const level levels[][5] = {
        {{"+", JT_OP_ADD}, {"-", JT_OP_SUB}, {"", 0}},
        {{"~", JT_OP_CONCAT}, {"", 0}},
        {{"*", JT_OP_MUL}, {"/", JT_OP_DIV}, {"//", JT_OP_FLOORDIV}, {"%", JT_OP_MOD}},
        {{"**", JT_OP_POW}, {"", 0}},
    };
    enum { LEVELS = sizeof levels / sizeof *levels };
    if (depth == LEVELS)
        return parse_unary(p, true);
    jt_jnode *left = parse_level(p, depth + 1);
    for (const level *l = levels[depth]; p->status == JT_OK && l->text && *l->text;) {
        if (!skip_op(p, l->text)) {
            l++;
            continue;
        }
        left = pair(p, JT_N_BINARY, l->op, left, parse_level(p, depth + 1));
        l = levels[depth];
    }
    return left;
}

static bool skip_comparison(jt_jparser *p, jt_jop *op)
{
    static const level comparisons[] = {
        {"==", JT_OP_EQ}, {"!=", JT_OP_NE}, {"<=", JT_OP_LE},
        {">=", JT_OP_GE}, {"<", JT_OP_LT},  {">", JT_OP_GT},
    };
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
        *op = comparisons[i].op;
        if (skip_op(p, comparisons[i].text))
            return true;
    }
    *op = JT_OP_IN;
    if (skip_name(p, "in"))
        return true;
    *op = JT_OP_NOT_IN;
    if (!jt_jparse_is(p, JT_T_NAME, "not") || p->token[1].kind != JT_T_NAME ||
        !jt_jsame_text(p->token[1].text, jt_jstr("in")))
        return false;
    p->token += 2;
    return true;
}

/* a < b <= c holds when each does, and b is computed once. */
static jt_jnode *parse_compare(jt_jparser *p)
{
    jt_jnode *left = parse_level(p, 0), *node = NULL, **at = NULL;
    jt_jop op;
    while (p->status == JT_OK && skip_comparison(p, &op)) {
        if (!node) {
            node = pair(p, JT_N_COMPARE, 0, left, NULL);
            at = node ? &node->list : NULL;
        }
        jt_jnode *operand = pair(p, JT_N_OPERAND, op, parse_level(p, 0), NULL);
        if (!operand || !at)
            return NULL;
        *at = operand;
        at = &operand->next;
    }
    return node ? node : left;
}

static jt_jnode *parse_not(jt_jparser *p)
{
    if (!skip_name(p, "not"))
        return parse_compare(p);
    if (!jt_jparse_enter(p))
        return NULL;
    jt_jnode *node = pair(p, JT_N_NOT, 0, parse_not(p), NULL);
    p->depth--;
    return node;
}

static jt_jnode *parse_and(jt_jparser *p)
{
    jt_jnode *left = parse_not(p);
    while (p->status == JT_OK && skip_name(p, "and"))
        left = pair(p, JT_N_AND, 0, left, parse_not(p));
    return left;
}

static jt_jnode *parse_or(jt_jparser *p)
{
    jt_jnode *left = parse_and(p);
    while (p->status == JT_OK && skip_name(p, "or"))
        left = pair(p, JT_N_OR, 0, left, parse_and(p));
    return left;
}

jt_jnode *jt_jparse_expression(jt_jparser *p)
{
    if (!jt_jparse_enter(p))
        return NULL;
    jt_jnode *node = parse_or(p);
    while (p->status == JT_OK && skip_name(p, "if")) {
        jt_jnode *cond = pair(p, JT_N_COND, 0, parse_or(p), node);
        if (cond && skip_name(p, "else"))
            cond->c = jt_jparse_expression(p);
        node = cond;
    }
    p->depth--;
    return p->status == JT_OK ? node : NULL;
}

/* ---- tuples without parentheses ---- */

static bool ends_tuple(const jt_jparser *p)
{
    return p->token->kind == JT_T_BLOCK_END || p->token->kind == JT_T_PRINT_END ||
           is_op(p, ")") || is_op(p, "=") || jt_jparse_is(p, JT_T_NAME, "in");
}

static jt_jnode *parse_tuple_of(jt_jparser *p, jt_jnode *(*parse)(jt_jparser *))
{
    jt_jnode *first = parse(p);
    if (!first || !is_op(p, ","))
        return first;
    jt_jnode *tuple = jt_jnode_new(p, JT_N_TUPLE);
    if (!tuple)
        return NULL;
    tuple->list = first;
    for (jt_jnode *last = first; last && skip_op(p, ",") && !ends_tuple(p);)
        last = last->next = parse(p);
    return tuple;
}

jt_jnode *jt_jparse_tuple(jt_jparser *p)
{
    return parse_tuple_of(p, jt_jparse_expression);
}

jt_jnode *jt_jparse_loop_values(jt_jparser *p)
{
    return parse_tuple_of(p, parse_or);
}

/* A name, or a member of a namespace. */
static jt_jnode *parse_target(jt_jparser *p)
{
    jt_jnode *node = parse_primary(p);
    return node && node->kind == JT_N_NAME && is_op(p, ".") ? parse_member(p, node)
                                                            : node;
}

jt_jnode *jt_jparse_target(jt_jparser *p)
{
    return parse_tuple_of(p, parse_target);
}
