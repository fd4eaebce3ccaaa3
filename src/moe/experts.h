/* Dispatch, second half, and apply: the weights of the experts that a plan needs, and
 * the work that they do. */
#ifndef JT_EXPERTS_H
#define JT_EXPERTS_H

#include "junto/moe.h"
#include "tensor/ops.h"

typedef struct jt_bank jt_bank;
typedef struct jt_hooks jt_hooks; /* moe/mixture.h */

/* The parts of an FFN expert. */
enum { JT_PART_GATE, JT_PART_UP, JT_PART_DOWN, JT_PARTS };

/* Expert weights that a plan needs, in one wave or in several: a store that has some of
 * the experts at hand gives those first and the others as they come. The weights of a
 * wave stay until the next one or the release. */
typedef struct jt_lease {
    jt_tensor *part; /* [n_experts * JT_PARTS]: those of expert e begin at e * JT_PARTS;
                        set for the experts of this wave */
    int32_t *expert; /* [n_experts] the experts of this wave, ascending */
    int n_wave;      /* how many they are; when there is only one wave, all that have
                        tokens */
    bool more;       /* another wave follows */
    bool whole;      /* asked for: all in one wave, as gradients need them */
    const jt_plan *plan;
} jt_lease;

/* Where expert weights live. `acquire` announces which experts of `bank` have tokens
 * and gives the first wave (the arrays of `lease` have room for all); `advance`
 * gives the next one; `release` ends the lease, also after a failure of `advance`. When
 * `acquire` fails there is nothing to release. `foresee` (may be NULL) shows the store
 * the hidden states h [tokens, d] that are about to reach the experts of `layer`, from
 * which it may guess what the next layer, steered by `hooks`, will ask for. `learn`
 * (may be NULL) shows it the route of all tokens of a pass, whoever steers which of
 * them. Implementations: src/store/. */
typedef struct jt_store {
    const char *name;
    void *self;
    jt_status (*acquire)(void *self, const jt_bank *bank, jt_lease *lease, jt_err *err);
    jt_status (*advance)(void *self, const jt_bank *bank, jt_lease *lease, jt_err *err);
    void (*release)(void *self, const jt_bank *bank, jt_lease *lease);
    void (*foresee)(void *self, jt_context *ctx, const jt_hooks *hooks,
                    const jt_route_site *site, const jt_tensor *h);
    void (*learn)(void *self, const jt_route_site *site, const jt_route *route);
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

/* Acquire, apply wave by wave, release: outputs [plan rows, d], with a fresh gradient.
 * With a tape in one wave, and the same experts are acquired again while gradients pass
 * them; a backward that fails midway leaves that lease to the end of the store. */
jt_tensor jt_bank_apply(jt_context *ctx, const jt_bank *bank, const jt_store *store,
                        const jt_plan *plan, jt_input *x);

#endif
