#include "run/budget.h"

#include <stdio.h>

#include "base/memory.h"
#include "base/process.h"
#include "model/apart.h"
#include "model/scratch.h"
#include "store/divide.h"

/* What a context takes. */
static uint64_t context_bytes(const jt_session *s)
{
    return s->cache.bytes + (size_t)s->model->params.n_vocab * sizeof *s->logits +
           (size_t)s->capacity * sizeof *s->ids;
}

/* Scratch of a pass, in which all guests may share, and of one that runs within an
 * interlude of it. */
static uint64_t scratch_bytes(const jt_session *s)
{
    enum { LOGITS = 16, LISTS = 512 }; /* that jt_scratch_bytes counts; of each part */
    const jt_hosting *h = &s->hosting;
    size_t capacity = (size_t)s->capacity, vocab = (size_t)s->model->params.n_vocab;
    int threads = jt_pool_threads(s->ctx->pool);
    size_t logits = h->guests > LOGITS ? h->guests - LOGITS : 0;
    size_t together = h->guests * LISTS + logits * vocab * sizeof(float);
    uint64_t bytes =
        jt_scratch_bytes(s->model, (size_t)s->room, capacity, threads) + together;
    size_t room = (size_t)s->room, between = h->between < room ? h->between : room;
    if (between)
        bytes += jt_scratch_bytes(s->model, between, capacity, threads) + together;
    return bytes;
}

/* What was taken before: measured, or, where others take theirs at the same time,
 * reckoned: the weights, what is made of the heads of files (vocabulary, merges, their
 * tree), and a part of the program. */
static uint64_t process_bytes(const jt_session *s)
{
    enum { MADE_OF_HEADS = 8, PROGRAM = 24 << 20 };
    return s->hosting.lodger ? s->model->apart->weights +
                                   MADE_OF_HEADS * s->model->apart->heads + PROGRAM
                             : jt_process_memory();
}

/* Divide the budget; how much of what is wished beside sessions there is room for. */
static uint64_t divide(jt_store_budget *b, const jt_session *s)
{
    size_t contexts = s->hosting.guests ? s->hosting.guests : 1;
    const jt_budget_needs needs = {.aside = s->hosting.aside,
                                   .spare = s->hosting.spare,
                                   .least_slots =
                                       jt_stored_least_slots(&s->model->apart->stored)};
    *b = (jt_store_budget){.process = process_bytes(s),
                           .context = contexts * context_bytes(s),
                           .scratch = scratch_bytes(s)};
    return jt_budget_divide(b, s->cached, &needs);
}

/* In MiB. */
static unsigned long long mb(uint64_t bytes)
{
    return (unsigned long long)(bytes >> 20);
}

static jt_status refuse(const jt_store_budget *b, const jt_session *s, int least,
                        jt_err *err)
{
    enum { SCATTER = 16 }; /* a process takes a little more or less each time */
    size_t guests = s->hosting.guests;
    char contexts[64] = "context";
    if (guests)
        snprintf(contexts, sizeof contexts, "%zu contexts", guests);
    return jt_fail(err, JT_E_LIMIT,
                   "%llu MiB of memory are not enough for '%s': the smallest budget is "
                   "%llu MiB (weights and process %llu, %s of %d tokens %llu, scratch "
                   "%llu, %d experts %llu, reserve %llu); a smaller context or chunk%s "
                   "makes it smaller",
                   mb(b->ram), jt_gguf_path(s->model->file),
                   mb(b->least + b->process / SCATTER) + 1, mb(b->process), contexts,
                   s->capacity, mb(b->context), mb(b->scratch), least,
                   mb((uint64_t)least * b->slot), mb(b->reserve),
                   guests ? ", or fewer contexts," : "");
}

static jt_status check(const jt_store_budget *b, const jt_session *s,
                       const jt_store_options *o, jt_err *err)
{
    int least = jt_stored_least_slots(&s->model->apart->stored);
    if (o->ram && o->ram < b->least)
        return refuse(b, s, least, err);
    if (b->slots < least)
        return jt_fail(err, JT_E_ARG, "a cache of %d experts, the fewest are %d",
                       b->slots, least);
    return JT_OK;
}

/* The store of the session beside which this one runs. */
static jt_status share_store(jt_session *s, const jt_session *host,
                             const jt_store_options *o, jt_err *err)
{
    if (o->ram || o->slots || o->bits)
        return jt_fail(err, JT_E_ARG,
                       "a session beside another has no budget of its own");
    if (host->model != s->model)
        return jt_fail(err, JT_E_ARG,
                       "a model that was loaded apart beside a session of another one");
    if (host->budget.ram && s->chunk > host->chunk)
        return jt_fail(err, JT_E_ARG, "passes of %d tokens, the budget has room for %d",
                       s->chunk, host->chunk);
    s->cached = host->cached;
    s->store = host->store;
    s->budget = host->budget;
    return JT_OK;
}

jt_status jt_session_open_store(jt_session *s, const jt_session_options *options,
                                jt_err *err)
{
    const jt_store_options *o = &options->store;
    if (!s->model->apart)
        return o->ram || o->slots || o->bits
                   ? jt_fail(err, JT_E_ARG,
                             "a memory budget needs a model that was loaded apart")
                   : JT_OK;
    if (options->beside)
        return share_store(s, options->beside, o, err);
    JT_TRY(jt_cached_new(&s->cached, &s->model->apart->stored, o, err));
    int usual = s->capacity < JT_USUAL_CHUNK ? s->capacity : JT_USUAL_CHUNK;
    uint64_t spare = divide(&s->budget, s);
    while (o->ram < s->budget.least && o->ram && !options->chunk && s->room > usual) {
        s->room /= 2; /* passes need not be longer than usual */
        s->chunk = s->chunk < s->room ? s->chunk : s->room;
        spare = divide(&s->budget, s);
    }
    JT_TRY(check(&s->budget, s, o, err));
    s->hosting.spare = spare;
    if (o->ram) {
        s->ctx->scratch.limit = s->budget.scratch;
        if (!jt_arena_reserve(&s->ctx->scratch, s->budget.scratch))
            return jt_fail_memory(err, "starting a session");
    }
    JT_TRY(jt_cached_open(s->cached, s->budget.slots, s->ctx->pool, err));
    s->store = jt_cached_store(s->cached);
    s->ctx->tender = jt_cached_tender(s->cached);
    return JT_OK;
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
