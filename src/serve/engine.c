#include "serve/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"
#include "run/session.h"
#include "serve/batch.h"
#include "serve/line.h"
#include "serve/pace.h"

/* Tokens of a pass where chunks are as long as prompts. */
enum { USUAL_BUDGET = 256, WHOLE_PROMPTS = 65536 };

struct jt_engine {
    jt_engine_options options;
    jt_seats seats;
    size_t budget; /* tokens of a pass */
    int context;   /* tokens that fit into a slot */
    pthread_t thread;
    bool has_thread;
    jt_line line;

    /* Of the engine's thread: what runs, in the order in which it came. */
    jt_task **running; /* [options.slots] */
    size_t n_running;
    jt_batch pass, between; /* between: within a pass, in its interludes */
    jt_interlude interlude;
    jt_pace pace;
    double since;   /* clock: when replies last went on */
    double slice;   /* seconds for prompts from then on */
    double aside;   /* seconds of interludes of the pass */
    uint64_t loads; /* of experts, that were counted */
};

static void count(const jt_engine *e, jt_counter metric, double value)
{
    jt_counters_add(e->options.metrics, metric, value);
}

bool jt_engine_submit(jt_engine *e, jt_work *work, jt_problem *p)
{
    return jt_line_join(&e->line, work, p);
}

void jt_engine_withdraw(jt_engine *e, jt_work *work)
{
    atomic_store(&work->cancelled, true);
    jt_line_stir(&e->line);
    while (!jt_work_over(work))
        jt_work_wait(work, true);
}

/* ---- the life of a reply ---- */

static void end(jt_engine *e, jt_task *c, jt_status status, jt_err *err)
{
    bool cancelled = atomic_load(&c->work->cancelled);
    if (c->vector && status == JT_OK && c->result.finish == JT_FINISH_LENGTH)
        jt_embedder_read(&c->embedder, c->vector);
    jt_embedder_end(&c->embedder);
    status = jt_reply_end(&c->reply, status, err);
    if (status == JT_OK)
        *err = (jt_err){0};
    jt_seats_leave(&e->seats, c);
    jt_client_end(c->work->client, jt_task_unused(c));
    jt_counters_set(e->options.metrics, JT_COUNTER_slots_busy,
                    (double)(e->seats.n - e->seats.n_free));
    count(e, cancelled ? JT_COUNTER_cancelled_total : JT_COUNTER_replies_total, 1);
    count(e, JT_COUNTER_tokens_total, (double)c->result.tokens);
    jt_task_end(c, err);
}

static jt_status begin(jt_engine *e, jt_task *c, jt_err *err)
{
    const jt_tokens *prompt = c->prompt;
    JT_TRY(jt_seats_take(&e->seats, c, err));
    JT_TRY(jt_reply_hear(&c->reply, prompt->ids, prompt->count, err));
    if (c->vector) {
        jt_session_truncate(c->session, 0);
        JT_TRY(jt_embedder_begin(&c->embedder, c->session, c->mean, err));
    }
    size_t kept = jt_session_reuse(c->session, prompt->ids, prompt->count);
    c->result.kept_tokens = kept;
    c->result.prompt_tokens = prompt->count - kept;
    c->pending = prompt->ids + kept;
    c->n_pending = prompt->count - kept;
    count(e, JT_COUNTER_prompt_tokens_total, (double)prompt->count);
    count(e, JT_COUNTER_kept_tokens_total, (double)kept);
    return JT_OK;
}

static void start(jt_engine *e, jt_task *c)
{
    jt_err err = {0};
    jt_status status = jt_task_begin(c, &err);
    if (atomic_load(&c->work->cancelled)) {
        c->result.finish = JT_FINISH_INTERRUPTED;
        end(e, c, JT_OK, &err);
        return;
    }
    if (c->work->begun == 0)
        c->work->begun = jt_seconds();
    if (status == JT_OK)
        status = begin(e, c, &err);
    if (status != JT_OK) {
        end(e, c, status, &err);
        return;
    }
    e->running[e->n_running++] = c;
    jt_counters_set(e->options.metrics, JT_COUNTER_slots_busy,
                    (double)(e->seats.n - e->seats.n_free));
}

/* Is there no more to do for a reply, whatever it waits for? */
static bool is_given_up(const jt_engine *e, jt_task *c)
{
    if (atomic_load(&c->work->cancelled)) {
        c->result.finish = JT_FINISH_INTERRUPTED;
        return true;
    }
    bool late = jt_seconds() - c->work->begun > e->options.reply_seconds;
    if (late)
        c->result.finish = JT_FINISH_LENGTH;
    return late;
}

/* ---- a pass ---- */

/* Asked between the passes of a long prompt: stop when nobody waits for any of it. */
static int nobody_waits(void *user, const char *what, unsigned long long done,
                        unsigned long long total)
{
    jt_engine *e = user;
    (void)what;
    (void)done;
    (void)total;
    for (size_t i = 0; i < e->n_running; i++) {
        if (!atomic_load(&e->running[i]->work->cancelled))
            return atomic_load(&e->line.shut);
    }
    return 1;
}

