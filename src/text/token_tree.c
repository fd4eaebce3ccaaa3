#include "text/token_tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

typedef struct piece {
    jt_str text;
    int32_t id;
} piece;

static int by_text(const void *a, const void *b)
{
    const piece *x = a, *y = b;
    size_t common = x->text.len < y->text.len ? x->text.len : y->text.len;
    int order = memcmp(x->text.data, y->text.data, common);
    if (order)
        return order;
    if (x->text.len != y->text.len)
        return x->text.len < y->text.len ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The tokens that are text, sorted; those that end a reply go into the tree's list. */
static size_t gather(jt_token_tree *tree, piece *pieces, const jt_tokenizer *tok)
{
    size_t n = 0;
    for (size_t i = 0; i < tree->n_vocab; i++) {
        int32_t id = (int32_t)i;
        jt_str text = jt_token_piece(tok, id);
        if (jt_token_is_end(tok, id))
            tree->ends[tree->n_ends++] = id;
        else if (text.len && text.len <= UINT16_MAX && !jt_token_is_special(tok, id))
            pieces[n++] = (piece){text, id};
    }
    qsort(pieces, n, sizeof *pieces, by_text);
    return n;
}

static size_t shared(jt_str a, jt_str b)
{
    size_t n = 0;
    while (n < a.len && n < b.len && a.data[n] == b.data[n])
        n++;
    return n;
}

/* Add the nodes of sorted texts. path[d] is the node at depth d + 1 of the last one. */
static bool add_nodes(jt_token_tree *t, const piece *pieces, size_t n, uint32_t *path)
{
    size_t capacity = 0, depth = 0;
    jt_str last = {0};
    for (size_t i = 0; i < n; i++) {
        jt_str text = pieces[i].text;
        size_t common = shared(last, text);
        for (; depth > common; depth--)
            t->nodes[path[depth - 1]].end = (uint32_t)t->n_nodes;
        if (!jt_grow((void **)&t->nodes, &capacity, t->n_nodes + text.len,
                     sizeof *t->nodes))
            return false;
        for (; depth < text.len; depth++) {
            path[depth] = (uint32_t)t->n_nodes;
            t->nodes[t->n_nodes++] = (jt_tree_node){.tokens = (uint32_t)i,
                                                    .depth = (uint16_t)(depth + 1),
                                                    .byte = (uint8_t)text.data[depth]};
        }
        t->nodes[path[depth - 1]].count++;
        t->ids[i] = pieces[i].id;
        last = text;
    }
    while (depth > 0)
        t->nodes[path[--depth]].end = (uint32_t)t->n_nodes;
    return true;
}

static bool build(jt_token_tree *t, const jt_tokenizer *tok)
{
    piece *pieces = jt_alloc(t->n_vocab, sizeof *pieces);
    uint32_t *path = NULL;
    t->ids = jt_alloc(t->n_vocab, sizeof *t->ids);
    t->ends = jt_alloc(t->n_vocab, sizeof *t->ends);
    bool fits = pieces && t->ids && t->ends;
    if (fits) {
        t->n_ids = gather(t, pieces, tok);
        for (size_t i = 0; i < t->n_ids; i++)
            t->depth = pieces[i].text.len > t->depth ? pieces[i].text.len : t->depth;
        path = jt_alloc(t->depth, sizeof *path);
        fits = path && add_nodes(t, pieces, t->n_ids, path);
    }
    free(path);
    free(pieces);
    return fits;
}

jt_status jt_token_tree_new(jt_token_tree **out, const jt_tokenizer *tok, jt_err *err)
{
    jt_token_tree *t = jt_calloc(1, sizeof *t);
    if (t)
        t->n_vocab = jt_vocab_size(tok);
    if (!t || !build(t, tok)) {
        jt_token_tree_free(t);
        return jt_fail_memory(err, "reading a vocabulary");
    }
    *out = t;
    return JT_OK;
}

void jt_token_tree_free(jt_token_tree *t)
{
    if (!t)
        return;
    free(t->nodes);
    free(t->ids);
    free(t->ends);
    free(t);
}
