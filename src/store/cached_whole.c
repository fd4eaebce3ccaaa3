/* Experts that lie in one piece: one read each, and a checksum, which is looked at when
 * the expert is first used, by all threads together: what was read on a wrong guess
 * costs nothing. */
#include "base/checksum.h"
#include "base/memory.h"
#include "store/cached_impl.h"

const jt_whole *jt_cached_whole(const jt_cached *c, int expert)
{
    int l = jt_cached_layer_of(c, expert);
    const jt_whole *whole = c->stored.layers[l].whole;
    return whole ? &whole[expert - c->first[l]] : NULL;
}

jt_status jt_cached_open_checks(jt_cached *c, int n_slots, jt_err *err)
{
    c->unchecked = jt_calloc((size_t)n_slots, sizeof *c->unchecked);
    c->sums = jt_alloc(jt_checksum_pieces(c->slot_bytes), sizeof *c->sums);
    return c->unchecked && c->sums ? JT_OK : jt_fail_memory(err, "starting a cache");
}

typedef struct check {
    const void *data;
    size_t bytes;
    uint64_t *sums;
} check;

static void sum_piece(void *arg, size_t i)
{
    const check *c = arg;
    c->sums[i] = jt_checksum_piece(c->data, c->bytes, i);
}

/* Is what lies in a slot what was written? */
static bool is_intact(jt_cached *c, int slot, const jt_whole *whole)
{
    check all = {c->slab + (size_t)slot * c->slot_bytes, whole->bytes, c->sums};
    size_t pieces = jt_checksum_pieces(whole->bytes);
    jt_pool_run(c->pool, sum_piece, &all, pieces);
    return jt_checksum_join(c->sums, pieces) == whole->sum;
}

void jt_cached_check_wave(jt_cached *c)
{
    for (int i = 0; i < c->n_wave; i++) {
        int slot = c->wave[i], expert = c->slots.slot[slot].expert;
        const jt_whole *whole = c->unchecked[slot] ? jt_cached_whole(c, expert) : NULL;
        c->unchecked[slot] = false;
        if (!whole || is_intact(c, slot, whole))
            continue;
        c->failed = expert;
        c->failure = JT_READ_DAMAGED;
        jt_slots_drop(&c->slots, slot);
        c->wave[i--] = c->wave[--c->n_wave];
    }
}
