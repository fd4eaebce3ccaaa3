/* What passes are made of, and which seat a prompt gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serve/pace.h"
#include "serve/prefill.h"
#include "serve/seats.h"

enum { SESSIONS = 3 };

static jt_model *model;
static jt_seats seats;

static int open_seats(void **state)
{
    (void)state;
    char path[512];
    const char *data = getenv("JUNTO_TEST_DATA");
    jt_session_options small = {.n_ctx = 64, .threads = 1};
    const jt_hosting hosting = {.guests = SESSIONS, .spare = 1 << 20};
    snprintf(path, sizeof path, "%s/golden/mixtral.gguf", data ? data : "tests");
    return jt_model_load(&model, path, NULL) == JT_OK &&
                   jt_seats_open(&seats, model, &small, &hosting, NULL, NULL) == JT_OK
               ? 0
               : -1;
}

static int close_seats(void **state)
{
    (void)state;
    jt_seats_close(&seats);
    jt_model_free(model);
    return 0;
}

/* Advance turns that wait for so many tokens, by a policy; what it has done. */
static void advance(const char *policy, const size_t *wait, size_t budget, size_t *done)
{
    static int32_t tokens[64];
    jt_turn turns[SESSIONS];
    for (size_t i = 0; i < SESSIONS; i++) {
        jt_session *session = seats.seat[i].session;
        jt_session_truncate(session, 0);
        turns[i] = (jt_turn){.part = {session, tokens, wait[i]}};
    }
    assert_int_equal(
        jt_prefill_find(policy)->advance(turns, SESSIONS, budget, NULL, NULL), JT_OK);
    for (size_t i = 0; i < SESSIONS; i++) {
        done[i] = turns[i].done;
        assert_int_equal(jt_session_length(seats.seat[i].session), done[i]);
    }
}

static void expect(const char *policy, const size_t *wait, size_t budget,
                   const size_t *wanted)
{
    size_t done[SESSIONS];
    advance(policy, wait, budget, done);
    assert_memory_equal(done, wanted, sizeof done);
}

static void chunks_are_shared_in_order(void **state)
{
    (void)state;
    expect("chunked", (size_t[]){1, 10, 7}, 6, (size_t[]){1, 5, 0});
    expect("chunked", (size_t[]){10, 1, 7}, 15, (size_t[]){10, 1, 4});
    expect("chunked", (size_t[]){3, 2, 2}, 100, (size_t[]){3, 2, 2});
    expect("chunked", (size_t[]){1, 1, 9}, 2, (size_t[]){1, 1, 1}); /* no standstill */
    expect("whole", (size_t[]){1, 10, 7}, 6, (size_t[]){1, 10, 7});
    assert_null(jt_prefill_find("none"));
}

static void a_long_prompt_goes_through_the_layers_alone(void **state)
{
    (void)state;
    expect("layered", (size_t[]){1, 18, 9}, 6, (size_t[]){0, 18, 0});
    expect("layered", (size_t[]){1, 3, 1}, 6, (size_t[]){1, 3, 1}); /* not long */
}

/* A step of 100 ms leaves less than that to prompts, of whose tokens each takes 1. */
static void prompts_get_less_than_a_step(void **state)
{
    (void)state;
    jt_pace pace = {0};
    assert_true(jt_pace_slice(&pace) > 0.0 && jt_pace_tokens(&pace, 1.0) > 0);
    jt_pace_step(&pace, 0.1);
    jt_pace_prompt(&pace, 200, 0.2);
    jt_pace_prompt(&pace, 2, 0.1); /* a matter of weights: says nothing */
    double slice = jt_pace_slice(&pace);
    assert_true(slice > 0.05 && slice < 0.1);
    assert_int_equal(jt_pace_tokens(&pace, 0.0505), 50);
    jt_pace_step(&pace, 0.3);
    assert_true(jt_pace_slice(&pace) > slice && jt_pace_slice(&pace) < 0.1);
    jt_pace_step(&pace, 0.02); /* what is less counts for more */
    assert_true(jt_pace_slice(&pace) < slice);
}

static void a_failure_changes_nothing(void **state)
{
    (void)state;
    int32_t good[4] = {1, 2, 3, 4}, bad[2] = {1, -5};
    jt_turn turns[2] = {{.part = {seats.seat[0].session, good, 4}},
                        {.part = {seats.seat[1].session, bad, 2}}};
    for (int i = 0; i < 2; i++)
        jt_session_truncate(seats.seat[i].session, 0);
    assert_int_equal(jt_prefill_find("chunked")->advance(turns, 2, 32, NULL, NULL),
                     JT_E_ARG);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(turns[i].done, 0);
        assert_int_equal(jt_session_length(seats.seat[i].session), 0);
    }
}

/* The session that a prompt gets. */
static jt_session *take(jt_task *task, jt_work *work, int32_t *ids, size_t count)
{
    const jt_tokens prompt = {.ids = ids, .count = count};
    *work = (jt_work){0};
    *task = (jt_task){.work = work, .prompt = &prompt};
    assert_int_equal(jt_seats_take(&seats, task, NULL), JT_OK);
    return task->session;
}

static void a_prompt_gets_the_seat_that_knows_most_of_it(void **state)
{
    (void)state;
    int32_t held[SESSIONS][4] = {{1, 2, 3, 4}, {1, 2, 9, 9}, {7, 7, 7, 7}};
    jt_work work[2];
    jt_task task[2];
    for (int i = 0; i < SESSIONS; i++) {
        jt_session_truncate(seats.seat[i].session, 0);
        assert_int_equal(jt_session_eval(seats.seat[i].session, held[i], 4, NULL, NULL),
                         JT_OK);
    }
    int32_t like_second[5] = {1, 2, 9, 5, 5}, like_none[2] = {8, 8};
    assert_ptr_equal(take(&task[0], &work[0], like_second, 5), seats.seat[1].session);
    assert_int_equal(seats.n_free, SESSIONS - 1);
    /* the best one is taken now */
    assert_ptr_equal(take(&task[1], &work[1], like_second, 5), seats.seat[0].session);
    jt_seats_leave(&seats, &task[1]);
    jt_seats_leave(&seats, &task[0]);
    assert_int_equal(seats.n_free, SESSIONS);
    /* known to none: the one that has been free for longest */
    assert_ptr_equal(take(&task[0], &work[0], like_none, 2), seats.seat[2].session);
    jt_seats_leave(&seats, &task[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_are_shared_in_order),
        cmocka_unit_test(a_long_prompt_goes_through_the_layers_alone),
        cmocka_unit_test(prompts_get_less_than_a_step),
        cmocka_unit_test(a_failure_changes_nothing),
        cmocka_unit_test(a_prompt_gets_the_seat_that_knows_most_of_it),
    };
    return cmocka_run_group_tests(tests, open_seats, close_seats);
}
