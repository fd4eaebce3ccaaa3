/* Leases of the cached store: reads, waves, and what is read ahead of need. */
#include <string.h>

#include "base/clock.h"
#include "store/cached_impl.h"
#include "store/mapped.h"

/* ---- reads ---- */

int jt_cached_layer_of(const jt_cached *c, int expert)
{
    int low = 0, high = c->map.n_layers;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (c->first[middle] <= expert)
            low = middle;
        else
            high = middle;
    }
    return low;
}

const jt_extent *jt_cached_extent(const jt_cached *c, int expert, int part)
{
    int l = jt_cached_layer_of(c, expert);
    return &c->stored.layers[l].extent[(expert - c->first[l]) * JT_PARTS + part];
}

size_t jt_cached_part_bytes(const jt_cached *c, int expert, int part)
{
    int l = jt_cached_layer_of(c, expert);
    return jt_stored_part_bytes(&c->stored.layers[l], expert - c->first[l], part);
}

char *jt_cached_place(const jt_cached *c, int slot, int part)
{
    int expert = c->slots.slot[slot].expert;
    const jt_whole *whole = jt_cached_whole(c, expert);
    uint64_t offset = jt_cached_extent(c, expert, part)->offset;
    return c->slab + (size_t)slot * c->slot_bytes +
           (whole ? offset - whole->at.offset : c->area[part] + offset % JT_READ_ALIGN);
}

/* Begin to read number `i` of a slot. */
static void add_read(jt_cached *c, int slot, int i, const jt_extent *from, size_t bytes,
                     char *to, bool urgent)
{
    jt_read *read = &c->reads[slot * JT_SLOT_READS + i];
    c->under[slot]++;
    *read = (jt_read){
        .source = from->source, .offset = from->offset, .bytes = bytes, .to = to};
    jt_reader_add(c->reader, read, urgent);
}

void jt_cached_read(jt_cached *c, int slot, bool urgent)
{
    int expert = c->slots.slot[slot].expert;
    c->error[slot] = 0;
    c->under[slot] = 0;
    c->woven[slot] = 0;
    c->unchecked[slot] = !c->options.no_checks;
    memset(&c->reads[slot * JT_SLOT_READS], 0, JT_SLOT_READS * sizeof *c->reads);
    const jt_whole *whole = jt_cached_whole(c, expert);
    if (whole) {
        char *to = c->slab + (size_t)slot * c->slot_bytes;
        add_read(c, slot, 0, &whole->at, whole->bytes, to, urgent);
        return;
    }
    for (int p = 0; p < JT_PARTS; p++) {
        size_t bytes = jt_cached_part_bytes(c, expert, p);
        if (bytes)
            add_read(c, slot, p, jt_cached_extent(c, expert, p), bytes,
                     jt_cached_place(c, slot, p), urgent);
    }
    jt_cached_read_planes(c, slot, 0, urgent);
}

/* All parts of an expert have ended. */
static void settle(jt_cached *c, int slot)
{
    jt_slot *s = &c->slots.slot[slot];
    if (!c->error[slot]) {
        jt_cached_weave(c, slot);
        s->state = JT_SLOT_READY;
        return;
    }
    if (s->pinned) {
        c->failed = s->expert;
        c->failure = c->error[slot];
    }
    for (int i = 0; i < c->n_coming; i++) {
        if (c->coming[i] == slot)
            c->coming[i--] = c->coming[--c->n_coming];
    }
    jt_slots_drop(&c->slots, slot);
}

/* The cache is ours, not the system's. What neighbours that are being read keep from
 * being dropped now goes with the whole file now and then. */
static void forget(jt_cached *c, const jt_read *read)
{
    enum { OFTEN = 16 << 20 };
    jt_source_forget(read->source, read->offset, read->bytes);
    c->unforgotten += read->bytes;
    if (c->unforgotten < OFTEN)
        return;
    c->unforgotten = 0;
    jt_source_forget(read->source, 0, read->source->bytes);
}

/* Take note of a read that has ended; false: there is none (yet). */
static bool take_ended(jt_cached *c, bool wait)
{
    jt_read *read = jt_reader_next(c->reader, wait);
    if (!read)
        return false;
    int slot = (int)((read - c->reads) / JT_SLOT_READS);
    if (!jt_reader_is_direct(c->reader))
        forget(c, read);
    if (read->error)
        c->error[slot] = read->error;
    if (--c->under[slot] == 0)
        settle(c, slot);
    return true;
}

