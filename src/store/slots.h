/* The slots of an expert cache: who lies where, and who leaves. The live store and the
 * simulator share them. */
#ifndef JT_STORE_SLOTS_H
#define JT_STORE_SLOTS_H

#include "store/policy.h"

typedef enum jt_slot_state {
    JT_SLOT_EMPTY,
    JT_SLOT_COMING, /* its expert is being read */
    JT_SLOT_READY
} jt_slot_state;

typedef struct jt_slot {
    int expert; /* -1: nobody's, but not empty yet */
    jt_slot_state state;
    bool pinned; /* in use */
    bool held;   /* read on a guess that has not come true yet */
} jt_slot;

typedef struct jt_slots {
    jt_slot *slot; /* [count] */
    int count;
    int *where; /* [experts] its slot; -1: none */
    int *empty; /* [n_empty] slots */
    int n_empty;
} jt_slots;

/* JT_E_MEMORY. */
jt_status jt_slots_init(jt_slots *out, int count, int n_experts, jt_err *err);
void jt_slots_free(jt_slots *slots); /* {0} is fine */

/* A slot for an expert that has none: an empty one, or that of the ready expert that
 * ranks lowest and is neither pinned nor held (with `need`, one that is held rather
 * than none). Its state becomes COMING. -1: none can be had now. */
int jt_slots_take(jt_slots *slots, const jt_ranking *ranking, int expert, bool need);
/* The expert of a slot is not coming any more; the slot is dropped later. */
void jt_slots_orphan(jt_slots *slots, int slot);
/* Make a slot empty. */
void jt_slots_drop(jt_slots *slots, int slot);

#endif
