/* Nested experts in the cache: how many bits they come with, and how they get more.
 *
 * An expert that is not there comes with the fewest bits, and one more with each
 * doubling of the tokens that it has served since (D2MoE's hottest-expert-bit-first,
 * with uses in the place of a trained router of bits). What it has earned in a layer is
 * read behind it, the hottest expert first, and is there, or waited for, at its next
 * use: so bits follow from the tokens that passed while it was in the cache. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/cached_impl.h"

/* ---- how many ---- */

/* "3" or "2-4" */
static bool parse_bits(const char *text, int *low, int *high)
{
    char *end;
    *low = *high = (int)strtol(text, &end, 10);
    if (end != text && *end == '-') {
        text = end + 1;
        *high = (int)strtol(text, &end, 10);
    }
    return end != text && !*end;
}

static int most_planes(const jt_stored *stored)
{
    int most = 0;
    for (int l = 0; l < stored->n_layers; l++)
        for (int p = 0; p < JT_PARTS; p++)
            if (stored->layers[l].n_planes[p] > most)
                most = stored->layers[l].n_planes[p];
    return most;
}

jt_status jt_cached_choose_bits(jt_cached *c, jt_err *err)
{
    const char *wish = c->options.bits;
    int all = JT_NESTED_LEAST + most_planes(&c->stored);
    if (all == JT_NESTED_LEAST)
        return wish ? jt_fail(err, JT_E_UNSUPPORTED,
                              "the experts of '%s' are not nested: 'junto quantize "
                              "--nested' makes such files",
                              c->stored.sources[0].path)
                    : JT_OK;
    c->low = c->high = all;
    if (!wish)
        return JT_OK;
    if (!parse_bits(wish, &c->low, &c->high) || c->low < JT_NESTED_LEAST ||
        c->low > c->high || c->high > all)
        return jt_fail(err, JT_E_ARG, "bits '%s': the file has 2 to %d", wish, all);
    return JT_OK;
}

/* Planes of a part that `planes` of the expert are. */
static int planes_of(const jt_stored_layer *layer, int part, int planes)
{
    return planes < layer->n_planes[part] ? planes : layer->n_planes[part];
}

/* Planes after so many tokens. */
static int planes_earned(const jt_cached *c, uint32_t tokens)
{
    int planes = c->low - JT_NESTED_LEAST, most = c->high - JT_NESTED_LEAST;
    for (; tokens > 1 && planes < most; tokens /= 2)
        planes++;
    return planes;
}

/* ---- room ---- */

static size_t plane_bytes(const jt_stored_layer *layer, int part)
{
    const jt_tensor *t = &layer->bank->part[part];
    return jt_nested_plane_bytes(t->shape[1] * t->shape[2]);
}

size_t jt_cached_part_room(const jt_cached *c, const jt_stored_layer *layer, int part)
{
    int planes = c->high ? planes_of(layer, part, c->high - JT_NESTED_LEAST) : 0;
    if (layer->whole)
        return 0;
    size_t room = jt_cached_room(jt_stored_part_bytes(layer, 0, part));
    return planes ? room + (size_t)planes * jt_cached_room(plane_bytes(layer, part))
                  : room;
}

double jt_cached_expert_bytes(const jt_cached *c, int bits)
{
    double sum = 0.0;
    for (int l = 0; l < c->stored.n_layers; l++) {
        const jt_stored_layer *layer = &c->stored.layers[l];
        for (int i = 0; i < layer->bank->n_experts * JT_PARTS; i++) {
            int p = i % JT_PARTS;
            int planes = bits ? planes_of(layer, p, bits - JT_NESTED_LEAST) : 0;
            sum += (double)jt_stored_part_bytes(layer, i / JT_PARTS, p);
            sum += planes ? (double)planes * (double)plane_bytes(layer, p) : 0.0;
        }
    }
    return sum / c->first[c->stored.n_layers];
}

double jt_cached_miss_bytes(const jt_cached *c)
{
    return jt_cached_expert_bytes(c, c->low);
}

jt_status jt_cached_open_bits(jt_cached *c, int n_slots, jt_err *err)
{
    size_t strip = 0;
    for (int l = 0; c->high && l < c->stored.n_layers; l++)
        for (int p = 0; p < JT_PARTS; p++) {
            const jt_stored_layer *layer = &c->stored.layers[l];
            size_t bytes = (size_t)layer->n_planes[p] * plane_bytes(layer, p);
            strip = bytes > strip ? bytes : strip;
        }
    c->planes = jt_calloc((size_t)n_slots, sizeof *c->planes);
    c->woven = jt_calloc((size_t)n_slots, sizeof *c->woven);
    c->earned = jt_calloc((size_t)n_slots, sizeof *c->earned);
    c->strip = jt_alloc(strip + 1, 1);
    return c->planes && c->woven && c->earned && c->strip
               ? JT_OK
               : jt_fail_memory(err, "starting a cache");
}

/* ---- reading and weaving ---- */

static const jt_extent *plane_extent(const jt_cached *c, int slot, int part, int plane)
{
    int expert = c->slots.slot[slot].expert, l = jt_cached_layer_of(c, expert);
    size_t at = (size_t)(expert - c->first[l]) * JT_PARTS + (size_t)part;
    return &c->stored.layers[l].plane[at * JT_NESTED_PLANES + (size_t)plane];
}

