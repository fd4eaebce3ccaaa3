#include "text/automaton.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static jt_status too_ambiguous(jt_err *err)
{
    return jt_fail(
        err, JT_E_LIMIT,
        "the grammar is too ambiguous: it can be read in too many ways here");
}

static jt_status no_memory(jt_err *err)
{
    return jt_fail_memory(err, "following a grammar");
}

/* ---- things that are there once ---- */

static bool grow_set(jt_number_set *set, size_t capacity,
                     uint64_t (*hash)(const jt_automaton *a, uint32_t number),
                     const jt_automaton *a)
{
    uint32_t *slots = jt_calloc(capacity, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < set->capacity; i++) {
        if (!set->slots[i])
            continue;
        size_t at = hash(a, set->slots[i] - 1) & (capacity - 1);
        while (slots[at])
            at = (at + 1) & (capacity - 1);
        slots[at] = set->slots[i];
    }
    free(set->slots);
    set->slots = slots;
    set->capacity = capacity;
    return true;
}

static uint64_t spread(uint64_t hash)
{
    return hash ^ hash >> 29;
}

static uint64_t hash_frame(const jt_automaton *a, uint32_t number)
{
    return spread(jt_hash(JT_HASH_START, &a->frames[number], sizeof *a->frames));
}

static uint64_t hash_places(const jt_place *places, size_t count)
{
    return spread(jt_hash(JT_HASH_START, places, count * sizeof *places));
}

static uint64_t hash_state(const jt_automaton *a, uint32_t number)
{
    const jt_automaton_state *s = &a->states[number];
    return hash_places(a->places + s->first, s->count);
}

static bool make_room(jt_number_set *set,
                      uint64_t (*hash)(const jt_automaton *a, uint32_t number),
                      const jt_automaton *a)
{
    return 2 * (set->used + 1) <= set->capacity ||
           grow_set(set, set->capacity ? 2 * set->capacity : 256, hash, a);
}

/* The stack with `node` on top of `below`. */
static jt_status push(jt_automaton *a, uint32_t node, uint32_t below, uint32_t *out,
                      jt_err *err)
{
    jt_frame frame = {node, below};
    if (!make_room(&a->frame_set, hash_frame, a) ||
        !jt_grow((void **)&a->frames, &a->frames_capacity, a->n_frames + 1,
                 sizeof *a->frames))
        return no_memory(err);
    a->frames[a->n_frames] = frame; /* for its hash; kept if it is new */
    jt_number_set *set = &a->frame_set;
    size_t at = hash_frame(a, (uint32_t)a->n_frames) & (set->capacity - 1);
    for (; set->slots[at]; at = (at + 1) & (set->capacity - 1)) {
        *out = set->slots[at] - 1;
        if (memcmp(&a->frames[*out], &frame, sizeof frame) == 0)
            return JT_OK;
    }
    *out = (uint32_t)a->n_frames++;
    set->slots[at] = *out + 1;
    set->used++;
    return JT_OK;
}

/* ---- making a state ---- */

/* The slot of a place among the fresh ones, or a free one. */
static jt_fresh_slot *find_fresh(const jt_automaton *a, jt_place place)
{
    size_t most = 2 * (size_t)JT_AUTOMATON_PLACES - 1;
    size_t at = (place.node * 0x9e3779b1u ^ place.stack * 0x85ebca6bu) >> 7 & most;
    for (;; at = (at + 1) & most) {
        jt_fresh_slot *slot = &a->fresh_slots[at];
        const jt_place *known = &a->fresh[slot->index];
        if (slot->made != a->made ||
            (known->node == place.node && known->stack == place.stack))
            return slot;
    }
}

/* A way of reading leads here. What reads nothing is among the fresh places until the
 * state is made. */
static jt_status reach(jt_automaton *a, jt_place place, jt_err *err)
{
    const jt_grammar_node *nodes = a->grammar->nodes;
    while (nodes[place.node].kind == JT_GRAMMAR_RETURN && place.stack) {
        jt_frame top = a->frames[place.stack];
        place = (jt_place){top.node, top.below};
    }
    if (nodes[place.node].kind == JT_GRAMMAR_RETURN) {
        a->fresh_accepts = true;
        return JT_OK;
    }
    jt_fresh_slot *slot = find_fresh(a, place);
    if (slot->made == a->made)
        return JT_OK;
    if (a->n_fresh == JT_AUTOMATON_PLACES || ++a->work > JT_AUTOMATON_WORK)
        return too_ambiguous(err);
    *slot = (jt_fresh_slot){a->made, (uint32_t)a->n_fresh};
    a->fresh[a->n_fresh++] = place;
    return JT_OK;
}

