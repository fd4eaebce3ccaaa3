/* The inside of balancing: what is kept for each layer, and the parts. */
#ifndef JT_BALANCE_IMPL_H
#define JT_BALANCE_IMPL_H

#include "learn/balance.h"

/* One mixture layer, over the current step. */
typedef struct jt_balance_layer {
    const jt_router *router;
    uint64_t *picks; /* [rows of the router] */
    double *f;       /* [rows of the router], room for shares */
    uint64_t tokens, used;
    double loss, z_loss; /* sums over micro-batches */
    int passes;          /* micro-batches seen */
} jt_balance_layer;

struct jt_balance {
    jt_balance_options options;
    jt_balance_layer *layer; /* [layers]; router NULL for dense ones */
    int n_layers;
    float scale;
    float *room; /* of BIP, grown as needed */
    size_t capacity;
    bool no_room; /* it could not grow: the route term, which has a context, says so */
    jt_balance_report last;
};

/* f [rows]: the shares of the picks; null experts by their mean when `null_mean`. An
 * even share is exactly 1.0 / rows. All 0 without picks. */
void jt_balance_shares(double *f, const uint64_t *picks, const jt_router *router,
                       bool null_mean);

/* The route term: counts the picks, adds the losses and their gradients. */
void jt_balance_add(void *self, jt_context *ctx, const jt_route_site *site,
                    const jt_router *router, const jt_tensor *logits,
                    const jt_tensor *scores, const jt_route *route);

/* The policy of BIP. */
void jt_balance_price(void *self, const jt_route_site *site, const float *scores,
                      int n_tokens, int n_experts, float *bias);

/* `rounds` rounds of prices q [n_experts] for scores [n_tokens, n_experts]; `room`
 * holds jt_bip_room floats. */
void jt_bip_rounds(float *q, const float *scores, size_t n_tokens, size_t n_experts,
                   size_t k, int rounds, float *room);
size_t jt_bip_room(size_t n_tokens, size_t n_experts);

#endif
