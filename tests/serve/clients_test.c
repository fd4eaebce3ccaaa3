/* Whose turn it is, and who has had enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "serve/clients.h"

static jt_clients *clients_with(size_t replies, size_t tokens)
{
    jt_clients *all;
    const jt_client_limits limits = {replies, tokens};
    assert_int_equal(jt_clients_new(&all, &limits, NULL), JT_OK);
    return all;
}

/* A client that asks for so many replies. */
static jt_client *ask(jt_clients *all, const char *name, const char *user, size_t n)
{
    jt_problem problem;
    jt_client *c = jt_client_enter(all, name, user);
    assert_non_null(c);
    assert_true(jt_client_admit(c, n, 0, &problem));
    return c;
}

static void clients_take_turns(void **state)
{
    (void)state;
    jt_clients *all = clients_with(0, 0);
    jt_client *a = ask(all, "a", NULL, 3), *b = ask(all, "b", NULL, 1);
    assert_false(jt_client_goes_before(b, a)); /* who came first */
    jt_client_begin(a);
    assert_true(jt_client_goes_before(b, a)); /* has fewer */
    jt_client_begin(b);
    assert_true(jt_client_goes_before(a, b)); /* had its turn longer ago */
    jt_client_end(b, 0);
    assert_true(jt_client_goes_before(b, a)); /* has fewer */
    jt_client_end(a, 0);
    assert_true(jt_client_goes_before(a, b));
    jt_client *c = ask(all, "c", NULL, 1); /* before b, who had the last turn */
    assert_true(jt_client_goes_before(c, b));
    assert_false(jt_client_goes_before(c, a));
    jt_client_begin(c);
    assert_true(jt_client_goes_before(b, c));
    jt_client_leave(a);
    jt_client_leave(b);
    jt_client_leave(c);
    jt_clients_free(all);
}

/* A name that anybody can make up brings nothing beside other clients. */
static void users_take_turns_within_a_client(void **state)
{
    (void)state;
    jt_clients *all = clients_with(4, 0);
    jt_client *much = ask(all, "a", "much", 2), *less = ask(all, "a", "less", 1);
    jt_client *other = ask(all, "b", "much", 1);
    jt_client_begin(much);
    assert_true(jt_client_goes_before(less, much));
    assert_true(jt_client_goes_before(other, less)); /* a has one that runs */
    jt_client_begin(other);
    assert_true(jt_client_goes_before(less, other));
    jt_problem problem;
    assert_true(jt_client_admit(less, 1, 0, &problem)); /* a has four */
    assert_false(jt_client_admit(less, 1, 0, &problem));
    assert_int_equal(problem.status, 429);
    assert_string_equal(problem.code, "rate_limit_exceeded");
    assert_int_equal(problem.retry, 1);
    jt_client_end(much, 0);
    assert_true(jt_client_admit(less, 1, 0, &problem));
    jt_client_leave(much);
    jt_client_leave(less);
    jt_client_leave(other);
    jt_clients_free(all);
}

static void tokens_come_back_with_time(void **state)
{
    (void)state;
    jt_clients *all = clients_with(0, 600); /* 10 a second */
    jt_problem problem;
    jt_client *a = jt_client_enter(all, "a", "me");
    assert_true(jt_client_admit(a, 1, 500, &problem));
    assert_false(jt_client_admit(a, 1, 200, &problem));
    assert_int_equal(problem.status, 429);
    assert_string_equal(problem.code, "rate_limit_exceeded");
    assert_string_equal(problem.type, "tokens");
    assert_in_range(problem.retry, 9, 10);
    assert_non_null(strstr(problem.err.msg, "Limit 600"));
    assert_non_null(strstr(problem.err.msg, "Requested 200"));
    assert_false(jt_client_admit(a, 1, 601, &problem)); /* never */
    assert_int_equal(problem.retry, 0);
    jt_client_begin(a);
    jt_client_end(a, 300); /* of 500 only 200 were taken */
    jt_allowance allowance = jt_client_allowance(a);
    assert_int_equal(allowance.limit, 600);
    assert_in_range(allowance.left, 400, 410);
    assert_in_range((int)allowance.reset, 18, 20);
    assert_true(jt_client_admit(a, 1, 350, &problem));
    jt_client_begin(a);
    jt_client_end(a, -300); /* it was not said how many */
    assert_int_equal(jt_client_allowance(a).left, 0);
    jt_client_leave(a);

    a = jt_client_enter(all, "a", NULL); /* it is remembered, */
    assert_false(jt_client_admit(a, 1, 1, &problem));
    assert_in_range(problem.retry, 24, 26);
    jt_client *b = jt_client_enter(all, "b", NULL); /* and no other */
    assert_true(jt_client_admit(b, 1, 600, &problem));
    jt_client_leave(a);
    jt_client_leave(b);
    jt_clients_free(all);
}

static void no_memory_is_told(void **state)
{
    (void)state;
    jt_clients *all = clients_with(0, 0);
    for (long n = 0; n < 2; n++) {
        jt_fault_after(n);
        assert_null(jt_client_enter(all, "a", "me"));
        jt_fault_after(-1);
    }
    jt_client_leave(jt_client_enter(all, "a", "me"));
    jt_clients_free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_take_turns),
        cmocka_unit_test(users_take_turns_within_a_client),
        cmocka_unit_test(tokens_come_back_with_time),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