/* Go on from the places that read nothing, until all do. */
static jt_status close_fresh(jt_automaton *a, jt_err *err)
{
    for (size_t i = 0; i < a->n_fresh; i++) {
        jt_place place = a->fresh[i];
        const jt_grammar_node *node = &a->grammar->nodes[place.node];
        if (node->kind == JT_GRAMMAR_SPLIT) {
            JT_TRY(reach(a, (jt_place){node->next, place.stack}, err));
            JT_TRY(reach(a, (jt_place){node->other, place.stack}, err));
        } else if (node->kind == JT_GRAMMAR_CALL) {
            uint32_t stack = place.stack; /* nothing to return to is not kept */
            if (a->grammar->nodes[node->next].kind != JT_GRAMMAR_RETURN)
                JT_TRY(push(a, node->next, place.stack, &stack, err));
            uint32_t start = a->grammar->starts[node->other];
            JT_TRY(reach(a, (jt_place){start, stack}, err));
        }
    }
    return JT_OK;
}

static int by_place(const void *a, const void *b)
{
    const jt_place *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return (x->stack > y->stack) - (x->stack < y->stack);
}

/* Only what reads a byte, in an order that is always the same. */
static void tidy_fresh(jt_automaton *a)
{
    size_t kept = 0;
    for (size_t i = 0; i < a->n_fresh; i++) {
        if (a->grammar->nodes[a->fresh[i].node].kind == JT_GRAMMAR_BYTE)
            a->fresh[kept++] = a->fresh[i];
    }
    a->n_fresh = kept;
    qsort(a->fresh, kept, sizeof *a->fresh, by_place);
}

static bool is_fresh(const jt_automaton *a, const jt_automaton_state *s)
{
    return s->count == a->n_fresh && s->accepts == a->fresh_accepts &&
           memcmp(a->places + s->first, a->fresh, a->n_fresh * sizeof *a->fresh) == 0;
}

static jt_status add_state(jt_automaton *a, size_t slot, int32_t *out, jt_err *err)
{
    if (a->n_states == JT_AUTOMATON_STATES)
        return too_ambiguous(err);
    if (!jt_grow((void **)&a->states, &a->states_capacity, a->n_states + 1,
                 sizeof *a->states) ||
        !jt_grow((void **)&a->places, &a->places_capacity, a->n_places + a->n_fresh,
                 sizeof *a->places))
        return no_memory(err);
    a->states[a->n_states] = (jt_automaton_state){.first = a->n_places,
                                                  .count = (uint32_t)a->n_fresh,
                                                  .accepts = a->fresh_accepts};
    if (a->n_fresh)
        memcpy(a->places + a->n_places, a->fresh, a->n_fresh * sizeof *a->fresh);
    a->n_places += a->n_fresh;
    *out = (int32_t)a->n_states++;
    a->state_set.slots[slot] = (uint32_t)a->n_states;
    a->state_set.used++;
    return JT_OK;
}

/* The state of the places in `fresh`. */
static jt_status make_state(jt_automaton *a, int32_t *out, jt_err *err)
{
    JT_TRY(close_fresh(a, err));
    tidy_fresh(a);
    *out = JT_STATE_NONE;
    if (a->n_fresh == 0 && !a->fresh_accepts)
        return JT_OK;
    if (!make_room(&a->state_set, hash_state, a))
        return no_memory(err);
    jt_number_set *set = &a->state_set;
    size_t at = hash_places(a->fresh, a->n_fresh) & (set->capacity - 1);
    for (; set->slots[at]; at = (at + 1) & (set->capacity - 1)) {
        *out = (int32_t)set->slots[at] - 1;
        if (is_fresh(a, &a->states[*out]))
            return JT_OK;
    }
    return add_state(a, at, out, err);
}

static void begin_state(jt_automaton *a)
{
    a->n_fresh = 0;
    a->made++;
    a->fresh_accepts = false;
}

/* ---- the life of an automaton ---- */

