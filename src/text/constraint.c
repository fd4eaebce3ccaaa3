/* A grammar on tokens: which of a vocabulary can come next. */
#include <stdlib.h>
#include <string.h>

#include "text/automaton.h"
#include "text/token_tree.h"

enum { MASK_BYTES = 32 << 20 }; /* that are kept, about */

struct jt_constraint {
    const jt_grammar *grammar;
    const jt_token_tree *tree;
    jt_automaton automaton; /* made when it is asked first */
    bool begun;
    int32_t at;
    uint64_t **masks; /* [n_masks] of states; NULL: not asked for yet */
    size_t n_masks, masks_capacity, kept;
    int32_t *path; /* [tree->depth + 1] states on the way to a node */
};

static size_t mask_words(const jt_constraint *c)
{
    return (c->tree->n_vocab + 63) / 64;
}

jt_status jt_constraint_new(jt_constraint **out, const jt_grammar *grammar,
                            const jt_token_tree *tree, jt_err *err)
{
    jt_constraint *c = jt_calloc(1, sizeof *c);
    if (c) {
        *c = (jt_constraint){.grammar = grammar, .tree = tree};
        c->path = jt_alloc(tree->depth + 1, sizeof *c->path);
    }
    if (!c || !c->path) {
        jt_constraint_free(c);
        return jt_fail_memory(err, "following a grammar");
    }
    *out = c;
    return JT_OK;
}

static void drop_masks(jt_constraint *c)
{
    for (size_t i = 0; i < c->n_masks; i++)
        free(c->masks[i]);
    c->n_masks = c->kept = 0;
}

void jt_constraint_reset(jt_constraint *c)
{
    drop_masks(c);
    jt_automaton_free(&c->automaton);
    c->begun = false;
}

void jt_constraint_free(jt_constraint *c)
{
    if (!c)
        return;
    jt_constraint_reset(c);
    free(c->masks);
    free(c->path);
    free(c);
}

/* Let there be an automaton that has room for more. */
static jt_status prepare(jt_constraint *c, jt_err *err)
{
    if (!c->begun) {
        jt_status status = jt_automaton_init(&c->automaton, c->grammar, &c->at, err);
        if (status != JT_OK)
            jt_automaton_free(&c->automaton);
        c->begun = status == JT_OK;
        return status;
    }
    jt_automaton_renew(&c->automaton);
    if (c->automaton.n_states < JT_AUTOMATON_FEW)
        return JT_OK;
    drop_masks(c);
    return jt_automaton_forget(&c->automaton, &c->at, err);
}

static void allow(uint64_t *mask, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mask[ids[i] / 64] |= (uint64_t)1 << (ids[i] % 64);
}

/* Walk the vocabulary as far as its texts can follow. */
static jt_status fill(jt_constraint *c, uint64_t *mask, jt_err *err)
{
    const jt_token_tree *t = c->tree;
    jt_automaton *a = &c->automaton;
    c->path[0] = c->at;
    for (size_t i = 0; i < t->n_nodes;) {
        const jt_tree_node *node = &t->nodes[i];
        int32_t *to = &c->path[node->depth];
        JT_TRY(jt_automaton_step(a, to[-1], node->byte, to, err));
        if (*to == JT_STATE_NONE) {
            i = node->end;
            continue;
        }
        allow(mask, t->ids + node->tokens, node->count);
        i++;
    }
    if (a->states[c->at].accepts)
        allow(mask, t->ends, t->n_ends);
    return JT_OK;
}

jt_status jt_constraint_mask(jt_constraint *c, const uint64_t **mask, jt_err *err)
{
    JT_TRY(prepare(c, err));
    size_t state = (size_t)c->at, bytes = mask_words(c) * sizeof **mask;
    if (c->kept > MASK_BYTES)
        drop_masks(c);
    if (!jt_grow((void **)&c->masks, &c->masks_capacity, state + 1, sizeof *c->masks))
        return jt_fail_memory(err, "following a grammar");
    while (c->n_masks <= state)
        c->masks[c->n_masks++] = NULL;
    if (!c->masks[state]) {
        uint64_t *fresh = jt_calloc(mask_words(c), sizeof *fresh);
        jt_status status =
            fresh ? fill(c, fresh, err) : jt_fail_memory(err, "following a grammar");
        if (status != JT_OK) {
            free(fresh);
            return status;
        }
        c->masks[state] = fresh;
        c->kept += bytes;
    }
    *mask = c->masks[state];
    return JT_OK;
}

jt_status jt_constraint_accept(jt_constraint *c, const char *text, size_t len,
                               jt_err *err)
{
    JT_TRY(prepare(c, err));
    int32_t at = c->at;
    for (size_t i = 0; i < len && at != JT_STATE_NONE; i++)
        JT_TRY(jt_automaton_step(&c->automaton, at, (uint8_t)text[i], &at, err));
    if (at == JT_STATE_NONE)
        return jt_fail(err, JT_E_FORMAT, "the text does not fit the grammar");
    c->at = at;
    return JT_OK;
}

bool jt_constraint_may_end(const jt_constraint *c)
{
    return c->begun && c->automaton.states[c->at].accepts;
}

bool jt_constraint_is_over(const jt_constraint *c)
{
    return jt_constraint_may_end(c) && c->automaton.states[c->at].count == 0;
}
