#include "serve/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "run/session.h"
#include "serve/pace.h"

/* Tokens of a pass where chunks are as long as prompts. */
enum { USUAL_BUDGET = 256, WHOLE_PROMPTS = 65536 };

/* A pass: whose turns it is, and what became of each. */
typedef struct batch {
    jt_task **task; /* [options.slots], so are all; in the order in which they came */
    jt_turn *turn;
    jt_status *status;
    jt_err *err;
    size_t n;
    size_t replies; /* those that wait for one token */
    size_t tokens;  /* that were run */
} batch;

/* How many replies of a client there are, how many of them have left the queue, and
 * when one did last (the larger, the later). */
typedef struct client {
    size_t replies, running;
    unsigned long long turn;
} client;

struct jt_engine {
    jt_engine_options options;
    jt_seats seats;
    size_t budget; /* tokens of a pass */
    int context;   /* tokens that fit into a slot */
    pthread_t thread;
    bool has_thread;
    atomic_bool stop;

    pthread_mutex_t lock; /* guards the queue */
    pthread_cond_t wake;
    jt_task **waiting; /* [options.queue] */
    size_t n_waiting;
    struct client *client; /* [options.clients] */
    unsigned long long turns;

    /* Of the engine's thread: what runs, in the order in which it came. */
    jt_task **running; /* [options.slots] */
    size_t n_running;
    batch pass, between; /* between: within a pass, in its interludes */
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

/* ---- the queue ---- */

static void note_queue(const jt_engine *e)
{
    jt_counters_set(e->options.metrics, JT_COUNTER_queue_length, (double)e->n_waiting);
}

bool jt_engine_submit(jt_engine *e, jt_work *work, jt_problem *p)
{
    client *who = &e->client[work->client];
    size_t most = e->options.per_client;
    pthread_mutex_lock(&e->lock);
    bool room = !atomic_load(&e->stop) && work->n <= e->options.queue - e->n_waiting;
    bool mine = !most || who->replies + work->n <= most;
    for (size_t i = 0; i < work->n && room && mine; i++)
        e->waiting[e->n_waiting++] = &work->choice[i];
    who->replies += room && mine ? work->n : 0;
    note_queue(e);
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    if (room && mine)
        return true;
    count(e, JT_COUNTER_rejected_total, 1);
    return room ? jt_refuse(p, 429, NULL, "rate_limit_exceeded",
                            "at most %zu replies of one key can be asked for at once",
                            most)
                : jt_refuse(p, 429, NULL, "queue_full",
                            "too many requests wait already");
}

void jt_engine_withdraw(jt_engine *e, jt_work *work)
{
    atomic_store(&work->cancelled, true);
    pthread_mutex_lock(&e->lock);
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    while (!jt_work_over(work))
        jt_work_wait(work, true);
}

/* Is it the turn of one that waits rather than of another, who came earlier? */
static bool goes_before(const jt_engine *e, const jt_task *a, const jt_task *b)
{
    const client *of_a = &e->client[a->work->client],
                 *of_b = &e->client[b->work->client];
    return of_a->running != of_b->running ? of_a->running < of_b->running
                                          : of_a->turn < of_b->turn;
}

/* The place in the queue of who can leave it: nobody waits for it any more, or there is
 * a slot; then it is the first of the client who has the fewest, or had none for
 * longest. */
static size_t choose_waiting(const jt_engine *e)
{
    size_t best = e->n_waiting;
    for (size_t i = 0; i < e->n_waiting; i++) {
        if (atomic_load(&e->waiting[i]->work->cancelled))
            return i;
        if (e->seats.n_free &&
            (best == e->n_waiting || goes_before(e, e->waiting[i], e->waiting[best])))
            best = i;
    }
    return best;
}

/* NULL: nobody. */
static jt_task *take_waiting(jt_engine *e)
{
    jt_task *found = NULL;
    pthread_mutex_lock(&e->lock);
    size_t i = choose_waiting(e);
    if (i < e->n_waiting) {
        found = e->waiting[i];
        e->client[found->work->client].running++;
        e->client[found->work->client].turn = ++e->turns;
        e->n_waiting--;
        memmove(e->waiting + i, e->waiting + i + 1,
                (e->n_waiting - i) * sizeof *e->waiting);
        note_queue(e);
    }
    pthread_mutex_unlock(&e->lock);
    return found;
}

static void leave(jt_engine *e, const jt_task *c)
{
    client *who = &e->client[c->work->client];
    pthread_mutex_lock(&e->lock);
    who->replies--;
    who->running--;
    pthread_mutex_unlock(&e->lock);
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
    leave(e, c);
    jt_counters_set(e->options.metrics, JT_COUNTER_slots_busy,
                    (double)(e->seats.n - e->seats.n_free));
    count(e, cancelled ? JT_COUNTER_cancelled_total : JT_COUNTER_replies_total, 1);
    count(e, JT_COUNTER_tokens_total, (double)c->result.tokens);
    jt_task_end(c, err);
}

static jt_status begin(jt_engine *e, jt_task *c, jt_err *err)
{
    const jt_tokens *prompt = &c->work->prompt;
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
    jt_reply_start(&c->reply, jt_model_tokenizer(e->options.model), c->sampler,
                   &c->options, &c->result);
    if (atomic_load(&c->work->cancelled)) {
        c->result.finish = JT_FINISH_INTERRUPTED;
        end(e, c, JT_OK, &err);
        return;
    }
    if (c->work->begun == 0)
        c->work->begun = jt_seconds();
    jt_status status = begin(e, c, &err);
    if (status != JT_OK) {
        end(e, c, status, &err);
        return;
    }
    e->running[e->n_running++] = c;
    jt_counters_set(e->options.metrics, JT_COUNTER_slots_busy,
                    (double)(e->seats.n - e->seats.n_free));
}

/* The model has run all that the reply waited for: what comes next? Nothing: it is
 * over. */
static jt_status go_on(jt_task *c, jt_err *err)
{
    jt_reply_step step;
    int room = jt_session_capacity(c->session) - jt_session_length(c->session);
    JT_TRY(jt_reply_next(&c->reply, jt_session_logits(c->session), (size_t)room, &step,
                         err));
    c->pending = step.tokens;
    c->n_pending = step.count;
    c->result.passes += step.count > 0;
    return JT_OK;
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
            return atomic_load(&e->stop);
    }
    return 1;
}

