/* Reads through io_uring. */
#include "base/reader_impl.h"

#ifdef JUNTO_HAVE_LIBURING

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

typedef struct uring {
    struct io_uring ring;
    jt_piece *failed; /* that could not be handed over: they end with an error */
} uring;

/* A ring may lie where another thread's lay before. The kernel keeps that in order, but
 * ThreadSanitizer does not see it without a lock. */
static pthread_mutex_t rings = PTHREAD_MUTEX_INITIALIZER;

static jt_status start(void **self, int depth, jt_err *err)
{
    uring *u = jt_calloc(1, sizeof *u);
    if (!u)
        return jt_fail_memory(err, "starting to read");
    pthread_mutex_lock(&rings);
    int refused = io_uring_queue_init((unsigned)depth, &u->ring, 0);
    pthread_mutex_unlock(&rings);
    if (refused) {
        free(u);
        return jt_fail(err, JT_E_UNSUPPORTED, "io_uring: %s", strerror(-refused));
    }
    *self = u;
    return JT_OK;
}

static void stop(void *self)
{
    uring *u = self;
    pthread_mutex_lock(&rings);
    io_uring_queue_exit(&u->ring);
    pthread_mutex_unlock(&rings);
    free(u);
}

static void submit(void *self, jt_piece *piece)
{
    uring *u = self;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (!sqe) { /* there are as many as pieces: this cannot be */
        piece->result = -EBUSY;
        piece->next = u->failed;
        u->failed = piece;
        return;
    }
    io_uring_prep_read(sqe, piece->fd, piece->to, (unsigned)piece->bytes,
                       piece->offset);
    io_uring_sqe_set_data(sqe, piece);
}

static void flush(void *self)
{
    uring *u = self;
    /* Interrupted, or short of memory for the moment: the next flush, or the wait,
     * hands the rest over. */
    (void)io_uring_submit(&u->ring);
}

static jt_piece *reap(void *self, bool wait)
{
    uring *u = self;
    jt_piece *piece = u->failed;
    if (piece) {
        u->failed = piece->next;
        return piece;
    }
    struct io_uring_cqe *cqe = NULL;
    int status = io_uring_peek_cqe(&u->ring, &cqe);
    while (wait && status != 0) {
        status = io_uring_submit_and_wait(&u->ring, 1);
        if (status >= 0 || status == -EINTR || status == -EAGAIN || status == -EBUSY)
            status = io_uring_peek_cqe(&u->ring, &cqe);
    }
    if (status != 0 || !cqe)
        return NULL;
    piece = io_uring_cqe_get_data(cqe);
    piece->result = cqe->res;
    io_uring_cqe_seen(&u->ring, cqe);
    return piece;
}

#else

/* A ring may lie where another thread's lay before. The kernel keeps that in order, but
 * ThreadSanitizer does not see it without a lock. */
static pthread_mutex_t rings = PTHREAD_MUTEX_INITIALIZER;

static jt_status start(void **self, int depth, jt_err *err)
{
    (void)self;
    (void)depth;
    return jt_fail(err, JT_E_UNSUPPORTED, "io_uring: this build is without liburing");
}

static void stop(void *self)
{
    (void)self;
}

static void submit(void *self, jt_piece *piece)
{
    (void)self;
    (void)piece;
}

static void flush(void *self)
{
    (void)self;
}

static jt_piece *reap(void *self, bool wait)
{
    (void)self;
    (void)wait;
    return NULL;
}

#endif

const jt_read_engine jt_read_engine_uring = {
    .name = "uring",
    .start = start,
    .stop = stop,
    .submit = submit,
    .flush = flush,
    .reap = reap,
};
