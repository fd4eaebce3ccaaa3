#include "run/budget.h"

#include <string.h>

#include "base/memory.h"
#include "base/process.h"
#include "model/apart.h"
#include "model/scratch.h"

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

static void divide(jt_store_budget *b, const jt_session *s, const jt_store_options *o)
{
    const jt_stored *stored = &s->model->apart->stored;
    size_t tokens = (size_t)s->chunk, capacity = (size_t)s->capacity;
    *b = (jt_store_budget){
        .ram = o->ram,
        .process = jt_process_memory(),
        .context = s->cache.bytes,
        .scratch =
            jt_scratch_bytes(s->model, tokens, capacity, jt_pool_threads(s->ctx->pool)),
        .slot = jt_stored_slot_bytes(stored, NULL),
        .expert = jt_stored_bytes(stored) / (uint64_t)jt_stored_experts(stored),
        .experts = jt_stored_experts(stored),
    };
    b->reserve = UNCOUNTED + jt_cached_learning_bytes(s->cached) +
                 (is_buffered(stored, o) ? CACHED : 0);
    uint64_t fixed = b->process + b->context + b->scratch + b->reserve;
    uint64_t least = fixed + (uint64_t)jt_stored_least_slots(stored) * b->slot;
    b->least = least + least / PAGE_TABLES;
    b->reserve += o->ram / PAGE_TABLES;
    fixed += o->ram / PAGE_TABLES;
    if (!o->ram) { /* as many slots as were asked for, or all */
        b->slots = o->slots ? o->slots : b->experts;
    } else if (o->ram >= b->least) {
        uint64_t slots = (o->ram - fixed) / b->slot;
        b->slots = slots < (uint64_t)b->experts ? (int)slots : b->experts;
        if (o->slots && o->slots < b->slots)
            b->slots = o->slots;
    }
}

static jt_status check(const jt_store_budget *b, const jt_session *s,
                       const jt_store_options *o, jt_err *err)
{
    enum { MB = 1 << 20 };
    int least = jt_stored_least_slots(&s->model->apart->stored);
    if (o->ram && o->ram < b->least)
        return jt_fail(
            err, JT_E_LIMIT,
            "%llu MiB of memory are not enough for '%s': the smallest budget "
            "is %llu MiB (weights and process %llu, context of %d tokens "
            "%llu, scratch %llu, %d experts %llu); a smaller context or "
            "chunk makes it smaller",
            (unsigned long long)(o->ram / MB), jt_gguf_path(s->model->file),
            (unsigned long long)(b->least / MB + 1),
            (unsigned long long)(b->process / MB), s->capacity,
            (unsigned long long)(b->context / MB),
            (unsigned long long)(b->scratch / MB), least,
            (unsigned long long)((uint64_t)least * b->slot / MB));
    if (b->slots < least)
        return jt_fail(err, JT_E_ARG, "a cache of %d experts, the fewest are %d",
                       b->slots, least);
    return JT_OK;
}

jt_status jt_session_open_store(jt_session *s, const jt_store_options *o, jt_err *err)
{
    if (!s->model->apart)
        return o->ram || o->slots
                   ? jt_fail(err, JT_E_ARG,
                             "a memory budget needs a model that was loaded apart")
                   : JT_OK;
    if (o->ram && s->ctx != &s->own)
        return jt_fail(err, JT_E_ARG,
                       "a session beside another has no budget of its "
                       "own");
    JT_TRY(jt_cached_new(&s->cached, &s->model->apart->stored, o, err));
    divide(&s->budget, s, o);
    JT_TRY(check(&s->budget, s, o, err));
    if (o->ram) {
        s->ctx->scratch.limit = s->budget.scratch;
        if (!jt_arena_reserve(&s->ctx->scratch, s->budget.scratch))
            return jt_fail_memory(err, "starting a session");
    }
    JT_TRY(jt_cached_open(s->cached, s->budget.slots, s->ctx->pool, err));
    jt_watcher watcher = jt_cached_watcher(s->cached);
    s->store = jt_cached_store(s->cached);
    s->ctx->tender = jt_cached_tender(s->cached);
    return jt_session_add_watcher(s, &watcher, err);
}

bool jt_session_store_stats(const jt_session *s, jt_store_stats *stats)
{
    if (!s->cached)
        return false;
    jt_cached_stats(s->cached, stats);
    stats->budget = s->budget;
    return true;
}

jt_residency jt_session_residency(const jt_session *s, int layer, int expert)
{
    return s->cached ? jt_cached_residency(s->cached, layer, expert)
                     : JT_RESIDENCY_HERE;
}