static void do_nothing(void *arg, size_t i)
{
    (void)arg;
    (void)i;
}

/* Wait for a read to end. Threads that fall asleep take long to wake up: for as long as
 * an expert usually takes, they are kept awake. */
static bool wait_ended(jt_cached *c, double start)
{
    static const double patience = 3e-3;
    while (jt_seconds() - start < patience) {
        if (take_ended(c, false))
            return true;
        jt_pool_run(c->pool, do_nothing, NULL, (size_t)jt_pool_threads(c->pool));
    }
    return take_ended(c, true);
}

void jt_cached_tend(jt_cached *c)
{
    while (take_ended(c, false)) {
    }
}

static void hurry(jt_cached *c, int slot)
{
    for (int i = 0; i < JT_SLOT_READS; i++) {
        jt_read *read = &c->reads[slot * JT_SLOT_READS + i];
        if (read->source)
            jt_reader_hurry(c->reader, read);
    }
}

/* Give slots to experts that are wanted, as long as there are any. */
static void read_wanted(jt_cached *c)
{
    while (c->n_wanted) {
        int slot =
            jt_slots_take(&c->slots, &c->ranking, c->wanted[c->n_wanted - 1], true);
        if (slot < 0)
            return;
        c->n_wanted--;
        c->slots.slot[slot].pinned = true;
        c->coming[c->n_coming++] = slot;
        jt_cached_expect(c, slot, false);
        jt_cached_count(c, slot);
        jt_cached_read(c, slot, true);
    }
}

/* Are there experts of this lease that no wave has had yet? */
static bool more_to_come(const jt_cached *c)
{
    return c->n_coming || c->next_wanted < c->n_wanted;
}

/* ---- ahead of need ---- */

/* A right guess saves the time of a read. A wrong one costs half of that, as it lets
 * urgent reads pass and is given up midway, and only while the disk has other work: so
 * the busier the disk is, the likelier must guesses be. A long pause of the caller
 * counts little. */
static void weigh_guesses(jt_cached *c)
{
    static const double keep = 63.0 / 64.0, least_busy = 0.2, cost = 0.5, pause = 0.1;
    double now = jt_seconds(), worked = jt_reader_busy(c->reader);
    double since = now - c->last_seconds, part = since > pause ? pause / since : 1.0;
    c->lately = keep * c->lately + part * since;
    c->busy_lately = keep * c->busy_lately + part * (worked - c->last_busy);
    c->last_seconds = now;
    c->last_busy = worked;
    double busy = c->lately > 0.0 ? c->busy_lately / c->lately : 1.0;
    busy = busy < least_busy ? least_busy : busy;
    c->guesses.least = cost * busy / (1.0 + cost * busy);
}

/* Begin to read an expert that has no slot and will be asked for; false: no room. */
static bool read_early(jt_cached *c, int expert)
{
    int slot = jt_slots_take(&c->slots, &c->ranking, expert, false);
    if (slot < 0)
        return false;
    c->slots.slot[slot].held = true;
    c->ahead++;
    jt_cached_expect(c, slot, true);
    jt_cached_read(c, slot, false);
    return true;
}

/* What comes next in the known order, as far as there is room beside the lease. */
static void read_known(jt_cached *c)
{
    int next = jt_sweep_next(&c->sweep);
    if (next < 0 || c->next_wanted < c->n_wanted)
        return;
    for (int e = c->first[next]; e < c->first[next + 1]; e++) {
        if (c->sweep.used[e] && c->slots.where[e] < 0 && !read_early(c, e))
            return;
    }
}

/* A quarter of the slots may hold guesses. */
static void read_ahead(jt_cached *c)
{
    const jt_guess *guess = jt_guesses_best(&c->guesses, c->layer + 1);
    int room = c->next_wanted < c->n_wanted ? 0 : c->slots.count / 4;
    for (int i = 0; guess && i < guess->count && i < room; i++) {
        int expert = c->first[guess->layer] + guess->expert[i];
        if (c->slots.where[expert] >= 0 || !jt_guesses_follow(&c->guesses, guess, i))
            continue;
        if (!read_early(c, expert))
            return;
    }
}

/* Read no more of an expert that nobody waits for. Its slot is empty when what is under
 * way has ended; where that is all of it, it may as well stay. */