static void tell_routing(jt_engine *e, size_t tokens)
{
    jt_routing_state state = {.running = e->n_running,
                              .waiting = jt_line_length(&e->line)};
    jt_store_stats store;
    if (jt_session_store_stats(e->seats.host, &store)) {
        jt_counters_store(e->options.metrics, &store);
        state.has_store = true;
        state.hits = store.hits + store.hits_ahead;
        state.misses = store.misses;
    }
    jt_routing_tell(e->options.routing, tokens, &state);
}

static void count_pass(jt_engine *e, const jt_batch *b, double seconds)
{
    uint64_t loads = e->seats.host->ctx->loads;
    count(e, JT_COUNTER_passes_total, 1);
    count(e, JT_COUNTER_pass_tokens_total, (double)b->tokens);
    count(e, JT_COUNTER_pass_seconds_total, seconds);
    count(e, JT_COUNTER_expert_loads_total, (double)(loads - e->loads));
    e->loads = loads;
    tell_routing(e, b->tokens);
}

static void advance(jt_engine *e, jt_batch *b, const jt_prefill *by, size_t budget)
{
    jt_progress progress = {nobody_waits, e};
    jt_batch_advance(b, by, budget, &progress);
}

/* After its end, a task is its connection's, and may be gone. */
static void end_running(jt_engine *e, jt_task *c, jt_status status, jt_err *err)
{
    size_t i = 0;
    while (e->running[i] != c)
        i++;
    e->n_running--;
    memmove(e->running + i, e->running + i + 1,
            (e->n_running - i) * sizeof *e->running);
    end(e, c, status, err);
}

static void drop_given_up(jt_engine *e)
{
    for (size_t i = e->n_running; i-- > 0;) {
        jt_task *c = e->running[i];
        jt_err err = {0};
        if (!c->under_way && is_given_up(e, c))
            end_running(e, c, JT_OK, &err);
    }
}

static void settle(jt_engine *e, jt_batch *b)
{
    jt_batch_go_on(b, e->seats.host->ctx->pool);
    for (size_t i = 0; i < b->n; i++) {
        jt_task *c = b->task[i];
        jt_status status = b->status[i];
        if (status != JT_E_INTERRUPTED && (status != JT_OK || c->n_pending == 0))
            end_running(e, c, status, &b->err[i]);
    }
}

/* Tokens of prompts that wait for a pass, and replies that do. */
static size_t waiting_tokens(const jt_engine *e, size_t *replies)
{
    size_t tokens = 0;
    *replies = 0;
    for (size_t i = 0; i < e->n_running; i++) {
        const jt_task *c = e->running[i];
        *replies += !c->under_way && c->n_pending == 1;
        tokens += !c->under_way && c->n_pending > 1 ? c->n_pending : 0;
    }
    return tokens;
}

/* Drop who has left, and let in who waits. */
static void look_around(jt_engine *e)
{
    drop_given_up(e);
    for (jt_task *c; (c = jt_line_next(&e->line, e->seats.n_free > 0));)
        start(e, c);
}

/* ---- between the parts of a pass ---- */

static bool is_due(void *self)
{
    const jt_engine *e = self;
    return jt_seconds() - e->since > e->slice;
}

/* Is there nobody to whom the pass matters? */
static bool is_in_vain(const jt_engine *e)
{
    bool vain = true;
    for (size_t i = 0; i < e->pass.n; i++)
        vain &= atomic_load(&e->pass.task[i]->work->cancelled);
    return vain || atomic_load(&e->line.shut);
}

/* Replies go on while prompts are run. Prompts that came later get half of the time, so
 * that a short one does not wait for a long one; not where experts come from the disk,
 * as a few tokens of a prompt read as many of them as all prompts together do. */
static void play(void *self)
{
    jt_engine *e = self;
    jt_batch *b = &e->between;
    jt_context *ctx = e->seats.host->ctx;
    jt_context_aside aside = jt_context_put_aside(ctx);
    double start = jt_seconds(), share = jt_pace_slice(&e->pace) / 2;
    look_around(e);
    bool stored = e->seats.host->cached != NULL;
    size_t replies, tokens = waiting_tokens(e, &replies);
    tokens = stored ? 0 : tokens;
    e->slice = tokens ? share : 2 * share;
    if (replies || tokens) {
        double begun = jt_seconds();
        jt_batch_gather(b, e->running, e->n_running,
                        stored ? JT_REPLIES : JT_EVERYBODY);
        advance(e, b, jt_prefill_find("chunked"),
                replies + jt_pace_tokens(&e->pace, share));
        double seconds = jt_seconds() - begun;
        if (b->replies == b->n)
            jt_pace_step(&e->pace, seconds);
        count_pass(e, b, seconds);
        settle(e, b);
    }
    jt_context_resume(ctx, &aside);
    if (is_in_vain(e))
        (void)jt_fail(&ctx->err, JT_E_INTERRUPTED, "nobody waits for this");
    e->since = jt_seconds();
    e->aside += e->since - start;
}

/* Run prompts by themselves, and replies in between, where the prompts would hold them
 * up for too long. */
