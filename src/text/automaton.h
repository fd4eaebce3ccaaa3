/* A grammar as an automaton over bytes, of which only the states exist that were
 * reached.
 *
 * A *place* is where one way of reading a text stands: a node that reads a byte, and
 * what has been called and not returned from, a *stack*. A *state* is the set of all
 * places that a text can be read to. Equal stacks and equal states are the same number,
 * so that what has been found out about a state holds whenever it comes again: within a
 * string, say, all characters lead back to the same one. */
#ifndef JT_TEXT_AUTOMATON_H
#define JT_TEXT_AUTOMATON_H

#include "text/grammar.h"

typedef struct jt_place {
    uint32_t node;
    uint32_t stack; /* 0: empty */
} jt_place;

typedef struct jt_frame { /* the top of a stack */
    uint32_t node;        /* to return to */
    uint32_t below;
} jt_frame;

typedef struct jt_automaton_state {
    size_t first;   /* of its places */
    uint32_t count; /* none: no byte can follow */
    bool accepts;   /* the text may end here */
    int32_t *next;  /* [256] states, or one of the numbers below; NULL: not asked yet */
} jt_automaton_state;

enum { JT_STATE_NONE = -1, JT_STATE_UNKNOWN = -2 };

enum { /* at most, for what else would be a grammar that is too ambiguous */
       JT_AUTOMATON_PLACES = 1 << 13, /* of a state */
       JT_AUTOMATON_STATES = 1 << 14, /* at once */
       JT_AUTOMATON_FEW = 1 << 12,    /* after which to forget what is not needed */
       JT_AUTOMATON_WORK = 1 << 21    /* places looked at after jt_automaton_renew */
};

/* Numbers by their hash, for things that lie in a list. */
typedef struct jt_number_set {
    uint32_t *slots; /* number + 1; 0: free */
    size_t capacity, used;
} jt_number_set;

typedef struct jt_fresh_slot {
    uint32_t made, index; /* of `fresh`, if `made` is that of the automaton */
} jt_fresh_slot;

typedef struct jt_automaton {
    const jt_grammar *grammar;
    jt_frame *frames; /* [n_frames]; 0 stands for the empty stack */
    size_t n_frames, frames_capacity;
    jt_place *places; /* of all states */
    size_t n_places, places_capacity;
    jt_automaton_state *states;
    size_t n_states, states_capacity;
    jt_number_set frame_set, state_set;
    jt_place *fresh; /* [JT_AUTOMATON_PLACES] of the state that is being made */
    jt_fresh_slot *fresh_slots; /* [2 * JT_AUTOMATON_PLACES], by hash */
    size_t n_fresh;
    uint32_t made; /* how many states, so that the slots need not be cleared */
    bool fresh_accepts;
    size_t work;
} jt_automaton;

/* *start: where every text begins. Free also after a failure. JT_E_LIMIT, JT_E_MEMORY,
 * here and below. */
jt_status jt_automaton_init(jt_automaton *a, const jt_grammar *grammar, int32_t *start,
                            jt_err *err);
void jt_automaton_free(jt_automaton *a);

/* Where a byte leads to; JT_STATE_NONE: nowhere. */
jt_status jt_automaton_step(jt_automaton *a, int32_t state, uint8_t byte, int32_t *out,
                            jt_err *err);

/* Begin anew to count the work, which is bounded. */
void jt_automaton_renew(jt_automaton *a);

/* Forget all states but *state, which gets another number. */
jt_status jt_automaton_forget(jt_automaton *a, int32_t *state, jt_err *err);

#endif