static void give_up(jt_cached *c, int slot)
{
    bool whole = true;
    for (int i = 0; i < JT_SLOT_READS; i++) {
        jt_read *read = &c->reads[slot * JT_SLOT_READS + i];
        c->under[slot] -= jt_reader_give_up(c->reader, read);
        whole = whole && read->error != JT_READ_GIVEN_UP;
    }
    if (whole)
        return;
    c->error[slot] = JT_READ_GIVEN_UP;
    jt_slots_orphan(&c->slots, slot);
    if (c->under[slot] == 0)
        jt_slots_drop(&c->slots, slot);
}

/* What was read for a layer on guesses that have not come true need not be held, and
 * what is not there need not be read. */
static void drop_guesses(jt_cached *c, int layer, const jt_plan *plan)
{
    for (int e = c->first[layer]; e < c->first[layer + 1]; e++) {
        int slot = c->slots.where[e], local = e - c->first[layer];
        if (slot < 0 || !c->slots.slot[slot].held ||
            plan->start[local] < plan->start[local + 1])
            continue;
        c->slots.slot[slot].held = false;
        if (c->slots.slot[slot].state == JT_SLOT_COMING)
            give_up(c, slot);
    }
}

/* ---- leases ---- */

/* The bank of a layer that is stored; -1: another one. */
static int layer_of_bank(const jt_cached *c, const jt_bank *bank)
{
    for (int l = 0; l < c->stored.n_layers; l++) {
        if (c->stored.layers[l].bank == bank)
            return l;
    }
    return -1;
}

/* Count a layer that must read `wanted` experts now, and wait for `late` ones that are
 * on their way: half there on average, so that two of them count as one. */
static void count_lacking(jt_cached *c, int wanted, int late)
{
    int half = c->half_lacking + late, lacking = wanted + half / 2;
    c->half_lacking = half % 2;
    c->lacking[lacking < JT_LACKING_MOST ? lacking : JT_LACKING_MOST]++;
}

/* Sort the experts of a plan: there, on their way, or to be read. */
static void sort_experts(jt_cached *c, const jt_plan *plan)
{
    int first = c->first[c->layer], late = 0;
    c->next_wanted = c->n_wanted = c->n_coming = c->n_wave = 0;
    for (int e = first; e < c->first[c->layer + 1]; e++) {
        if (plan->start[e - first] == plan->start[e - first + 1])
            continue;
        jt_ranking_use(&c->ranking, e);
        int slot = c->slots.where[e];
        if (slot < 0) {
            c->wanted[c->n_wanted++] = e;
            c->misses++;
            continue;
        }
        jt_slot *s = &c->slots.slot[slot];
        c->hits_ahead += s->held;
        c->ahead_used += s->held;
        c->hits += !s->held;
        if (s->held)
            jt_cached_confirm(c, slot);
        s->held = false;
        s->pinned = true;
        jt_cached_count(c, slot);
        c->coming[c->n_coming++] = slot;
        if (s->state == JT_SLOT_COMING) {
            hurry(c, slot);
            late++;
        }
    }
    jt_cached_sort_wanted(c);
    count_lacking(c, c->n_wanted, late);
}

/* Move what is ready from `coming` to the wave. */
static void gather(jt_cached *c)
{
    int left = 0;
    for (int i = 0; i < c->n_coming; i++) {
        int slot = c->coming[i];
        if (c->slots.slot[slot].state == JT_SLOT_READY)
            c->wave[c->n_wave++] = slot;
        else
            c->coming[left++] = slot;
    }
    c->n_coming = left;
}

static void show_expert(const jt_cached *c, const jt_bank *bank, int slot,
                        jt_lease *lease)
{
    int e = c->slots.slot[slot].expert - c->first[c->layer];
    for (int p = 0; p < JT_PARTS; p++) {
        const jt_tensor *whole = &bank->part[p];
        if (!jt_has(whole))
            continue;
        jt_tensor *part = &lease->part[e * JT_PARTS + p];
        *part = jt_slice(whole, (size_t)e);
        part->data = jt_cached_place(c, slot, p);
        if (c->stored.layers[c->layer].n_planes[p])
            part->dtype = jt_cached_dtype(c, slot, &c->stored.layers[c->layer], p);
    }
}

/* Hand the wave out, its experts in ascending order. */
static void show_wave(jt_cached *c, const jt_bank *bank, jt_lease *lease)
{
    for (int i = 0; i < c->n_wave; i++) {
        int e = c->slots.slot[c->wave[i]].expert - c->first[c->layer], at = i;
        for (; at > 0 && lease->expert[at - 1] > e; at--)
            lease->expert[at] = lease->expert[at - 1];
        lease->expert[at] = e;
        show_expert(c, bank, c->wave[i], lease);
    }
    lease->n_wave = c->n_wave;
    lease->more = more_to_come(c);
}

