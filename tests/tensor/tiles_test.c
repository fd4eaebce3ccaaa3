/* Weights in tiles: made once, when first needed, and never seen in a result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/random.h"
#include "kernels/tile.h"
#include "tensor/ops.h"
#include "tensor/tiles.h"

enum { EXPERTS = 3, ROWS = 70, N = 256, TOKENS = 5 };

typedef struct fixture {
    jt_context ctx;
    jt_tensor stack; /* [EXPERTS, ROWS, N] of Q4_K */
    float x[TOKENS * N];
    size_t made; /* bytes that the owner was told of */
} fixture;

static void on_made(const void *self, const void *data, size_t bytes)
{
    (void)data;
    ((fixture *)(uintptr_t)self)->made += bytes;
}

static int set_up(void **state)
{
    static float values[EXPERTS * ROWS * N];
    fixture *f = calloc(1, sizeof *f);
    jt_rng rng = {.seed = 3};
    jt_rng_normals(&rng, values, sizeof values / sizeof *values);
    jt_rng_normals(&rng, f->x, sizeof f->x / sizeof *f->x);
    size_t row = jt_dtype_row_bytes(JT_Q4_K, N);
    char *data = malloc(EXPERTS * ROWS * row);
    for (size_t r = 0; r < EXPERTS * ROWS; r++)
        jt_quantize(JT_Q4_K, data + r * row, values + r * N, N);
    f->stack = (jt_tensor){.data = data,
                           .dtype = JT_Q4_K,
                           .n_dims = 3,
                           .shape = {EXPERTS, ROWS, N},
                           .weight = 1};
    assert_int_equal(jt_context_init(&f->ctx, 2, NULL, NULL), JT_OK);
    if (!f->ctx.kernels->matmul[JT_Q4_K].tiled) { /* nothing to test at this level */
        *state = f;
        return 0;
    }
    jt_tiles_owner owner = {f, on_made};
    assert_int_equal(jt_tiles_new(&f->ctx.tiles, owner, NULL), JT_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    jt_tiles_free(f->ctx.tiles);
    jt_context_free(&f->ctx);
    free(f->stack.data);
    free(f);
    return 0;
}

/* y [EXPERTS, TOKENS, ROWS] of the first `count` experts, with tiles or without. */
static void run(fixture *f, size_t count, bool tiled, float *y)
{
    jt_tiles *tiles = f->ctx.tiles;
    jt_arena_mark mark = jt_arena_save(&f->ctx.scratch);
    jt_input x = jt_input_of(
        (jt_tensor){.data = f->x, .dtype = JT_F32, .n_dims = 2, .shape = {TOKENS, N}});
    jt_product list[EXPERTS];
    for (size_t e = 0; e < count; e++) {
        jt_tensor w = jt_slice(&f->stack, e);
        list[e] = (jt_product){
            .y = y + e * TOKENS * ROWS, .ldy = ROWS, .w = w, .x = &x, .tokens = TOKENS};
    }
    f->ctx.tiles = tiled ? tiles : NULL;
    jt_products(&f->ctx, list, count);
    f->ctx.tiles = tiles;
    assert_int_equal(f->ctx.err.code, JT_OK);
    jt_arena_rewind(&f->ctx.scratch, mark);
}

static void check(fixture *f, size_t count)
{
    static float with[EXPERTS * TOKENS * ROWS], without[EXPERTS * TOKENS * ROWS];
    run(f, count, true, with);
    run(f, count, false, without);
    assert_memory_equal(with, without, count * TOKENS * ROWS * sizeof *with);
}

static void test_made_when_needed(void **state)
{
    fixture *f = *state;
    if (!f->ctx.tiles)
        skip();
    size_t row = jt_dtype_row_bytes(JT_Q4_K, N);
    check(f, 1);
    assert_int_equal(f->made, ROWS * row);
    assert_int_equal(jt_tiles_bytes(f->ctx.tiles), jt_tile_bytes(ROWS, row));
    check(f, EXPERTS);
    check(f, EXPERTS);
    assert_int_equal(f->made, EXPERTS * ROWS * row);
    assert_int_equal(jt_tiles_bytes(f->ctx.tiles), EXPERTS * jt_tile_bytes(ROWS, row));
}

/* Weights that are nobody's may change. */
static void test_only_of_models(void **state)
{
    fixture *f = *state;
    if (!f->ctx.tiles)
        skip();
    f->stack.weight = 0;
    check(f, EXPERTS);
    assert_int_equal(jt_tiles_bytes(f->ctx.tiles), 0);
}

/* Part of a matrix that is already there whole is read as it lies. */
static void test_a_part_of_another(void **state)
{
    fixture *f = *state;
    if (!f->ctx.tiles)
        skip();
    check(f, EXPERTS);
    size_t bytes = jt_tiles_bytes(f->ctx.tiles);
    f->stack.shape[1] = ROWS / 2;
    check(f, 1);
    assert_int_equal(jt_tiles_bytes(f->ctx.tiles), bytes);
}

/* Floats that bfloat16 says exactly take half of the memory in tiles. */
static void test_floats_in_halves(void **state)
{
    fixture *f = *state;
    if (!f->ctx.tiles)
        skip();
    static float w[EXPERTS * ROWS * N];
    for (size_t i = 0; i < EXPERTS * ROWS * N; i++)
        w[i] = jt_bf16_to_float((uint16_t)(0x3f80 + i % 256));
    w[ROWS * N] += 0x1p-20f; /* the second expert's are not */
    void *blocks = f->stack.data;
    f->stack.data = w;
    f->stack.dtype = JT_F32;
    check(f, EXPERTS);
    f->stack.data = blocks;
    size_t whole = jt_tile_bytes(ROWS, N * sizeof(float));
    assert_int_equal(jt_tiles_bytes(f->ctx.tiles), whole + (EXPERTS - 1) * (whole / 2));
    assert_int_equal(f->made, sizeof w);
}

static void test_without_memory(void **state)
{
    fixture *f = *state;
    if (!f->ctx.tiles)
        skip();
    static float warm[EXPERTS * TOKENS * ROWS];
    run(f, EXPERTS, false, warm); /* the scratch has all that it needs */
    for (long n = 0; n < 3; n++) {
        jt_fault_after(n);
        check(f, EXPERTS);
        jt_fault_after(-1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_floats_in_halves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_made_when_needed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_only_of_models, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_part_of_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
