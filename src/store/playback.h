/* A cache without weights: what would be there, and what would have to be read. */
#ifndef JT_STORE_PLAYBACK_H
#define JT_STORE_PLAYBACK_H

#include "junto/store.h"
#include "store/slots.h"

typedef struct jt_playback {
    jt_slots slots;
    jt_ranking ranking;
    uint64_t uses, misses;
    uint64_t lacking[JT_LACKING_MOST + 1]; /* passes that miss so many */
    uint64_t pass;                         /* number of the one being played */
    uint64_t *served; /* [experts] the last pass that found the expert there */
} jt_playback;

/* Errors of jt_ranking_start. */
jt_status jt_playback_start(jt_playback *out, const jt_cache_policy *policy,
                            const jt_experts_map *map, int n_slots,
                            const jt_foreknowledge *known, jt_err *err);
void jt_playback_stop(jt_playback *p); /* {0} is fine */

/* A pass of a layer: its experts (of all layers' numbering, ascending), and what its
 * router thinks (as jt_ranking_score; NULL: not known). */
void jt_playback_pass(jt_playback *p, int layer, const int32_t *experts, int count,
                      const float *scores);

#endif
