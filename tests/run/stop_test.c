#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "run/stop.h"

typedef struct text {
    char data[256];
    size_t len, calls;
    int stop_after; /* calls; 0: never */
} text;

static int append(void *user, const char *data, size_t len)
{
    text *t = user;
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
    t->calls++;
    return t->stop_after && t->calls >= (size_t)t->stop_after;
}

static jt_outlet outlet_of(text *t, const char *const *stop, size_t n)
{
    return (jt_outlet){.stop = stop, .n_stop = n, .on_text = append, .user = t};
}

static void add(jt_outlet *o, const char *piece)
{
    assert_int_equal(jt_outlet_add(o, piece, strlen(piece), NULL), JT_OK);
}

static void a_stop_string_over_several_pieces(void **state)
{
    (void)state;
    static const char *const stop[] = {"</answer>", "STOP"};
    text t = {0};
    jt_outlet o = outlet_of(&t, stop, 2);
    add(&o, "forty");
    assert_string_equal(t.data, "forty");
    add(&o, " two</an");
    assert_string_equal(t.data, "forty two"); /* "</an" may be the beginning */
    add(&o, "swer");
    assert_string_equal(t.data, "forty two");
    add(&o, "> and more");
    assert_true(o.stopped);
    add(&o, "nothing after");
    jt_outlet_finish(&o);
    assert_string_equal(t.data, "forty two");
    jt_outlet_free(&o);
}

static void what_only_looked_like_a_stop_comes_out(void **state)
{
    (void)state;
    static const char *const stop[] = {"aab", ""};
    text t = {0};
    jt_outlet o = outlet_of(&t, stop, 2);
    add(&o, "aa");
    assert_int_equal(t.len, 0);
    add(&o, "a");
    assert_string_equal(t.data, "a");
    add(&o, "c");
    assert_string_equal(t.data, "aaac");
    add(&o, "a");
    jt_outlet_finish(&o);
    assert_string_equal(t.data, "aaaca");
    assert_false(o.stopped);
    jt_outlet_free(&o);
}

static void the_first_of_several_stops_wins(void **state)
{
    (void)state;
    static const char *const stop[] = {"two", "one"};
    text t = {0};
    jt_outlet o = outlet_of(&t, stop, 2);
    add(&o, "zero one two");
    assert_string_equal(t.data, "zero ");
    jt_outlet_free(&o);
}

static void characters_are_not_torn(void **state)
{
    (void)state;
    text t = {0};
    jt_outlet o = outlet_of(&t, NULL, 0);
    add(&o, "x\xf0\x9f");
    assert_string_equal(t.data, "x");
    add(&o, "\x98\x80");
    assert_string_equal(t.data, "x\xf0\x9f\x98\x80");
    add(&o, "\xe2\x82");
    jt_outlet_finish(&o); /* the text ends there: nothing is lost */
    assert_string_equal(t.data, "x\xf0\x9f\x98\x80\xe2\x82");
    jt_outlet_free(&o);
}

static void the_reader_may_end_it(void **state)
{
    (void)state;
    text t = {.stop_after = 1};
    jt_outlet o = outlet_of(&t, NULL, 0);
    add(&o, "abc");
    assert_true(o.interrupted);
    jt_outlet_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_over_several_pieces),
        cmocka_unit_test(what_only_looked_like_a_stop_comes_out),
        cmocka_unit_test(the_first_of_several_stops_wins),
        cmocka_unit_test(characters_are_not_torn),
        cmocka_unit_test(the_reader_may_end_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
