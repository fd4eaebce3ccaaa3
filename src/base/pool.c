#include "base/pool.h"

#include <pthreadpool.h>
#include <sched.h>
#include <stdlib.h>

#include "base/memory.h"

struct jt_pool {
    pthreadpool_t workers; /* NULL for one thread: loops run in the caller */
    int threads;
};

/* ThreadSanitizer cannot see into the packaged library; tell it about the two
 * hand-overs of a loop: caller -> items, items -> caller. */
#if defined(__SANITIZE_THREAD__)
#define JT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define JT_TSAN 1
#endif
#endif
#ifdef JT_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define HAND_OVER(addr) __tsan_release(addr)
#define TAKE_OVER(addr) __tsan_acquire(addr)
#else
#define HAND_OVER(addr) (void)(addr)
#define TAKE_OVER(addr) (void)(addr)
#endif

int jt_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    return 1;
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
    if (pool->threads > 1) {
        pool->workers = pthreadpool_create((size_t)pool->threads);
        if (!pool->workers) {
            free(pool);
            return jt_fail(err, JT_E_MEMORY, "cannot start %d threads", threads);
        }
    }
    *out = pool;
    return JT_OK;
}

void jt_pool_free(jt_pool *pool)
{
    if (!pool)
        return;
    if (pool->workers)
        pthreadpool_destroy(pool->workers);
    free(pool);
}

int jt_pool_threads(const jt_pool *pool)
{
    return pool->threads;
}

typedef struct loop {
    jt_pool_fn *fn;
    void *arg;
    char begin, end; /* addresses of the two hand-overs */
} loop;

static void run_item(void *arg, size_t i)
{
    loop *job = arg;
    TAKE_OVER(&job->begin);
    job->fn(job->arg, i);
    HAND_OVER(&job->end);
}

void jt_pool_run(jt_pool *pool, jt_pool_fn *fn, void *arg, size_t count)
{
    if (!pool->workers || count <= 1) {
        for (size_t i = 0; i < count; i++)
            fn(arg, i);
        return;
    }
    loop job = {.fn = fn, .arg = arg};
    HAND_OVER(&job.begin);
    pthreadpool_parallelize_1d(pool->workers, run_item, &job, count, 0);
    TAKE_OVER(&job.end);
}
