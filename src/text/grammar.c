#include "text/grammar.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* Nodes are made from the end: what comes after a term is there before it. Node 0
 * returns from a rule. The first failure sticks. */
typedef struct builder {
    jt_grammar *out;
    size_t work; /* terms that were added */
    jt_status status;
    jt_err *err;
} builder;

enum { RETURN = 0 };

static uint32_t too_large(builder *b)
{
    b->status = jt_fail(b->err, JT_E_LIMIT, "the grammar is too large");
    return RETURN;
}

static uint32_t add(builder *b, jt_grammar_node node)
{
    jt_grammar *g = b->out;
    if (b->status != JT_OK)
        return RETURN;
    if (g->n_nodes == JT_GRAMMAR_NODES)
        return too_large(b);
    if (!jt_grow((void **)&g->nodes, &g->capacity, g->n_nodes + 1, sizeof *g->nodes)) {
        b->status = jt_fail_memory(b->err, "building a grammar");
        return RETURN;
    }
    g->nodes[g->n_nodes] = node;
    return (uint32_t)g->n_nodes++;
}

static uint32_t add_byte(builder *b, uint8_t low, uint8_t high, uint32_t next)
{
    return add(b, (jt_grammar_node){JT_GRAMMAR_BYTE, low, high, next, 0});
}

static uint32_t add_split(builder *b, uint32_t one, uint32_t other)
{
    return add(
        b, (jt_grammar_node){.kind = JT_GRAMMAR_SPLIT, .next = one, .other = other});
}

/* ---- characters ---- */

/* The bytes of all characters from `low` to `high` [n], which are of one length. */
static uint32_t add_bytes(builder *b, const uint8_t *low, const uint8_t *high, size_t n,
                          uint32_t next)
{
    static const uint8_t first[] = {0x80, 0x80, 0x80}, last[] = {0xbf, 0xbf, 0xbf};
    if (n == 1)
        return add_byte(b, *low, *high, next);
    if (*low == *high)
        return add_byte(b, *low, *low, add_bytes(b, low + 1, high + 1, n - 1, next));
    bool from_first = memcmp(low + 1, first, n - 1) == 0;
    bool to_last = memcmp(high + 1, last, n - 1) == 0;
    uint8_t from = (uint8_t)(*low + !from_first), to = (uint8_t)(*high - !to_last);
    uint32_t way = UINT32_MAX;
    if (from <= to)
        way = add_byte(b, from, to, add_bytes(b, first, last, n - 1, next));
    if (!from_first) {
        uint32_t head =
            add_byte(b, *low, *low, add_bytes(b, low + 1, last, n - 1, next));
        way = way == UINT32_MAX ? head : add_split(b, head, way);
    }
    if (!to_last) {
        uint32_t tail =
            add_byte(b, *high, *high, add_bytes(b, first, high + 1, n - 1, next));
        way = way == UINT32_MAX ? tail : add_split(b, tail, way);
    }
    return way;
}

/* One of the characters of a range; *way is what else can be (UINT32_MAX: nothing). */
static void add_range(builder *b, jt_char_range range, uint32_t next, uint32_t *way)
{
    /* Of one length each, and without the surrogates, which are no characters. */
    static const jt_char_range parts[] = {{0, 0x7f},
                                          {0x80, 0x7ff},
                                          {0x800, 0xd7ff},
                                          {0xe000, 0xffff},
                                          {0x10000, 0x10ffff}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint32_t low = range.low > parts[i].low ? range.low : parts[i].low;
        uint32_t high = range.high < parts[i].high ? range.high : parts[i].high;
        uint8_t from[4], to[4];
        if (low > high)
            continue;
        size_t n = (size_t)utf8proc_encode_char((utf8proc_int32_t)low, from);
        utf8proc_encode_char((utf8proc_int32_t)high, to);
        uint32_t bytes = add_bytes(b, from, to, n, next);
        *way = *way == UINT32_MAX ? bytes : add_split(b, bytes, *way);
    }
}

static uint32_t add_class(builder *b, const jt_term *term, uint32_t next)
{
    uint32_t way = UINT32_MAX;
    for (size_t i = term->n_ranges; i-- > 0;)
        add_range(b, term->ranges[i], next, &way);
    return way == UINT32_MAX ? add_byte(b, 1, 0, next) : way; /* only surrogates */
}

/* ---- terms ---- */

