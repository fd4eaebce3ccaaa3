#include "store/divide.h"

#include <string.h>

#include "store/cached_impl.h"

/* What cannot be counted beforehand: stacks of threads, rings of reads, rounding by the
 * allocator; and page tables, which take a 512th. */
enum { UNCOUNTED = 20 << 20, PAGE_TABLES = 400 };

/* And what is on its way through the page cache, where it goes that way. */
enum { CACHED = 64 << 20 };

static bool is_buffered(const jt_stored *stored, const jt_store_options *o)
{
    bool direct = true;
    for (int i = 0; i < stored->n_sources; i++)
        direct = direct && stored->sources[i].direct >= 0;
    return !direct || (o->io && !strcmp(o->io, "buffered"));
}

/* How much of what is wished there is room for. */
static uint64_t spare_bytes(uint64_t spare, uint64_t ram, uint64_t least)
{
    enum { SHARE = 4 };
    uint64_t room = ram > least ? (ram - least) / SHARE : 0;
    return ram && spare > room ? room : spare;
}

uint64_t jt_budget_divide(jt_store_budget *b, const jt_cached *c,
                          const jt_budget_needs *needs)
{
    const jt_store_options *o = &c->options;
    b->ram = o->ram;
    b->slot = jt_cached_slot_bytes(c);
    b->expert = (uint64_t)jt_cached_miss_bytes(c);
    b->experts = jt_stored_experts(&c->stored);
    b->reserve = UNCOUNTED + jt_cached_learning_bytes(c) +
                 (is_buffered(&c->stored, o) ? CACHED : 0) + needs->aside;
    uint64_t fixed = b->process + b->context + b->scratch + b->reserve;
    uint64_t least = fixed + (uint64_t)needs->least_slots * b->slot;
    b->least = least + least / PAGE_TABLES;
    uint64_t spare = spare_bytes(needs->spare, o->ram, b->least);
    uint64_t beyond = spare + o->ram / PAGE_TABLES;
    b->reserve += beyond;
    fixed += beyond;
    if (!o->ram) { /* as many slots as were asked for, or all */
        b->slots = o->slots ? o->slots : b->experts;
    } else if (o->ram >= b->least) {
        uint64_t slots = (o->ram - fixed) / b->slot;
        b->slots = slots < (uint64_t)b->experts ? (int)slots : b->experts;
        if (o->slots && o->slots < b->slots)
            b->slots = o->slots;
    }
    return spare;
}
