/* Which of a token's experts stay. */
#ifndef JT_STEER_TRIM_H
#define JT_STEER_TRIM_H

#include "steer/policy.h"

/* One expert of a token, in the order in which selection gave them. */
typedef struct jt_slot {
    size_t token;
    int rank;           /* how many came before it */
    float share;        /* of its weight in the weights of all that were selected */
    float best;         /* the largest such share */
    float before, mass; /* scores of the experts before it, and of this one, over those
                           of all rows of the router */
} jt_slot;

/* Leave of each token's experts those for which `stays` is true; the others do no work.
 * With `rescale` the weights of those that stay are multiplied so that their sum is
 * what that of all was. */
void jt_trim(jt_route *route, bool (*stays)(const void *self, const jt_slot *slot),
             const void *self, bool rescale);

/* The experts of certain ranks: how many have to be selected, and which stay. */
int jt_ranks_slots(const jt_ids *ranks);
void jt_ranks_trim(const jt_ids *ranks, jt_route *route, bool rescale);

/* The key "renormalise" of policies that trim: no, yes, or as the router itself does.
 */
enum { JT_RESCALE_NO, JT_RESCALE_YES, JT_RESCALE_AS_ROUTER };
bool jt_trim_rescales(int key, const jt_model *model, int layer);

#endif
