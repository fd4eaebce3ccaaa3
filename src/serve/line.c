#include "serve/line.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void jt_line_open(jt_line *l, size_t most, jt_counters *metrics)
{
    *l = (jt_line){.most = most, .metrics = metrics};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->wake, NULL);
}

void jt_line_close(jt_line *l)
{
    free(l->task);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
}

/* With the lock held. */
static void note(const jt_line *l)
{
    jt_counters_set(l->metrics, JT_COUNTER_queue_length, (double)l->n);
}

/* With the lock held. */
static bool let_in(jt_line *l, jt_work *work, jt_problem *p)
{
    if (atomic_load(&l->shut) || (l->n && l->n + work->n > l->most))
        return jt_refuse(p, 429, NULL, "queue_full", "too many requests wait already");
    if (!jt_grow((void **)&l->task, &l->capacity, l->n + work->n, sizeof *l->task))
        return jt_refuse(p, 500, NULL, NULL, "out of memory");
    if (!jt_client_admit(work->client, work->n, jt_work_tokens(work), p))
        return false;
    for (size_t i = 0; i < work->n; i++)
        l->task[l->n++] = &work->choice[i];
    note(l);
    pthread_cond_signal(&l->wake);
    return true;
}

bool jt_line_join(jt_line *l, jt_work *work, jt_problem *p)
{
    pthread_mutex_lock(&l->lock);
    bool in = let_in(l, work, p);
    pthread_mutex_unlock(&l->lock);
    if (!in)
        jt_counters_add(l->metrics, JT_COUNTER_rejected_total, 1);
    return in;
}

void jt_line_stir(jt_line *l)
{
    pthread_mutex_lock(&l->lock);
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

void jt_line_shut(jt_line *l)
{
    pthread_mutex_lock(&l->lock);
    atomic_store(&l->shut, true);
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

size_t jt_line_length(jt_line *l)
{
    pthread_mutex_lock(&l->lock);
    size_t n = l->n;
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* The place of who can leave; n: nobody. */
static size_t choose(const jt_line *l, bool has_slot)
{
    size_t best = l->n;
    for (size_t i = 0; i < l->n; i++) {
        const jt_work *work = l->task[i]->work;
        if (atomic_load(&work->cancelled))
            return i;
        if (has_slot &&
            (best == l->n ||
             jt_client_goes_before(work->client, l->task[best]->work->client)))
            best = i;
    }
    return best;
}

jt_task *jt_line_next(jt_line *l, bool has_slot)
{
    jt_task *found = NULL;
    pthread_mutex_lock(&l->lock);
    size_t i = choose(l, has_slot);
    if (i < l->n) {
        found = l->task[i];
        jt_client_begin(found->work->client);
        l->n--;
        memmove(l->task + i, l->task + i + 1, (l->n - i) * sizeof *l->task);
        note(l);
    }
    pthread_mutex_unlock(&l->lock);
    return found;
}

void jt_line_wait(jt_line *l)
{
    pthread_mutex_lock(&l->lock);
    while (!atomic_load(&l->shut) && l->n == 0)
        pthread_cond_wait(&l->wake, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

void jt_line_cancel(jt_line *l)
{
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < l->n; i++)
        atomic_store(&l->task[i]->work->cancelled, true);
    pthread_mutex_unlock(&l->lock);
}