/* Behind the blocks, however many planes are woven into them already. */
static char *plane_place(const jt_cached *c, int slot, int part, int plane)
{
    int l = jt_cached_layer_of(c, c->slots.slot[slot].expert);
    const jt_stored_layer *layer = &c->stored.layers[l];
    return c->slab + (size_t)slot * c->slot_bytes + c->area[part] +
           jt_cached_room(jt_stored_part_bytes(layer, 0, part)) +
           (size_t)plane * jt_cached_room(plane_bytes(layer, part)) +
           plane_extent(c, slot, part, plane)->offset % JT_READ_ALIGN;
}

void jt_cached_read_planes(jt_cached *c, int slot, int from, bool urgent)
{
    int l = jt_cached_layer_of(c, c->slots.slot[slot].expert);
    const jt_stored_layer *layer = &c->stored.layers[l];
    for (int k = from; k < c->planes[slot]; k++)
        for (int p = 0; p < JT_PARTS; p++) {
            if (k >= layer->n_planes[p])
                continue;
            jt_read *read =
                &c->reads[slot * JT_SLOT_READS + JT_PARTS + p * JT_NESTED_PLANES + k];
            const jt_extent *extent = plane_extent(c, slot, p, k);
            *read = (jt_read){.source = extent->source,
                              .offset = extent->offset,
                              .bytes = plane_bytes(layer, p),
                              .to = plane_place(c, slot, p, k)};
            c->under[slot]++;
            jt_reader_add(c->reader, read, urgent);
        }
}

void jt_cached_weave(jt_cached *c, int slot)
{
    int l = jt_cached_layer_of(c, c->slots.slot[slot].expert);
    const jt_stored_layer *layer = &c->stored.layers[l];
    for (int p = 0; p < JT_PARTS; p++) {
        const uint8_t *plane[JT_NESTED_PLANES];
        int from = planes_of(layer, p, c->woven[slot]);
        int to = planes_of(layer, p, c->planes[slot]);
        if (from == to)
            continue;
        size_t bytes = plane_bytes(layer, p);
        for (int k = from; k < to; k++) {
            uint8_t *copy = c->strip + (size_t)(k - from) * bytes;
            memcpy(copy, plane_place(c, slot, p, k), bytes);
            plane[k - from] = copy;
        }
        jt_nested_weave(jt_cached_place(c, slot, p),
                        jt_stored_part_bytes(layer, 0, p) / sizeof(jt_q2_k),
                        JT_NESTED_LEAST + from, JT_NESTED_LEAST + to, plane);
    }
    c->woven[slot] = c->planes[slot];
}

jt_dtype jt_cached_dtype(const jt_cached *c, int slot, const jt_stored_layer *layer,
                         int part)
{
    return jt_nested_dtype(JT_NESTED_LEAST + planes_of(layer, part, c->woven[slot]));
}

/* ---- earning ---- */

static int tokens_of(const jt_cached *c, int expert)
{
    int local = expert - c->first[c->layer];
    return c->plan->start[local + 1] - c->plan->start[local];
}

void jt_cached_expect(jt_cached *c, int slot, bool guess)
{
    int tokens = guess ? 0 : tokens_of(c, c->slots.slot[slot].expert);
    c->earned[slot] = 0;
    c->planes[slot] = c->high ? (uint8_t)planes_earned(c, (uint32_t)tokens) : 0;
}

void jt_cached_count(jt_cached *c, int slot)
{
    int tokens = tokens_of(c, c->slots.slot[slot].expert);
    c->earned[slot] += (uint32_t)tokens;
    c->bit_uses += (uint64_t)tokens;
    c->bit_sum += (uint64_t)tokens * (uint64_t)(JT_NESTED_LEAST + c->planes[slot]);
}

/* An expert that is there, or on its way, gets planes up to `planes`. */
static void read_more(jt_cached *c, int slot, int planes, bool urgent)
{
    int from = c->planes[slot];
    if (c->slots.slot[slot].state == JT_SLOT_READY) {
        c->error[slot] = 0;
        c->under[slot] = 0;
        c->slots.slot[slot].state = JT_SLOT_COMING;
    }
    c->planes[slot] = (uint8_t)planes;
    jt_cached_read_planes(c, slot, from, urgent);
}

void jt_cached_confirm(jt_cached *c, int slot)
{
    int tokens = tokens_of(c, c->slots.slot[slot].expert);
    int planes = c->high ? planes_earned(c, (uint32_t)tokens) : 0;
    if (planes > c->planes[slot])
        read_more(c, slot, planes, true);
}

/* The last one is taken first. */
void jt_cached_sort_wanted(jt_cached *c)
{
    for (int i = 1; c->high > c->low && i < c->n_wanted; i++) {
        int expert = c->wanted[i], at = i;
        for (; at > 0 && tokens_of(c, c->wanted[at - 1]) > tokens_of(c, expert); at--)
            c->wanted[at] = c->wanted[at - 1];
        c->wanted[at] = expert;
    }
}

/* The slot of the expert with the most tokens that has earned planes and is not
 * reading; -1: none. */
static int hottest(const jt_cached *c)
{
    int found = -1, most = 0;
    for (int e = c->first[c->layer]; e < c->first[c->layer + 1]; e++) {
        int slot = c->slots.where[e], tokens = tokens_of(c, e);
        if (slot < 0 || tokens <= most || c->slots.slot[slot].state != JT_SLOT_READY ||
            planes_earned(c, c->earned[slot]) <= c->planes[slot])
            continue;
        found = slot;
        most = tokens;
    }
    return found;
}

void jt_cached_read_earned(jt_cached *c)
{
    int slot;
    while (c->high > c->low && (slot = hottest(c)) >= 0)
        read_more(c, slot, planes_earned(c, c->earned[slot]), false);
}
