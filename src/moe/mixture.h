/* A mixture layer: the five stages in a row, with the places where policies and
 * watchers attach. */
#ifndef JT_MIXTURE_H
#define JT_MIXTURE_H

#include "moe/experts.h"
#include "moe/plan.h"
#include "moe/router.h"

typedef struct jt_mixture {
    jt_router router;
    jt_bank experts;
    jt_bank shared; /* n_experts 0: no shared expert */
    jt_tensor
        shared_gate; /* [1, d]: the shared expert's weight is sigmoid(w . x); empty:
                        1 */
    float scale;     /* > 0: of the sum of all experts */
} jt_mixture;

/* A term that training adds to the loss for what the router did (balance, z-loss).
 * Called after selection: it notes its value and pushes its gradient, into those of the
 * scores or logits, on the tape (which keeps nothing in an evaluation, or in a pass
 * that will run again). */
typedef struct jt_route_term {
    void *self;
    void (*add)(void *self, jt_context *ctx, const jt_route_site *site,
                const jt_router *router, const jt_tensor *logits,
                const jt_tensor *scores, const jt_route *route);
} jt_route_term;

/* The next rows of a pass, and who may change and see where they go. */
typedef struct jt_hooks_part {
    const jt_hooks *hooks;
    size_t tokens;
} jt_hooks_part;

/* A pass of several sequences has parts, each with hooks of its own: `part` then covers
 * all its rows, and the rest here is empty. */
enum { JT_MAX_HOOKS = 16 };
struct jt_hooks {
    jt_policy policy[JT_MAX_HOOKS];
    jt_watcher watcher[JT_MAX_HOOKS];
    jt_route_term term[JT_MAX_HOOKS];
    int n_policies, n_watchers, n_terms;
    const jt_hooks_part *part; /* [n_parts]; none: one sequence, or all alike. What the
                                  experts gave is shown to the watchers of the first */
    size_t n_parts;
};

/* Experts per token, where the model says `k`. */
int jt_hooks_slots(const jt_hooks *hooks, const jt_route_site *site, int k);

/* Let the policies change the logits [tokens, rows of the router]. */
void jt_hooks_logits(const jt_hooks *hooks, const jt_route_site *site,
                     const jt_tensor *logits);

/* score, select, dispatch, apply, combine: [tokens, d]. */
jt_tensor jt_mixture_forward(jt_context *ctx, const jt_mixture *mixture,
                             const jt_store *store, const jt_hooks *hooks,
                             const jt_route_site *site, jt_input *x);

/* The same where the router reads something else than the experts. */
jt_tensor jt_mixture_forward_apart(jt_context *ctx, const jt_mixture *mixture,
                                   const jt_store *store, const jt_hooks *hooks,
                                   const jt_route_site *site, jt_input *router_x,
                                   jt_input *x);

/* Stage 5: y += the weighted rows of a plan, in token order. */
void jt_combine(jt_context *ctx, const jt_plan *plan, const jt_tensor *rows,
                jt_tensor *y);

/* A dense FFN through the same machinery: one expert, every token. Its gradient is
 * fresh: jt_add_to reads it next. */
jt_tensor jt_dense_forward(jt_context *ctx, const jt_bank *bank, const jt_store *store,
                           jt_input *x);

#endif
