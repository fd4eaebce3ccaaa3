#include "store/slots.h"

#include <stdlib.h>

#include "base/memory.h"

jt_status jt_slots_init(jt_slots *out, int count, int n_experts, jt_err *err)
{
    jt_slots s = {.count = count, .n_empty = count};
    s.slot = jt_calloc((size_t)count, sizeof *s.slot);
    s.empty = jt_alloc((size_t)count, sizeof *s.empty);
    s.where = jt_alloc((size_t)n_experts, sizeof *s.where);
    if (!s.slot || !s.empty || !s.where) {
        jt_slots_free(&s);
        return jt_fail_memory(err, "starting a cache");
    }
    for (int i = 0; i < count; i++)
        s.empty[i] = count - 1 - i;
    for (int e = 0; e < n_experts; e++)
        s.where[e] = -1;
    *out = s;
    return JT_OK;
}

void jt_slots_free(jt_slots *slots)
{
    free(slots->slot);
    free(slots->empty);
    free(slots->where);
    *slots = (jt_slots){0};
}

void jt_slots_orphan(jt_slots *slots, int slot)
{
    slots->where[slots->slot[slot].expert] = -1;
    slots->slot[slot].expert = -1;
}

void jt_slots_drop(jt_slots *slots, int slot)
{
    if (slots->slot[slot].expert >= 0)
        slots->where[slots->slot[slot].expert] = -1;
    slots->slot[slot] = (jt_slot){.state = JT_SLOT_EMPTY};
    slots->empty[slots->n_empty++] = slot;
}

static int lowest(const jt_slots *slots, const jt_ranking *ranking, bool held)
{
    int found = -1;
    for (int i = 0; i < slots->count; i++) {
        const jt_slot *s = &slots->slot[i];
        if (s->state != JT_SLOT_READY || s->pinned || s->held != held)
            continue;
        if (found < 0 ||
            ranking->value[s->expert] < ranking->value[slots->slot[found].expert])
            found = i;
    }
    return found;
}

int jt_slots_take(jt_slots *slots, const jt_ranking *ranking, int expert, bool need)
{
    if (!slots->n_empty) {
        int leaves = lowest(slots, ranking, false);
        if (leaves < 0 && need)
            leaves = lowest(slots, ranking, true);
        if (leaves < 0)
            return -1;
        jt_slots_drop(slots, leaves);
    }
    int slot = slots->empty[--slots->n_empty];
    slots->slot[slot] = (jt_slot){.expert = expert, .state = JT_SLOT_COMING};
    slots->where[expert] = slot;
    return slot;
}
