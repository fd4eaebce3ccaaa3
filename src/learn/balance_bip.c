/* BIP-Based Balancing: prices of the experts from the dual of the assignment problem
 *
 *   max sum s_ti x_ti,  sum_i x_ti <= k,  sum_t x_ti <= c,  0 <= x <= 1
 *
 * Each half of a round is the exact minimum of the dual
 *
 *   k sum_t p_t + c sum_i q_i + sum_ti max(0, s_ti - p_t - q_i)
 *
 * over p or over q, so its value never rises. c = ceil(k T / E): rounded down, a small
 * batch would have less room than picks, and prices would have nothing to settle at. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/order.h"
#include "learn/balance_impl.h"

/* max(0, the (above + 1)-th largest); 0 when there are not so many, and for NaN. */
static float price(float *x, size_t n, size_t above)
{
    return above < n ? fmaxf(0.0f, jt_nth_largest(x, n, above + 1)) : 0.0f;
}

size_t jt_bip_room(size_t n_tokens, size_t n_experts)
{
    return 2 * n_tokens + n_experts;
}

void jt_bip_rounds(float *q, const float *scores, size_t n_tokens, size_t n_experts,
                   size_t k, int rounds, float *room)
{
    float *p = room, *column = p + n_tokens, *row = column + n_tokens;
    size_t capacity = (k * n_tokens + n_experts - 1) / n_experts;
    for (int round = 0; round < rounds; round++) {
        for (size_t t = 0; t < n_tokens; t++) {
            for (size_t i = 0; i < n_experts; i++)
                row[i] = scores[t * n_experts + i] - q[i];
            p[t] = price(row, n_experts, k);
        }
        for (size_t i = 0; i < n_experts; i++) {
            for (size_t t = 0; t < n_tokens; t++)
                column[t] = scores[t * n_experts + i] - p[t];
            q[i] = price(column, n_tokens, capacity);
        }
    }
}

/* A replay must select as the first pass did, so it keeps the prices that it left. */
void jt_balance_price(void *self, const jt_route_site *site, const float *scores,
                      int n_tokens, int n_experts, float *bias)
{
    jt_balance *b = self;
    const jt_router *router = b->layer[site->layer].router;
    size_t tokens = (size_t)n_tokens, experts = (size_t)n_experts;
    float *kept = router->selection_bias.data;
    void *room = b->room;
    if (!site->replay) {
        bool grown = jt_grow(&room, &b->capacity,
                             experts + jt_bip_room(tokens, experts), sizeof *b->room);
        b->room = room;
        if (!grown) {
            b->no_room = true;
            return;
        }
        float *q = b->room;
        for (size_t i = 0; i < experts; i++)
            q[i] = -kept[i];
        jt_bip_rounds(q, scores, tokens, experts, (size_t)router->k,
                      b->options.bip_rounds, q + experts);
        for (size_t i = 0; i < experts; i++)
            kept[i] = -q[i];
    }
    memcpy(bias, kept, experts * sizeof *bias);
}
