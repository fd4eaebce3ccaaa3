/* The usage watcher and its picture, fed with made-up routes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "watch/usage.h"

/* A model of three layers: 4 experts, dense, 8 experts. */
static const int layers[] = {4, 0, 8};

static jt_usage *new_usage(void)
{
    jt_usage *usage = NULL;
    assert_int_equal(jt_usage_new_layers(&usage, layers, 3, NULL), JT_OK);
    return usage;
}

static void feed(jt_usage *usage, int layer, int n_tokens, int k, int32_t *expert,
                 float *weight)
{
    jt_watcher watcher = jt_usage_watcher(usage);
    jt_route_site site = {.layer = layer};
    jt_route route = {.n_tokens = n_tokens,
                      .n_experts = layers[layer],
                      .k = k,
                      .expert = expert,
                      .weight = weight};
    watcher.on_route(watcher.self, &site, &route);
}

static void test_counts(void **state)
{
    (void)state;
    jt_usage *usage = new_usage();
    int32_t expert[] = {0, 3, 3, -1, 1, 3};
    float weight[] = {0.75f, 0.25f, 1, 0, 0.5f, 0.5f};
    feed(usage, 0, 3, 2, expert, weight);
    feed(usage, 0, 1, 2, expert, weight);

    assert_int_equal(jt_usage_layers(usage), 2);
    jt_layer_usage layer;
    jt_usage_layer(usage, 0, &layer);
    assert_int_equal(layer.layer, 0);
    assert_int_equal(layer.n_experts, 4);
    assert_int_equal(layer.tokens, 4);
    const uint64_t counts[] = {2, 1, 0, 4};
    const double weights[] = {1.5, 0.5, 0, 2};
    for (int e = 0; e < 4; e++) {
        assert_int_equal(layer.counts[e], counts[e]);
        assert_true(fabs(layer.weights[e] - weights[e]) < 1e-12);
    }
    jt_usage_layer(usage, 1, &layer);
    assert_int_equal(layer.layer, 2);
    assert_int_equal(layer.n_experts, 8);
    assert_int_equal(layer.tokens, 0);
    assert_true(layer.entropy == 0);
    jt_usage_free(usage);
}

static void test_entropy(void **state)
{
    (void)state;
    jt_usage *usage = new_usage();
    int32_t even[] = {0, 1, 2, 3}, one[] = {5, 5}, two[] = {2, 6};
    float weight[] = {1, 1, 1, 1};
    jt_layer_usage layer;
    feed(usage, 0, 4, 1, even, weight);
    jt_usage_layer(usage, 0, &layer);
    assert_true(fabs(layer.entropy - 1) < 1e-12);
    feed(usage, 2, 2, 1, one, weight);
    jt_usage_layer(usage, 1, &layer);
    assert_true(layer.entropy == 0);
    jt_usage_free(usage);

    usage = new_usage();
    feed(usage, 2, 1, 2, two, weight);
    jt_usage_layer(usage, 1, &layer);
    assert_true(fabs(layer.entropy - 1.0 / 3) < 1e-12); /* log 2 / log 8 */
    jt_usage_free(usage);
}

/* A policy may name experts wrongly; a watcher must survive it. */
static void test_foreign_routes(void **state)
{
    (void)state;
    jt_usage *usage = new_usage();
    int32_t expert[] = {-1, 4, 99, 2};
    float weight[] = {1, 1, 1, 1};
    feed(usage, 0, 4, 1, expert, weight);
    feed(usage, 1, 4, 1, expert, weight); /* a dense layer */
    jt_watcher watcher = jt_usage_watcher(usage);
    jt_route route = {.n_tokens = 4, .n_experts = 4, .k = 1, expert, weight, NULL};
    watcher.on_route(watcher.self, &(jt_route_site){.layer = 7}, &route);
    jt_layer_usage layer;
    jt_usage_layer(usage, 0, &layer);
    assert_int_equal(layer.tokens, 4);
    assert_int_equal(layer.counts[2], 1);
    assert_int_equal(layer.counts[0] + layer.counts[1] + layer.counts[3], 0);
    jt_usage_free(usage);
}

/* Columns of a line, up to its end: bytes that do not continue a character. */
static int columns(const char *line)
{
    int count = 0;
    for (; *line && *line != '\n'; line++)
        count += (*line & 0xc0) != 0x80;
    return count;
}

static void test_picture(void **state)
{
    (void)state;
    jt_usage *usage = new_usage();
    int32_t expert[] = {0, 0, 0, 0, 0, 0, 1, 2};
    float weight[] = {1, 1, 1, 1, 1, 1, 1, 1};
    feed(usage, 0, 8, 1, expert, weight);
    char *text = NULL;
    assert_int_equal(jt_usage_draw(usage, 80, false, &text, NULL), JT_OK);
    assert_string_equal(
        text,
        " layer  experts                           busiest\n"
        "     0  ████░░░░░░░░····                     0   75%\n"
        "     2  ································     0    0%\n"
        "        · none  ░ under 0.75  ▒ around 1  ▓ over 1.25  █ over 2 times an "
        "even share\n");
    free(text);
    jt_usage_free(usage);
}

static void test_picture_in_color(void **state)
{
    (void)state;
    jt_usage *usage = new_usage();
    int32_t expert[] = {0, 0, 0, 1};
    float weight[] = {1, 1, 1, 1};
    feed(usage, 0, 4, 1, expert, weight);
    char *text = NULL;
    assert_int_equal(jt_usage_draw(usage, 80, true, &text, NULL), JT_OK);
    /* 3 and 1 times the even load; unused experts stay without colour. */
    assert_non_null(strstr(text, "\033[48;2;30;67;121m    \033[0m"
                                 "\033[48;2;115;141;177m    \033[0m········"));
    free(text);
    jt_usage_free(usage);
}

/* 256 experts share cells, and lines keep within the width. */
static void test_many_experts(void **state)
{
    (void)state;
    const int many[] = {256};
    jt_usage *usage = NULL;
    assert_int_equal(jt_usage_new_layers(&usage, many, 1, NULL), JT_OK);
    static const int widths[] = {0, 20, 40, 80, 200};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        char *text = NULL;
        assert_int_equal(jt_usage_draw(usage, widths[i], false, &text, NULL), JT_OK);
        const char *line = strchr(text, '\n') + 1;
        int limit = widths[i] > 30 ? widths[i] : 30; /* narrower makes no picture */
        assert_in_range(columns(line), 23, limit);
        free(text);
    }
    jt_usage_free(usage);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    jt_err err = {0};
    int failures = 0;
    jt_status status = JT_E_MEMORY;
    for (long n = 0; status != JT_OK; n++) {
        jt_usage *usage = NULL;
        char *text = NULL;
        jt_fault_after(n);
        status = jt_usage_new_layers(&usage, layers, 3, &err);
        if (status == JT_OK)
            status = jt_usage_draw(usage, 80, true, &text, &err);
        jt_fault_after(-1);
        free(text);
        jt_usage_free(usage);
        if (status != JT_OK) {
            assert_int_equal(status, JT_E_MEMORY);
            assert_null(text);
            failures++;
        }
    }
    assert_true(failures > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),           cmocka_unit_test(test_entropy),
        cmocka_unit_test(test_foreign_routes),   cmocka_unit_test(test_picture),
        cmocka_unit_test(test_picture_in_color), cmocka_unit_test(test_many_experts),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