static jt_status report_failure(jt_cached *c, jt_err *err)
{
    int l = jt_cached_layer_of(c, c->failed), e = c->failed - c->first[l];
    const jt_source *source = jt_cached_extent(c, c->failed, JT_PART_DOWN)->source;
    int layer = c->stored.layers[l].bank->layer, failure = c->failure;
    c->failed = -1;
    jt_status changed = jt_source_check(source, err);
    if (changed != JT_OK) /* a file that was cut says so itself */
        return jt_fail_within(err, changed, "expert %d of layer %d", e, layer);
    if (failure == JT_READ_DAMAGED)
        return jt_fail(err, JT_E_IO,
                       "expert %d of layer %d in '%s' is damaged: its checksum is "
                       "another",
                       e, layer, source->path);
    return jt_fail(err, JT_E_IO, "cannot read expert %d of layer %d from '%s': %s", e,
                   layer, source->path,
                   failure == JT_READ_SHORT ? "the file ends before it"
                                            : strerror(failure));
}

/* Is there nothing to hand out yet? */
static bool lacks(const jt_cached *c, const jt_lease *lease)
{
    return more_to_come(c) && (lease->whole || c->n_wave == 0);
}

/* The next wave: what is there, or, when nothing is, what comes first; or all. */
static jt_status next_wave(jt_cached *c, const jt_bank *bank, jt_lease *lease,
                           jt_err *err)
{
    jt_cached_tend(c);
    gather(c);
    read_wanted(c);
    read_ahead(c);
    read_known(c);
    if (lacks(c, lease)) {
        double start = jt_seconds();
        while (lacks(c, lease) && c->failed < 0 && wait_ended(c, start)) {
            read_wanted(c);
            gather(c);
        }
        c->stall_seconds += jt_seconds() - start;
        read_known(c);
    }
    jt_cached_check_wave(c);
    if (c->failed >= 0)
        return report_failure(c, err);
    if (lacks(c, lease))
        return jt_fail(err, JT_E_MEMORY, "no room for an expert in the cache");
    show_wave(c, bank, lease);
    return JT_OK;
}

static void unpin_wave(jt_cached *c)
{
    for (int i = 0; i < c->n_wave; i++)
        c->slots.slot[c->wave[i]].pinned = false;
    c->n_wave = 0;
}

void jt_cached_release(void *self, const jt_bank *bank, jt_lease *lease)
{
    jt_cached *c = self;
    (void)lease;
    if (layer_of_bank(c, bank) < 0)
        return;
    unpin_wave(c);
    for (int i = 0; i < c->n_coming; i++) /* after a failure: they may come or not */
        c->slots.slot[c->coming[i]].pinned = false;
    c->n_coming = c->n_wanted = c->next_wanted = 0;
    jt_cached_read_earned(c);
    c->layer = -1;
    jt_cached_tend(c);
    jt_pool_interlude(c->pool, c->interlude);
}

jt_status jt_cached_acquire(void *self, const jt_bank *bank, jt_lease *lease,
                            jt_err *err)
{
    jt_cached *c = self;
    int layer = layer_of_bank(c, bank);
    if (layer < 0)
        return jt_store_mapped.acquire(NULL, bank, lease, err);
    for (int i = 0; i < c->stored.n_sources; i++) {
        jt_status changed = jt_source_check(&c->stored.sources[i], err);
        if (changed != JT_OK)
            return jt_fail_within(err, changed, "experts of layer %d", bank->layer);
    }
    jt_cached_tend(c);
    weigh_guesses(c);
    c->layer = layer;
    c->interlude = jt_pool_interlude(c->pool, NULL);
    c->plan = lease->plan;
    c->failed = -1;
    jt_reader_far_ahead(c->reader, lease->plan->n_tokens > 1);
    drop_guesses(c, layer, lease->plan);
    jt_sweep_note(&c->sweep, layer, lease->plan);
    sort_experts(c, lease->plan);
    jt_status status = next_wave(c, bank, lease, err);
    if (status != JT_OK)
        jt_cached_release(c, bank, lease);
    return status;
}

jt_status jt_cached_advance(void *self, const jt_bank *bank, jt_lease *lease,
                            jt_err *err)
{
    jt_cached *c = self;
    unpin_wave(c);
    return next_wave(c, bank, lease, err);
}
