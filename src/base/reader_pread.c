/* Reads by a few threads that call pread. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/reader_impl.h"
#include "base/thread.h"

/* More threads than these read no faster, even from fast disks. */
enum { MOST_THREADS = 8 };

typedef struct queue {
    jt_piece *first, *last;
} queue;

typedef struct readers {
    pthread_mutex_t lock;
    pthread_cond_t work, ended;
    queue wanted, done;
    bool over;
    int threads;
    pthread_t thread[MOST_THREADS];
} readers;

static void put(queue *q, jt_piece *piece)
{
    piece->next = NULL;
    if (q->last)
        q->last->next = piece;
    else
        q->first = piece;
    q->last = piece;
}

static jt_piece *take(queue *q)
{
    jt_piece *piece = q->first;
    if (piece) {
        q->first = piece->next;
        if (!q->first)
            q->last = NULL;
    }
    return piece;
}

static void *read_pieces(void *arg)
{
    readers *r = arg;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        jt_piece *piece = take(&r->wanted);
        if (piece) {
            pthread_mutex_unlock(&r->lock);
            ssize_t got =
                pread(piece->fd, piece->to, piece->bytes, (off_t)piece->offset);
            piece->result = got < 0 ? -errno : (long)got;
            pthread_mutex_lock(&r->lock);
            put(&r->done, piece);
            pthread_cond_signal(&r->ended);
        } else if (r->over) {
            break;
        } else {
            pthread_cond_wait(&r->work, &r->lock);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void stop(void *self)
{
    readers *r = self;
    pthread_mutex_lock(&r->lock);
    r->over = true;
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < r->threads; i++)
        pthread_join(r->thread[i], NULL);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->work);
    pthread_cond_destroy(&r->ended);
    free(r);
}

static jt_status start(void **self, int depth, jt_err *err)
{
    readers *r = jt_calloc(1, sizeof *r);
    if (!r)
        return jt_fail_memory(err, "starting to read");
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    pthread_cond_init(&r->ended, NULL);
    int wanted = depth < MOST_THREADS ? depth : MOST_THREADS;
    while (r->threads < wanted &&
           jt_thread_start(&r->thread[r->threads], read_pieces, r) == 0)
        r->threads++;
    if (!r->threads) {
        stop(r);
        return jt_fail(err, JT_E_MEMORY, "cannot start threads that read");
    }
    *self = r;
    return JT_OK;
}

static void submit(void *self, jt_piece *piece)
{
    readers *r = self;
    pthread_mutex_lock(&r->lock);
    put(&r->wanted, piece);
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
}

static void flush(void *self)
{
    (void)self; /* the threads have begun */
}

static jt_piece *reap(void *self, bool wait)
{
    readers *r = self;
    pthread_mutex_lock(&r->lock);
    while (wait && !r->done.first)
        pthread_cond_wait(&r->ended, &r->lock);
    jt_piece *piece = take(&r->done);
    pthread_mutex_unlock(&r->lock);
    return piece;
}

const jt_read_engine jt_read_engine_pread = {
    .name = "pread",
    .start = start,
    .stop = stop,
    .submit = submit,
    .flush = flush,
    .reap = reap,
};