static void tell_routing(jt_engine *e, size_t tokens)
{
    jt_routing_state state = {.running = e->n_running};
    jt_store_stats store;
    if (jt_session_store_stats(e->seats.host, &store)) {
        jt_counters_store(e->options.metrics, &store);
        state.has_store = true;
        state.hits = store.hits + store.hits_ahead;
        state.misses = store.misses;
    }
    pthread_mutex_lock(&e->lock);
    state.waiting = e->n_waiting;
    pthread_mutex_unlock(&e->lock);
    jt_routing_tell(e->options.routing, tokens, &state);
}

static void count_pass(jt_engine *e, const batch *b, double seconds)
{
    uint64_t loads = e->seats.host->ctx->loads;
    count(e, JT_COUNTER_passes_total, 1);
    count(e, JT_COUNTER_pass_tokens_total, (double)b->tokens);
    count(e, JT_COUNTER_pass_seconds_total, seconds);
    count(e, JT_COUNTER_expert_loads_total, (double)(loads - e->loads));
    e->loads = loads;
    tell_routing(e, b->tokens);
}

typedef enum whom { EVERYBODY, PROMPTS, REPLIES } whom;

/* Those that wait for the model, and are in no pass. */
static void gather(jt_engine *e, batch *b, whom who)
{
    b->n = b->replies = b->tokens = 0;
    for (size_t i = 0; i < e->n_running; i++) {
        jt_task *c = e->running[i];
        bool replies = c->n_pending == 1;
        if (c->under_way || (who != EVERYBODY && replies != (who == REPLIES)))
            continue;
        c->under_way = true;
        b->replies += replies;
        b->task[b->n] = c;
        b->turn[b->n++] = (jt_turn){.part = {c->session, c->pending, c->n_pending}};
    }
}

/* Advance all; where that fails, each by itself, so that a failure is only that of the
 * reply which brings it. */