jt_status jt_automaton_init(jt_automaton *a, const jt_grammar *grammar, int32_t *start,
                            jt_err *err)
{
    *a = (jt_automaton){.grammar = grammar, .n_frames = 1};
    a->fresh = jt_alloc(JT_AUTOMATON_PLACES, sizeof *a->fresh);
    a->fresh_slots = jt_calloc(2 * (size_t)JT_AUTOMATON_PLACES, sizeof *a->fresh_slots);
    if (!a->fresh || !a->fresh_slots ||
        !jt_grow((void **)&a->frames, &a->frames_capacity, 1, sizeof *a->frames))
        return no_memory(err);
    a->frames[0] = (jt_frame){0};
    begin_state(a);
    JT_TRY(reach(a, (jt_place){grammar->starts[grammar->root], 0}, err));
    return make_state(a, start, err);
}

void jt_automaton_free(jt_automaton *a)
{
    for (size_t i = 0; i < a->n_states; i++)
        free(a->states[i].next);
    free(a->frames);
    free(a->places);
    free(a->states);
    free(a->frame_set.slots);
    free(a->state_set.slots);
    free(a->fresh);
    free(a->fresh_slots);
    *a = (jt_automaton){0};
}

void jt_automaton_renew(jt_automaton *a)
{
    a->work = 0;
}

static bool open_row(jt_automaton_state *s)
{
    s->next = jt_alloc(256, sizeof *s->next);
    for (size_t i = 0; i < 256 && s->next; i++)
        s->next[i] = JT_STATE_UNKNOWN;
    return s->next;
}

jt_status jt_automaton_step(jt_automaton *a, int32_t state, uint8_t byte, int32_t *out,
                            jt_err *err)
{
    jt_automaton_state *s = &a->states[state];
    if (!s->next && !open_row(s))
        return no_memory(err);
    *out = s->next[byte];
    if (*out != JT_STATE_UNKNOWN)
        return JT_OK;
    begin_state(a);
    a->work += s->count;
    for (size_t i = 0; i < s->count; i++) {
        jt_place place = a->places[s->first + i];
        const jt_grammar_node *node = &a->grammar->nodes[place.node];
        if (byte >= node->low && byte <= node->high)
            JT_TRY(reach(a, (jt_place){node->next, place.stack}, err));
    }
    JT_TRY(make_state(a, out, err));
    a->states[state].next[byte] = *out;
    return JT_OK;
}

/* The same stack in another automaton. */
static jt_status copy_stack(jt_automaton *to, const jt_automaton *from, uint32_t stack,
                            uint32_t *out, jt_err *err)
{
    size_t depth = 0;
    for (uint32_t at = stack; at; at = from->frames[at].below)
        depth++;
    uint32_t *nodes = jt_alloc(depth, sizeof *nodes);
    if (!nodes)
        return no_memory(err);
    size_t n = depth;
    for (uint32_t at = stack; at; at = from->frames[at].below)
        nodes[--n] = from->frames[at].node;
    jt_status status = JT_OK;
    *out = 0;
    for (size_t i = 0; i < depth && status == JT_OK; i++)
        status = push(to, nodes[i], *out, out, err);
    free(nodes);
    return status;
}

jt_status jt_automaton_forget(jt_automaton *a, int32_t *state, jt_err *err)
{
    const jt_automaton_state *old = &a->states[*state];
    jt_automaton fresh;
    int32_t start;
    jt_status status = jt_automaton_init(&fresh, a->grammar, &start, err);
    if (status == JT_OK) {
        begin_state(&fresh);
        fresh.fresh_accepts = old->accepts;
    }
    for (size_t i = 0; i < old->count && status == JT_OK; i++) {
        jt_place place = a->places[old->first + i];
        status = copy_stack(&fresh, a, place.stack, &place.stack, err);
        if (status == JT_OK)
            status = reach(&fresh, place, err);
    }
    if (status == JT_OK)
        status = make_state(&fresh, state, err);
    if (status != JT_OK) {
        jt_automaton_free(&fresh);
        return status;
    }
    jt_automaton_free(a);
    *a = fresh;
    return JT_OK;
}

jt_status jt_grammar_match(const jt_grammar *grammar, const char *text, size_t len,
                           bool *fits, jt_err *err)
{
    jt_automaton a;
    int32_t at;
    jt_status status = jt_automaton_init(&a, grammar, &at, err);
    for (size_t i = 0; i < len && status == JT_OK && at != JT_STATE_NONE; i++) {
        jt_automaton_renew(&a);
        if (a.n_states >= JT_AUTOMATON_FEW)
            status = jt_automaton_forget(&a, &at, err);
        if (status == JT_OK)
            status = jt_automaton_step(&a, at, (uint8_t)text[i], &at, err);
    }
    *fits = status == JT_OK && at != JT_STATE_NONE && a.states[at].accepts;
    jt_automaton_free(&a);
    return status;
}
