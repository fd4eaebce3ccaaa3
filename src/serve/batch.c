#include "serve/batch.h"

#include <stdlib.h>

#include "base/memory.h"

bool jt_batch_open(jt_batch *b, size_t n)
{
    *b = (jt_batch){.task = jt_calloc(n, sizeof *b->task),
                    .turn = jt_calloc(n, sizeof *b->turn),
                    .status = jt_calloc(n, sizeof *b->status),
                    .err = jt_calloc(n, sizeof *b->err)};
    return b->task && b->turn && b->status && b->err;
}

void jt_batch_close(jt_batch *b)
{
    free(b->task);
    free(b->turn);
    free(b->status);
    free(b->err);
}

void jt_batch_gather(jt_batch *b, jt_task *const *tasks, size_t n, jt_batch_of who)
{
    b->n = b->replies = b->tokens = 0;
    for (size_t i = 0; i < n; i++) {
        jt_task *c = tasks[i];
        bool replies = c->n_pending == 1;
        if (c->under_way || (who != JT_EVERYBODY && replies != (who == JT_REPLIES)))
            continue;
        c->under_way = true;
        b->replies += replies;
        b->task[b->n] = c;
        b->turn[b->n++] = (jt_turn){.part = {c->session, c->pending, c->n_pending}};
    }
}

void jt_batch_advance(jt_batch *b, const jt_prefill *by, size_t budget,
                      const jt_progress *progress)
{
    jt_status all = by->advance(b->turn, b->n, budget, progress, NULL);
    for (size_t i = 0; i < b->n; i++) {
        b->status[i] = all;
        b->err[i] = (jt_err){0};
        if (all != JT_OK && all != JT_E_INTERRUPTED)
            b->status[i] = by->advance(&b->turn[i], 1, budget, progress, &b->err[i]);
        b->tokens += b->turn[i].done;
    }
}

/* What comes next? Nothing: the reply is over. */
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

/* Tasks do not touch each other. */
static void take_turn(void *of, size_t i)
{
    jt_batch *b = of;
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

void jt_batch_go_on(jt_batch *b, jt_pool *pool)
{
    jt_pool_run(pool, take_turn, b, b->n);
}