static void advance(jt_engine *e, batch *b, const jt_prefill *by, size_t budget)
{
    jt_progress progress = {nobody_waits, e};
    jt_status all = by->advance(b->turn, b->n, budget, &progress, NULL);
    for (size_t i = 0; i < b->n; i++) {
        b->status[i] = all;
        b->err[i] = (jt_err){0};
        if (all != JT_OK && all != JT_E_INTERRUPTED)
            b->status[i] = by->advance(&b->turn[i], 1, budget, &progress, &b->err[i]);
        b->tokens += b->turn[i].done;
    }
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

/* What a pass has done for one of those whose turn it was; they do not touch each
 * other. */
static void take_turn(void *of, size_t i)
{
    batch *b = of;
    jt_task *c = b->task[i];
    c->under_way = false;
    if (b->status[i] == JT_E_INTERRUPTED)
        return; /* dropped before the next pass */
    c->pending += b->turn[i].done;
    c->n_pending -= b->turn[i].done;
    if (b->status[i] == JT_OK)
        b->status[i] = jt_task_show(c, &b->err[i]);
    if (b->status[i] == JT_OK && c->n_pending == 0)
        b->status[i] = go_on(c, &b->err[i]);
}

static void settle(jt_engine *e, batch *b)
{
    jt_pool_run(e->seats.host->ctx->pool, take_turn, b, b->n);
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
    for (jt_task *c; (c = take_waiting(e));)
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
    return vain || atomic_load(&e->stop);
}

/* Replies go on while prompts are run. Prompts that came later get half of the time, so
 * that a short one does not wait for a long one; not where experts come from the disk,
 * as a few tokens of a prompt read as many of them as all prompts together do. */
static void play(void *self)
{
    jt_engine *e = self;
    batch *b = &e->between;
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
        gather(e, b, stored ? REPLIES : EVERYBODY);
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
    batch *b = &e->pass;
    jt_pool *pool = e->seats.host->ctx->pool;
    bool apart = runs_apart(e);
    gather(e, b, apart ? PROMPTS : EVERYBODY);
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

static void wait_for_work(jt_engine *e)
{
    pthread_mutex_lock(&e->lock);
    while (!atomic_load(&e->stop) && e->n_running == 0 && e->n_waiting == 0)
        pthread_cond_wait(&e->wake, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

/* The engine stops: whatever is there has been cancelled. */
static void cancel_all(jt_engine *e)
{
    for (size_t i = 0; i < e->n_running; i++)
        atomic_store(&e->running[i]->work->cancelled, true);
    drop_given_up(e);
    pthread_mutex_lock(&e->lock);
    for (size_t i = 0; i < e->n_waiting; i++)
        atomic_store(&e->waiting[i]->work->cancelled, true);
    pthread_mutex_unlock(&e->lock);
    for (jt_task *c; (c = take_waiting(e));)
        start(e, c);
}

static void *run(void *self)
{
    jt_engine *e = self;
    for (;;) {
        wait_for_work(e);
        if (atomic_load(&e->stop))
            break;
        look_around(e);
        if (e->n_running)
            pass(e);
    }
    cancel_all(e);
    return NULL;
}

static bool make_batch(batch *b, size_t n)
{
    *b = (batch){.task = jt_calloc(n, sizeof *b->task),
                 .turn = jt_calloc(n, sizeof *b->turn),
                 .status = jt_calloc(n, sizeof *b->status),
                 .err = jt_calloc(n, sizeof *b->err)};
    return b->task && b->turn && b->status && b->err;
}

static void free_batch(batch *b)
{
    free(b->task);
    free(b->turn);
    free(b->status);
    free(b->err);
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
    e->waiting = jt_calloc(e->options.queue, sizeof *e->waiting);
    e->client = jt_calloc(e->options.clients, sizeof *e->client);
    if (!e->running || !e->waiting || !e->client || !make_batch(&e->pass, n) ||
        !make_batch(&e->between, n))
        return jt_fail_memory(err, "starting the engine");
    if (pthread_create(&e->thread, NULL, run, e))
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
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->wake, NULL);
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
    pthread_mutex_lock(&e->lock);
    atomic_store(&e->stop, true);
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    if (e->has_thread)
        pthread_join(e->thread, NULL);
    e->has_thread = false;
}

void jt_engine_free(jt_engine *e)
{
    jt_engine_stop(e);
    jt_seats_close(&e->seats);
    free(e->running);
    free_batch(&e->pass);
    free_batch(&e->between);
    free(e->waiting);
    free(e->client);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

int jt_engine_context(const jt_engine *e)
{
    return e->context;
}