static bool runs_apart(const jt_engine *e)
{
    size_t replies, tokens = waiting_tokens(e, &replies);
    if (!e->options.prefill->polite || !tokens || e->seats.watcher)
        return false;
    return !replies || tokens > jt_pace_tokens(&e->pace, jt_pace_slice(&e->pace));
}

static void pass(jt_engine *e)
{
    jt_batch *b = &e->pass;
    jt_pool *pool = e->seats.host->ctx->pool;
    bool apart = runs_apart(e);
    jt_batch_gather(b, e->running, e->n_running, apart ? JT_PROMPTS : JT_EVERYBODY);
    e->aside = 0.0;
    e->slice = jt_pace_slice(&e->pace);
    double start = jt_seconds();
    jt_pool_interlude(pool, apart ? &e->interlude : NULL);
    advance(e, b, e->options.prefill, e->budget);
    jt_pool_interlude(pool, NULL);
    double now = jt_seconds(), seconds = now - start - e->aside;
    if (b->replies)
        e->since = now;
    if (b->replies == b->n)
        jt_pace_step(&e->pace, seconds);
    else
        jt_pace_prompt(&e->pace, b->tokens, seconds);
    count_pass(e, b, seconds);
    settle(e, b);
}

/* ---- the thread ---- */

/* The engine stops: whatever is there has been cancelled. */
static void cancel_all(jt_engine *e)
{
    for (size_t i = 0; i < e->n_running; i++)
        atomic_store(&e->running[i]->work->cancelled, true);
    drop_given_up(e);
    jt_line_cancel(&e->line);
    for (jt_task *c; (c = jt_line_next(&e->line, e->seats.n_free > 0));)
        start(e, c);
}

static void *run(void *self)
{
    jt_engine *e = self;
    for (;;) {
        if (e->n_running == 0)
            jt_line_wait(&e->line);
        if (atomic_load(&e->line.shut))
            break;
        look_around(e);
        if (e->n_running)
            pass(e);
    }
    cancel_all(e);
    return NULL;
}

/* What runs beside the contexts of slots, and how much a budget has left for that. */
static jt_hosting hosting_of(const jt_engine_options *o)
{
    enum { SAMPLING = 28 }; /* bytes of a sampler for each token that there is */
    size_t vocab = jt_vocab_size(jt_model_tokenizer(o->model));
    return (jt_hosting){.guests = o->slots,
                        .between = o->prefill->polite ? o->slots : 0,
                        .aside = o->aside + (uint64_t)o->slots * vocab * SAMPLING,
                        .spare = o->kept_bytes,
                        .lodger = o->lodger};
}

static jt_status open_seats(jt_engine *e, jt_err *err)
{
    const jt_engine_options *o = &e->options;
    jt_session_options session = *o->session;
    if (o->prefill->layered)
        session.chunk = session.store.ram ? 0 : WHOLE_PROMPTS;
    jt_hosting hosting = hosting_of(o);
    JT_TRY(jt_seats_open(&e->seats, o->model, &session, &hosting, o->watcher, err));
    e->seats.onlooker = jt_routing_watcher(o->routing);
    e->budget = (size_t)e->seats.host->room;
    if (o->prefill->layered)
        e->budget = o->session->chunk ? (size_t)o->session->chunk : USUAL_BUDGET;
    e->context = jt_session_capacity(e->seats.host);
    return JT_OK;
}

static jt_status start_thread(jt_engine *e, jt_err *err)
{
    size_t n = e->options.slots;
    e->interlude = (jt_interlude){is_due, play, e};
    e->running = jt_calloc(n, sizeof *e->running);
    if (!e->running || !jt_batch_open(&e->pass, n) || !jt_batch_open(&e->between, n))
        return jt_fail_memory(err, "starting the engine");
    if (jt_thread_start(&e->thread, run, e))
        return jt_fail(err, JT_E_MEMORY, "no thread for the engine can be had");
    e->has_thread = true;
    return JT_OK;
}

jt_status jt_engine_new(jt_engine **out, const jt_engine_options *options, jt_err *err)
{
    jt_engine *e = jt_calloc(1, sizeof *e);
    if (!e)
        return jt_fail_memory(err, "starting the engine");
    e->options = *options;
    jt_line_open(&e->line, options->queue, options->metrics);
    jt_status status = open_seats(e, err);
    if (status == JT_OK) {
        jt_counters_set(options->metrics, JT_COUNTER_slots, (double)options->slots);
        status = start_thread(e, err);
    }
    if (status != JT_OK) {
        jt_engine_free(e);
        return status;
    }
    *out = e;
    return JT_OK;
}

void jt_engine_stop(jt_engine *e)
{
    jt_line_shut(&e->line);
    if (e->has_thread)
        pthread_join(e->thread, NULL);
    e->has_thread = false;
}

void jt_engine_free(jt_engine *e)
{
    jt_engine_stop(e);
    jt_seats_close(&e->seats);
    free(e->running);
    jt_batch_close(&e->pass);
    jt_batch_close(&e->between);
    jt_line_close(&e->line);
    free(e);
}

int jt_engine_context(const jt_engine *e)
{
    return e->context;
}
