#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once),
        cmocka_unit_test(many_loops),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
