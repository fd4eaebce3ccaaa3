#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static void products(void **state)
{
    (void)state;
    size_t out = 0;
    assert_true(jt_mul(6, 7, &out));
    assert_int_equal(out, 42);
    assert_true(jt_mul(SIZE_MAX, 1, &out));
    assert_false(jt_mul(SIZE_MAX / 2 + 1, 2, &out));
}

static void allocations(void **state)
{
    (void)state;
    for (size_t n = 0; n < 200; n += 13) {
        unsigned char *p = jt_alloc(n, 3), *zero = jt_calloc(n, 3);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 1, 3 * n);
        for (size_t i = 0; i < 3 * n; i++)
            assert_int_equal(zero[i], 0);
        free(p);
        free(zero);
    }
    assert_null(jt_alloc(SIZE_MAX / 2, 3));
    assert_null(jt_alloc(PTRDIFF_MAX, 1));
    assert_null(jt_calloc(SIZE_MAX, SIZE_MAX));
}

static void copies(void **state)
{
    (void)state;
    char *text = jt_strndup("abcdef", 3);
    assert_string_equal(text, "abc");
    free(text);
    text = jt_strndup(NULL, 0);
    assert_string_equal(text, "");
    free(text);
    assert_null(jt_strndup("", SIZE_MAX));
}

static void growing(void **state)
{
    (void)state;
    int *items = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        assert_true(jt_grow((void **)&items, &capacity, (size_t)i + 1, sizeof *items));
        assert_true(capacity > (size_t)i);
        items[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(items[i], i);
    int *before = items;
    size_t capacity_before = capacity;
    assert_false(jt_grow((void **)&items, &capacity, SIZE_MAX, sizeof *items));
    assert_false(jt_grow((void **)&items, &capacity, SIZE_MAX / 4, sizeof *items));
    assert_ptr_equal(items, before);
    assert_int_equal(capacity, capacity_before);
    free(items);
}

static void faults(void **state)
{
    (void)state;
    jt_fault_after(2);
    void *a = jt_alloc(1, 1), *b = jt_alloc(1, 1), *c = jt_alloc(1, 1),
         *d = jt_alloc(1, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(c);
    assert_non_null(d);
    free(a);
    free(b);
    free(d);
    jt_fault_after(0);
    jt_fault_after(-1);
    a = jt_alloc(1, 1);
    assert_non_null(a);
    free(a);
    jt_err err = {0};
    assert_int_equal(jt_fail_memory(&err, "testing"), JT_E_MEMORY);
    assert_string_equal(err.msg, "out of memory while testing");
}

/* Allocations do not overlap and are aligned. */
static void arena_blocks(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    jt_arena arena = {0};
    unsigned char *p[COUNT];
    for (int i = 0; i < COUNT; i++) {
        p[i] = jt_arena_alloc(&arena, (size_t)i * 97, 1);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        memset(p[i], i & 255, (size_t)i * 97);
    }
    for (int i = 0; i < COUNT; i++) {
        for (int j = 0; j < i * 97; j += 31)
            assert_int_equal(p[i][j], i & 255);
    }
    jt_arena_free(&arena);
    assert_int_equal(arena.total, 0);
}

static void arena_overflow(void **state)
{
    (void)state;
    jt_arena arena = {0};
    assert_non_null(jt_arena_alloc(&arena, 1, 1));
    size_t used = arena.used, total = arena.total;
    assert_null(jt_arena_alloc(&arena, SIZE_MAX / 2, 4));
    assert_null(jt_arena_alloc(&arena, SIZE_MAX, 1));
    assert_null(jt_arena_alloc(&arena, PTRDIFF_MAX - 64, 1));
    jt_fault_after(0);
    assert_null(jt_arena_alloc(&arena, 4 << 20, 1));
    jt_fault_after(-1);
    assert_int_equal(arena.used, used);
    assert_int_equal(arena.total, total);
    jt_arena_free(&arena);
}

/* A step of mixed sizes: small ones, one larger than a block, small ones again. */
static void step(jt_arena *arena)
{
    for (size_t i = 0; i < 40; i++) {
        size_t bytes = i == 20 ? 3 << 20 : 50000;
        memset(jt_arena_alloc(arena, bytes, 1), 1, bytes);
    }
}

static void arena_rewind(void **state)
{
    (void)state;
    jt_arena arena = {0};
    jt_arena_mark empty = jt_arena_save(&arena);
    step(&arena);
    size_t total = arena.total;
    for (int i = 0; i < 5; i++) {
        jt_arena_rewind(&arena, empty);
        step(&arena);
        assert_int_equal(arena.total, total);
    }
    jt_arena_rewind(&arena, empty);
    int *kept = jt_arena_alloc(&arena, 1, sizeof *kept);
    *kept = 7;
    jt_arena_mark mark = jt_arena_save(&arena);
    step(&arena);
    total = arena.total;
    for (int i = 0; i < 5; i++) {
        jt_arena_rewind(&arena, mark);
        jt_fault_after(0); /* a step that fits makes no heap call */
        step(&arena);
        jt_fault_after(-1);
        assert_int_equal(arena.total, total);
    }
    assert_int_equal(*kept, 7);
    jt_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),       cmocka_unit_test(allocations),
        cmocka_unit_test(copies),         cmocka_unit_test(growing),
        cmocka_unit_test(faults),         cmocka_unit_test(arena_blocks),
        cmocka_unit_test(arena_overflow), cmocka_unit_test(arena_rewind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
