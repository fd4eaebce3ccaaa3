#include "serve/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "run/session.h"

/* Tokens of a pass where chunks are as long as prompts. */
enum { USUAL_BUDGET = 256, WHOLE_PROMPTS = 65536 };

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

    /* Of the engine's thread: what runs, in the order in which it came. */
    jt_task **running; /* [options.slots] */
    jt_turn *turns;    /* [options.slots] of the pass, and what became of each */
    jt_status *status;
    jt_err *err;
    size_t n_running;
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

bool jt_engine_submit(jt_engine *e, jt_work *work)
{
    pthread_mutex_lock(&e->lock);
    bool room = !atomic_load(&e->stop) && work->n <= e->options.queue - e->n_waiting;
    for (size_t i = 0; i < work->n && room; i++)
        e->waiting[e->n_waiting++] = &work->choice[i];
    note_queue(e);
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    if (!room)
        count(e, JT_COUNTER_rejected_total, 1);
    return room;
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

/* The first in the queue that can leave it: there is a slot, or nobody waits for it any
 * more. NULL: none. */
static jt_task *take_waiting(jt_engine *e)
{
    jt_task *found = NULL;
    size_t i = 0;
    pthread_mutex_lock(&e->lock);
    while (i < e->n_waiting && !e->seats.n_free &&
           !atomic_load(&e->waiting[i]->work->cancelled))
        i++;
    if (i < e->n_waiting) {
        found = e->waiting[i];
        e->n_waiting--;
        memmove(e->waiting + i, e->waiting + i + 1,
                (e->n_waiting - i) * sizeof *e->waiting);
        note_queue(e);
    }
    pthread_mutex_unlock(&e->lock);
    return found;
}

/* ---- the life of a reply ---- */

static void end(jt_engine *e, jt_task *c, jt_status status, jt_err *err)
{
    bool cancelled = atomic_load(&c->work->cancelled);
    if (c->vector && status == JT_OK && c->result.finish == JT_FINISH_LENGTH)
        jt_embedder_read(&c->embedder, c->vector);
    jt_embedder_end(&c->embedder);
    jt_climb_end(&c->climb, c->session);
    status = jt_reply_end(&c->reply, status, err);
    if (status == JT_OK)
        *err = (jt_err){0};
    jt_seats_leave(&e->seats, c);
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

static void tell_routing(jt_engine *e, double tokens)
{
    jt_routing_state state = {.running = e->n_running};
    jt_store_stats store;
    if (jt_session_store_stats(e->seats.host, &store)) {
        state.has_store = true;
        state.hits = store.hits;
        state.misses = store.misses;
    }
    pthread_mutex_lock(&e->lock);
    state.waiting = e->n_waiting;
    pthread_mutex_unlock(&e->lock);
    jt_routing_tell(e->options.routing, (size_t)tokens, &state);
}

/* Advance all; where that fails, each by itself, so that a failure is only that of the
 * reply which brings it. */
static void advance(jt_engine *e)
{
    const jt_prefill *by = e->options.prefill;
    jt_progress progress = {nobody_waits, e};
    double start = jt_seconds(), tokens = 0;
    uint64_t loads = e->seats.host->ctx->loads;
    jt_status all = by->advance(e->turns, e->n_running, e->budget, &progress, NULL);
    for (size_t i = 0; i < e->n_running; i++) {
        e->status[i] = all;
        e->err[i] = (jt_err){0};
        if (all != JT_OK && all != JT_E_INTERRUPTED)
            e->status[i] =
                by->advance(&e->turns[i], 1, e->budget, &progress, &e->err[i]);
        tokens += (double)e->turns[i].done;
    }
    count(e, JT_COUNTER_passes_total, 1);
    count(e, JT_COUNTER_pass_tokens_total, tokens);
    count(e, JT_COUNTER_pass_seconds_total, jt_seconds() - start);
    count(e, JT_COUNTER_expert_loads_total,
          (double)(e->seats.host->ctx->loads - loads));
    tell_routing(e, tokens);
}

/* After its end, a task is its connection's, and may be gone. */
static void end_running(jt_engine *e, size_t i, jt_status status, jt_err *err)
{
    end(e, e->running[i], status, err);
    e->running[i] = NULL;
}

/* Drop from `running` what has ended, in order. */
static void sweep(jt_engine *e)
{
    size_t kept = 0;
    for (size_t i = 0; i < e->n_running; i++) {
        if (e->running[i])
            e->running[kept++] = e->running[i];
    }
    e->n_running = kept;
}

static void drop_given_up(jt_engine *e)
{
    for (size_t i = 0; i < e->n_running; i++) {
        jt_err err = {0};
        if (is_given_up(e, e->running[i]))
            end_running(e, i, JT_OK, &err);
    }
    sweep(e);
}

static void settle(jt_engine *e, size_t i, jt_status status, jt_err *err)
{
    jt_task *c = e->running[i];
    if (status == JT_E_INTERRUPTED)
        return; /* dropped before the next pass */
    c->pending += e->turns[i].done;
    c->n_pending -= e->turns[i].done;
    if (status == JT_OK)
        status = jt_task_show(c, err);
    if (status == JT_OK && c->n_pending == 0)
        status = go_on(c, err);
    if (status != JT_OK || c->n_pending == 0)
        end_running(e, i, status, err);
}

static void pass(jt_engine *e)
{
    for (size_t i = 0; i < e->n_running; i++) {
        jt_task *c = e->running[i];
        e->turns[i] = (jt_turn){.part = {c->session, c->pending, c->n_pending},
                                .climb = &c->climb};
    }
    advance(e);
    for (size_t i = 0; i < e->n_running; i++)
        settle(e, i, e->status[i], &e->err[i]);
    sweep(e);
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
        drop_given_up(e);
        for (jt_task *c; (c = take_waiting(e));)
            start(e, c);
        if (e->n_running)
            pass(e);
    }
    cancel_all(e);
    return NULL;
}

static jt_status start_thread(jt_engine *e, jt_err *err)
{
    size_t n = e->options.slots;
    e->running = jt_calloc(n, sizeof *e->running);
    e->turns = jt_calloc(n, sizeof *e->turns);
    e->status = jt_calloc(n, sizeof *e->status);
    e->err = jt_calloc(n, sizeof *e->err);
    e->waiting = jt_calloc(e->options.queue, sizeof *e->waiting);
    if (!e->running || !e->turns || !e->status || !e->err || !e->waiting)
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
    jt_session_options session = *options->session;
    if (options->prefill->layered)
        session.chunk = WHOLE_PROMPTS;
    jt_status status =
        jt_seats_open(&e->seats, options->model, options->slots, &session, err);
    if (status == JT_OK) {
        e->seats.onlooker = jt_routing_watcher(options->routing);
        e->budget = (size_t)e->seats.seat[0].session->chunk;
        if (options->prefill->layered)
            e->budget = options->session->chunk ? (size_t)options->session->chunk
                                                : USUAL_BUDGET;
        e->context = jt_session_capacity(e->seats.seat[0].session);
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
    free(e->turns);
    free(e->status);
    free(e->err);
    free(e->waiting);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

int jt_engine_context(const jt_engine *e)
{
    return e->context;
}
