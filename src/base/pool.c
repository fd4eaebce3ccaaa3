#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/thread.h"

/* A loop is open while `ticket` is odd. A worker enters by counting itself in `inside`
 * and then looking at the ticket again; the caller closes the loop and then waits until
 * nobody is inside. Both are sequentially consistent, so either the worker sees the
 * loop closed or the caller sees the worker. A library pool (pthreadpool) was tried
 * first: it waits for every thread to report, which on a busy machine costs a time
 * slice per loop (decoding with two threads fell to a tenth). */
struct jt_pool {
    int threads, started;
    pthread_t *workers;     /* [threads - 1] */
    struct worker *numbers; /* what each of them is told */
    jt_pool_fn *fn;         /* the loop, written while closed */
    void *arg;
    struct range *ranges;          /* [threads] items, each thread's own first */
    struct range *aside;           /* [threads] those of loops within an interlude */
    const jt_interlude *interlude; /* or NULL */
    atomic_bool pause;             /* items are left for after it */
    _Alignas(64) atomic_uint_fast64_t ticket;
    _Alignas(64) atomic_int inside;
    pthread_mutex_t lock; /* of sleeping */
    pthread_cond_t wake;
    atomic_int sleepers;
    atomic_bool stop;
};

typedef struct range {
    _Alignas(64) atomic_size_t next; /* item to take */
    size_t end;
} range;

enum {
    SPINS_AWAKE = 4000, /* some 50 us: longer than the pause between two loops */
    SPINS_POLITE = 200  /* then the caller lets others run while it waits */
};

static _Thread_local int self;

int jt_pool_self(void)
{
    return self;
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int jt_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    return 1;
}

/* Only the caller's thread asks for interludes. */
static bool must_pause(jt_pool *pool)
{
    const jt_interlude *i = self == 0 ? pool->interlude : NULL;
    if (i && i->due(i->user))
        atomic_store_explicit(&pool->pause, true, memory_order_relaxed);
    return atomic_load_explicit(&pool->pause, memory_order_relaxed);
}

/* A thread's own items follow each other, so that what it asks for ahead is what it
 * needs; then it takes those that others have not come to. */
static void take_items(jt_pool *pool)
{
    for (int t = 0; t < pool->threads; t++) {
        range *r = &pool->ranges[(self + t) % pool->threads];
        while (!must_pause(pool)) {
            size_t i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
            if (i >= r->end)
                break;
            pool->fn(pool->arg, i);
        }
    }
}

static bool news(jt_pool *pool, uint64_t seen)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    return (ticket % 2 && ticket != seen) || atomic_load(&pool->stop);
}

