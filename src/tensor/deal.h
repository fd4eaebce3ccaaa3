/* Which thread works on which items of a list of products, some of them thin, and what
 * it asks for meanwhile.
 *
 * A thread gets its share of the products that wait for the multipliers and then its
 * share of those that wait for memory. While it works on the first it asks for what it
 * will read itself of the second: what another has brought into its own cache is hardly
 * nearer than memory. */
#ifndef JT_DEAL_H
#define JT_DEAL_H

#include "tensor/tiles.h"

/* How a product is cut into items. */
typedef struct jt_cut {
    size_t first_item; /* of this product */
    size_t tile_rows, row_tiles;
    jt_reading weight;
    bool joined; /* it is thin, and follows the one before in the same item */
} jt_cut;

typedef struct jt_deal {
    const uint32_t *order; /* [items] which one the pool's item i is; NULL: that one */
    const jt_later *later; /* [threads] what each will read after those that are not
                              thin; NULL: nothing */
    size_t plain, threads; /* items that are not thin: the first ones */
} jt_deal;

/* Of `items` items; thin products are the last of the list. In scratch. */
jt_deal jt_deal_out(jt_context *ctx, const jt_product *products, const jt_cut *cuts,
                    size_t count, size_t items);

/* The item that the pool's item i is. */
static inline size_t jt_deal_item(const jt_deal *deal, size_t i)
{
    return deal->order ? deal->order[i] : i;
}

/* What to ask for during an item that is not thin. */
jt_later jt_deal_later(const jt_deal *deal, size_t item);

#endif
