#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/pool.h"

enum { MOST = 5000 };

/* Plain memory on purpose: ThreadSanitizer then checks that what the caller wrote is
 * seen by the items, and what the items wrote by the caller. */
typedef struct work {
    int input[MOST];
    int output[MOST];
    int runs[MOST];
} work;

static void square(void *arg, size_t i)
{
    work *w = arg;
    w->output[i] = w->input[i] * w->input[i];
    w->runs[i]++;
}

static void every_item_once(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 2, 7, 64, MOST};
    static work w;
    for (int threads = 1; threads <= 4; threads++) {
        jt_pool *pool;
        assert_int_equal(jt_pool_new(&pool, threads, NULL), JT_OK);
        assert_int_equal(jt_pool_threads(pool), threads);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            memset(&w, 0, sizeof w);
            for (int i = 0; i < MOST; i++)
                w.input[i] = i + threads;
            jt_pool_run(pool, square, &w, counts[c]);
            size_t wrong = 0;
            for (size_t i = 0; i < MOST; i++) {
                int once = i < counts[c];
                wrong += w.runs[i] != once;
                wrong += w.output[i] != once * w.input[i] * w.input[i];
            }
            assert_int_equal(wrong, 0);
        }
        jt_pool_free(pool);
    }
}

static void many_loops(void **state)
{
    (void)state;
    static work w;
    jt_pool *pool;
    assert_int_equal(jt_pool_new(&pool, 3, NULL), JT_OK);
    memset(&w, 0, sizeof w);
    for (int round = 0; round < 300; round++) {
        w.input[round % 8] = round;
        jt_pool_run(pool, square, &w, 8);
        assert_int_equal(w.output[round % 8], round * round);
    }
    assert_int_equal(w.runs[7], 300);
    jt_pool_free(pool);
}

/* A loop within a loop: `inner` of items that the outer ones do not touch. */
typedef struct nested {
    work outer, inner;
    jt_pool *pool;
    size_t asked, played;
} nested;

static bool first_and_every_fifth(void *user)
{
    nested *n = user;
    return n->asked++ % 5 == 0;
}

static void play(void *user)
{
    nested *n = user;
    n->played++;
    jt_pool_run(n->pool, square, &n->inner, 100);
}

static void loops_between_items(void **state)
{
    (void)state;
    static nested n;
    const jt_interlude interlude = {first_and_every_fifth, play, &n};
    for (int threads = 1; threads <= 4; threads++) {
        memset(&n, 0, sizeof n);
        assert_int_equal(jt_pool_new(&n.pool, threads, NULL), JT_OK);
        assert_null(jt_pool_interlude(n.pool, &interlude));
        for (int i = 0; i < MOST; i++)
            n.outer.input[i] = n.inner.input[i] = i;
        jt_pool_run(n.pool, square, &n.outer, MOST);
        assert_ptr_equal(jt_pool_interlude(n.pool, NULL), &interlude);
        assert_true(n.played > 0);
        jt_pool_free(n.pool);
        for (int i = 0; i < MOST; i++) {
            assert_int_equal(n.outer.runs[i], 1);
            assert_int_equal(n.outer.output[i], i * i);
            assert_int_equal(n.inner.runs[i], i < 100 ? n.played : 0);
        }
    }
}

static void sizes(void **state)
{
    (void)state;
    jt_err err = {0};
    jt_pool *pool = NULL;
    assert_true(jt_processors() >= 1);
    assert_int_equal(jt_pool_new(&pool, 0, &err), JT_OK);
    assert_int_equal(jt_pool_threads(pool), jt_processors());
    jt_pool_free(pool);
    assert_int_equal(jt_pool_new(&pool, -1, &err), JT_E_ARG);
    assert_string_equal(err.msg, "-1 threads asked for, expected 0 to 1024");
    assert_int_equal(jt_pool_new(&pool, 1025, &err), JT_E_ARG);
    jt_fault_after(0);
    assert_int_equal(jt_pool_new(&pool, 2, &err), JT_E_MEMORY);
    jt_fault_after(-1);
    jt_pool_free(NULL);
}

static volatile sig_atomic_t heard;

static void hear(int signal)
{
    (void)signal;
    heard++;
}

/* A signal waits for the thread that has begun, as if it were the only one: it would
 * otherwise be heard where nobody waits for it. */
static void signals_are_the_callers(void **state)
{
    (void)state;
    jt_pool *pool;
    sigset_t one, pending;
    struct sigaction old, ours = {.sa_handler = hear};
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    sigaction(SIGUSR1, &ours, &old);
    assert_int_equal(jt_pool_new(&pool, 4, NULL), JT_OK);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    kill(getpid(), SIGUSR1);
    usleep(20000); /* for another thread to hear it, if one could */
    sigpending(&pending);
    assert_true(sigismember(&pending, SIGUSR1));
    assert_int_equal(heard, 0);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    assert_int_equal(heard, 1);
    jt_pool_free(pool);
    sigaction(SIGUSR1, &old, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once),         cmocka_unit_test(many_loops),
        cmocka_unit_test(loops_between_items),     cmocka_unit_test(sizes),
        cmocka_unit_test(signals_are_the_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