/* Until there is a loop that this worker has not seen, or the end. */
static void wait_for_news(jt_pool *pool, uint64_t seen)
{
    for (int i = 0; i < SPINS_AWAKE; i++) {
        if (news(pool, seen))
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (!news(pool, seen))
        pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

typedef struct worker {
    jt_pool *pool;
    int number;
} worker;

static void *work(void *arg)
{
    jt_pool *pool = ((worker *)arg)->pool;
    uint64_t seen = 0;
    self = ((worker *)arg)->number;
    for (;;) {
        wait_for_news(pool, seen);
        if (atomic_load(&pool->stop))
            return NULL;
        atomic_fetch_add(&pool->inside, 1);
        uint64_t ticket = atomic_load(&pool->ticket);
        if (ticket % 2) {
            seen = ticket;
            take_items(pool);
        }
        atomic_fetch_sub(&pool->inside, 1);
    }
}

static void wake_sleepers(jt_pool *pool)
{
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

static jt_status start_workers(jt_pool *pool, jt_err *err)
{
    for (int i = 0; i < pool->threads - 1; i++, pool->started++) {
        pool->numbers[i] = (worker){pool, i + 1};
        if (jt_thread_start(&pool->workers[i], work, &pool->numbers[i]) != 0)
            return jt_fail(err, JT_E_MEMORY, "cannot start %d threads", pool->threads);
    }
    return JT_OK;
}

jt_status jt_pool_new(jt_pool **out, int threads, jt_err *err)
{
    enum { MOST = 1024 };
    if (threads < 0 || threads > MOST)
        return jt_fail(err, JT_E_ARG, "%d threads asked for, expected 0 to %d", threads,
                       MOST);
    jt_pool *pool = jt_calloc(1, sizeof *pool);
    if (!pool)
        return jt_fail_memory(err, "starting threads");
    pool->threads = threads ? threads : jt_processors();
    pool->workers = jt_alloc((size_t)pool->threads, sizeof *pool->workers);
    pool->numbers = jt_alloc((size_t)pool->threads, sizeof *pool->numbers);
    pool->ranges = aligned_alloc(64, (size_t)pool->threads * sizeof *pool->ranges);
    pool->aside = aligned_alloc(64, (size_t)pool->threads * sizeof *pool->aside);
    if (!pool->workers || !pool->numbers || !pool->ranges || !pool->aside) {
        free(pool->ranges);
        free(pool->aside);
        free(pool->workers);
        free(pool->numbers);
        free(pool);
        return jt_fail_memory(err, "starting threads");
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    jt_status status = start_workers(pool, err);
    if (status != JT_OK) {
        jt_pool_free(pool);
        return status;
    }
    *out = pool;
    return JT_OK;
}

void jt_pool_free(jt_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->stop, true);
    wake_sleepers(pool);
    for (int i = 0; i < pool->started; i++)
        pthread_join(pool->workers[i], NULL);
    pthread_mutex_destroy(&pool->lock);
    pthread_cond_destroy(&pool->wake);
    free(pool->ranges);
    free(pool->aside);
    free(pool->workers);
    free(pool->numbers);
    free(pool);
}

int jt_pool_threads(const jt_pool *pool)
{
    return pool->threads;
}

/* Take items until there are none, or a pause. */
static void open_loop(jt_pool *pool)
{
    atomic_fetch_add(&pool->ticket, 1); /* open */
    wake_sleepers(pool);
    take_items(pool);
    atomic_fetch_add(&pool->ticket, 1); /* closed */
    for (int spins = 0; atomic_load(&pool->inside) > 0; spins++) {
        if (spins < SPINS_POLITE)
            pause_briefly();
        else
            sched_yield();
    }
}

/* The loop waits, and its items with it. */
static void play(jt_pool *pool)
{
    const jt_interlude *interlude = jt_pool_interlude(pool, NULL);
    range *ranges = pool->ranges;
    jt_pool_fn *fn = pool->fn;
    void *arg = pool->arg;
    pool->ranges = pool->aside;
    pool->aside = ranges;
    atomic_store(&pool->pause, false);
    interlude->play(interlude->user);
    pool->aside = pool->ranges;
    pool->ranges = ranges;
    pool->fn = fn;
    pool->arg = arg;
    jt_pool_interlude(pool, interlude);
}

static void run_alone(jt_pool *pool, jt_pool_fn *fn, void *arg, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const jt_interlude *interlude = pool->interlude;
        if (interlude && interlude->due(interlude->user))
            play(pool);
        fn(arg, i);
    }
}

void jt_pool_run(jt_pool *pool, jt_pool_fn *fn, void *arg, size_t count)
{
    if (pool->threads == 1 || count <= 1) {
        run_alone(pool, fn, arg, count);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    for (int t = 0; t < pool->threads; t++) {
        size_t threads = (size_t)pool->threads, i = (size_t)t;
        pool->ranges[t].end = count * (i + 1) / threads;
        atomic_store_explicit(&pool->ranges[t].next, count * i / threads,
                              memory_order_relaxed);
    }
    open_loop(pool);
    while (atomic_load(&pool->pause)) {
        play(pool);
        open_loop(pool);
    }
}

const jt_interlude *jt_pool_interlude(jt_pool *pool, const jt_interlude *interlude)
{
    const jt_interlude *before = pool->interlude;
    pool->interlude = interlude;
    return before;
}