static uint32_t add_term(builder *b, const jt_term *term, uint32_t next);

static uint32_t add_terms(builder *b, const jt_sequence *sequence, uint32_t next)
{
    for (const jt_term *term = sequence->last; term; term = term->before)
        next = add_term(b, term, next);
    return next;
}

static uint32_t add_group(builder *b, const jt_sequence *group, uint32_t next)
{
    uint32_t way = add_terms(b, group, next);
    for (group = group->next; group && b->status == JT_OK; group = group->next)
        way = add_split(b, way, add_terms(b, group, next));
    return way;
}

/* item{2,4} is item item (item (item)?)?, and item{2,} is item item item*. */
static uint32_t add_repeat(builder *b, const jt_term *term, uint32_t next)
{
    uint32_t way = next;
    if (term->most == UINT32_MAX) {
        way = add_split(b, next, next);
        uint32_t again = add_term(b, term->item, way);
        if (b->status == JT_OK)
            b->out->nodes[way].next = again;
    } else {
        for (uint32_t i = term->least; i < term->most && b->status == JT_OK; i++)
            way = add_split(b, add_term(b, term->item, way), next);
    }
    for (uint32_t i = 0; i < term->least && b->status == JT_OK; i++)
        way = add_term(b, term->item, way);
    return way;
}

static uint32_t add_text(builder *b, jt_str text, uint32_t next)
{
    for (size_t i = text.len; i-- > 0 && b->status == JT_OK;) {
        uint8_t byte = (uint8_t)text.data[i];
        next = add_byte(b, byte, byte, next);
    }
    return next;
}

static uint32_t add_term(builder *b, const jt_term *term, uint32_t next)
{
    if (b->status != JT_OK)
        return next;
    if (++b->work == JT_GRAMMAR_WORK) /* nothing, repeated without end, adds no nodes */
        return too_large(b);
    switch (term->kind) {
    case JT_TERM_TEXT:
        return add_text(b, term->text, next);
    case JT_TERM_CLASS:
        return add_class(b, term, next);
    case JT_TERM_RULE:
        return add(b, (jt_grammar_node){.kind = JT_GRAMMAR_CALL,
                                        .next = next,
                                        .other = (uint32_t)term->rule});
    case JT_TERM_GROUP:
        return add_group(b, term->group, next);
    case JT_TERM_REPEAT:
        return add_repeat(b, term, next);
    }
    return next;
}

jt_status jt_grammar_build(jt_grammar *out, const jt_grammar_text *text, jt_err *err)
{
    builder b = {.out = out, .err = err};
    out->starts = jt_calloc(text->n_rules, sizeof *out->starts);
    if (!out->starts)
        return jt_fail_memory(err, "building a grammar");
    out->n_rules = text->n_rules;
    out->root = text->root;
    add(&b, (jt_grammar_node){.kind = JT_GRAMMAR_RETURN});
    for (size_t i = 0; i < text->n_rules && b.status == JT_OK; i++)
        out->starts[i] = add_group(&b, text->rules[i].body, RETURN);
    return b.status;
}

/* ---- the whole ---- */

static jt_status compile(jt_grammar *out, const char *text, size_t len, jt_err *err)
{
    jt_grammar_text written;
    jt_status status = jt_grammar_parse(&written, text, len, err);
    if (status == JT_OK)
        status = jt_grammar_build(out, &written, err);
    if (status == JT_OK)
        status = jt_grammar_check(out, &written, err);
    jt_grammar_text_free(&written);
    return status;
}

jt_status jt_grammar_new(jt_grammar **out, const char *text, size_t len, jt_err *err)
{
    jt_grammar *g = jt_calloc(1, sizeof *g);
    if (!g)
        return jt_fail_memory(err, "building a grammar");
    jt_status status = compile(g, text, len, err);
    if (status != JT_OK) {
        jt_grammar_free(g);
        return status;
    }
    *out = g;
    return JT_OK;
}

jt_status jt_grammar_of_schema(jt_grammar **out, const char *schema, size_t len,
                               jt_err *err)
{
    char *gbnf;
    JT_TRY(jt_schema_to_gbnf(&gbnf, schema, len, err));
    jt_status status = jt_grammar_new(out, gbnf, strlen(gbnf), err);
    free(gbnf);
    return status;
}

void jt_grammar_free(jt_grammar *g)
{
    if (!g)
        return;
    free(g->nodes);
    free(g->starts);
    free(g);
}
