#include "store/playback.h"

#include <stdlib.h>

#include "base/memory.h"

jt_status jt_playback_start(jt_playback *out, const jt_cache_policy *policy,
                            const jt_experts_map *map, int n_slots,
                            const jt_foreknowledge *known, jt_err *err)
{
    jt_playback p = {0};
    JT_TRY(jt_slots_init(&p.slots, n_slots, map->first[map->n_layers], err));
    jt_status status = jt_ranking_start(&p.ranking, policy, map, n_slots, known, err);
    p.served = jt_calloc((size_t)map->first[map->n_layers], sizeof *p.served);
    if (status == JT_OK && !p.served)
        status = jt_fail_memory(err, "playing a trace back");
    if (status != JT_OK)
        jt_playback_stop(&p);
    else
        *out = p;
    return status;
}

void jt_playback_stop(jt_playback *p)
{
    jt_slots_free(&p->slots);
    jt_ranking_stop(&p->ranking);
    free(p->served);
    *p = (jt_playback){0};
}

static void unpin(jt_playback *p, const int32_t *experts, int count)
{
    for (int i = 0; i < count; i++) {
        int slot = p->slots.where[experts[i]];
        if (slot >= 0)
            p->slots.slot[slot].pinned = false;
    }
}

/* An expert comes; where all slots are in use, those that have worked are given up. */
static void load(jt_playback *p, const int32_t *experts, int count, int32_t expert)
{
    int slot = jt_slots_take(&p->slots, &p->ranking, expert, true);
    if (slot < 0) {
        unpin(p, experts, count);
        slot = jt_slots_take(&p->slots, &p->ranking, expert, true);
    }
    p->slots.slot[slot].state = JT_SLOT_READY;
    p->slots.slot[slot].pinned = true;
}

void jt_playback_pass(jt_playback *p, int layer, const int32_t *experts, int count,
                      const float *scores)
{
    if (scores)
        jt_ranking_score(&p->ranking, layer, scores);
    p->pass++;
    p->uses += (uint64_t)count;
    uint64_t misses = p->misses;
    for (int i = 0; i < count; i++) {
        int slot = p->slots.where[experts[i]];
        jt_ranking_use(&p->ranking, experts[i]);
        if (slot < 0)
            continue;
        p->slots.slot[slot].pinned = true;
        p->served[experts[i]] = p->pass;
    }
    for (int i = 0; i < count; i++) {
        if (p->served[experts[i]] == p->pass)
            continue;
        p->misses++;
        load(p, experts, count, experts[i]);
    }
    misses = p->misses - misses;
    p->lacking[misses < JT_LACKING_MOST ? misses : JT_LACKING_MOST]++;
    unpin(p, experts, count);
}
