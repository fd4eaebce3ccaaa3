/* Dispatch, second half, and apply: the weights of the experts that a plan needs, and
 * the work that they do. */
#ifndef JT_EXPERTS_H
#define JT_EXPERTS_H

#include "junto/moe.h"
#include "tensor/ops.h"

typedef struct jt_bank jt_bank;

/* The parts of an FFN expert. */
enum { JT_PART_GATE, JT_PART_UP, JT_PART_DOWN, JT_PARTS };

/* Expert weights that a plan needs, resident as long as the lease is held.
 * part[expert * JT_PARTS + p] is empty for experts without tokens. */
typedef struct jt_lease {
    jt_tensor *part;
    void *held; /* the store's own note of what it pinned */
} jt_lease;

/* Where expert weights live. `acquire` makes the experts that have tokens in `plan`
 * resident and fills `lease->part` (room for n_experts * JT_PARTS, zeroed); `release`
 * ends that. Implementations: src/store/. */
typedef struct jt_store {
    const char *name;
    void *self;
    jt_status (*acquire)(void *self, const jt_bank *bank, const jt_plan *plan,
                         jt_lease *lease, jt_err *err);
    void (*release)(void *self, jt_lease *lease);
} jt_store;

/* What an expert computes. */
typedef struct jt_expert_kind {
    const char *name;
    /* Outputs [plan rows, d], unweighted, with a fresh gradient. x holds all tokens. */
    jt_tensor (*apply)(jt_context *ctx, const jt_bank *bank, const jt_lease *lease,
                       const jt_plan *plan, jt_input *x);
} jt_expert_kind;

const jt_expert_kind *jt_expert_kind_find(const char *name);

/* The experts of one layer, as the file stacks them. Their number and width belong to
 * the layer. A dense FFN and a shared expert are banks of one. */
struct jt_bank {
    const jt_expert_kind *kind;
    int layer;
    int n_experts;
    size_t d, width;
    jt_activation activation;
    bool
        fused; /* part[JT_PART_GATE] holds both, [experts, 2 width, d]: gate, then up */
    jt_tensor part[JT_PARTS]; /* gate (or empty: activation(up)) and up, [experts,
                                 width, d]; down [experts, d, width] */
    jt_tensor bias[JT_PARTS]; /* [experts, rows of the part]; may be empty. They are no
                                 matter of the store: small, and always there */
    const char *name[JT_PARTS]; /* of the parts in a file: "ffn_up_exps" */
};

/* Acquire, apply, release: outputs [plan rows, d], with a fresh gradient. */
jt_tensor jt_bank_apply(jt_context *ctx, const jt_bank *bank, const jt_store *store,
                        const jt_plan *plan, jt_input *x);

#endif
