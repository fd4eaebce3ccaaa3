/* Gradients of the operations against central differences. The loss is a fixed random
 * sum of the output's values; each input is moved along random directions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "nn/norm.h"
#include "tensor/ops.h"
#include "tensor/tape.h"

enum { TOKENS = 70, D = 33, WIDTH = 50, VOCAB = 9, MAX_INPUTS = 8 };

/* A parameter with a gradient, outside the scratch. */
static jt_tensor parameter(jt_rng *rng, size_t rows, size_t cols, float mean)
{
    jt_tensor t = {.dtype = JT_F32, .n_dims = 2, .shape = {rows, cols}};
    t.data = malloc(rows * cols * sizeof(float));
    t.grad = calloc(rows * cols, sizeof(float));
    jt_rng_normals(rng, t.data, rows * cols);
    for (size_t i = 0; i < rows * cols; i++)
        ((float *)t.data)[i] = ((float *)t.data)[i] * 0.5f + mean;
    return t;
}

typedef struct setting {
    jt_tensor input[MAX_INPUTS];
    int n_inputs;
    int32_t ids[TOKENS];
    jt_tensor (*forward)(jt_context *ctx, struct setting *s);
} setting;

/* The fixed sum, in double. */
static double loss_of(jt_context *ctx, setting *s, bool want_gradients)
{
    jt_tape tape = {0};
    ctx->tape = want_gradients ? &tape : NULL;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_tensor y = s->forward(ctx, s);
    if (jt_failed(ctx))
        fail_msg("%s", ctx->err.msg);
    jt_rng rng = {.seed = 77};
    double sum = 0.0;
    size_t n = jt_rows(&y) * jt_cols(&y);
    for (size_t i = 0; i < n; i++) {
        float c = jt_rng_normal(&rng);
        sum += (double)c * ((float *)y.data)[i];
        if (want_gradients)
            y.grad[i] = c;
    }
    if (want_gradients)
        jt_tape_backward(ctx);
    assert_int_equal(ctx->err.code, JT_OK);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    return sum;
}

static void move(jt_tensor *t, const float *direction, const float *origin, float step)
{
    for (size_t i = 0; i < jt_rows(t) * jt_cols(t); i++)
        ((float *)t->data)[i] = origin[i] + step * direction[i];
}

/* Slope along a random direction against the gradient's. */
static void check_input(jt_context *ctx, setting *s, int which, jt_rng *rng)
{
    const float step = 2e-3f;
    jt_tensor *t = &s->input[which];
    size_t n = jt_rows(t) * jt_cols(t);
    float *origin = malloc(n * sizeof *origin), *direction = malloc(n * sizeof *origin);
    double slope = 0.0, size = 0.0;
    memcpy(origin, t->data, n * sizeof *origin);
    jt_rng_normals(rng, direction, n);
    for (size_t i = 0; i < n; i++) {
        slope += (double)t->grad[i] * direction[i];
        size += pow((double)t->grad[i], 2.0);
    }
    move(t, direction, origin, step);
    double up = loss_of(ctx, s, false);
    move(t, direction, origin, -step);
    double down = loss_of(ctx, s, false);
    memcpy(t->data, origin, n * sizeof *origin);
    double measured = (up - down) / (2.0 * (double)step);
    /* relative to what a random direction gives on average */
    if (fabs(measured - slope) > 1e-3 * sqrt(size))
        fail_msg("input %d: gradient says %.6g, difference %.6g", which, slope,
                 measured);
    assert_true(size > 0.0);
    free(origin);
    free(direction);
}

static void check_setting(setting *s)
{
    jt_rng rng = {.seed = 5};
    for (int level = 0; level < JT_CPU_COUNT; level++) {
        const jt_kernels *kernels = jt_kernels_level((jt_cpu_level)level);
        jt_context ctx;
        if (!kernels)
            continue;
        assert_int_equal(jt_context_init(&ctx, 2, kernels->name, NULL), JT_OK);
        for (int i = 0; i < s->n_inputs; i++)
            memset(s->input[i].grad, 0,
                   jt_rows(&s->input[i]) * jt_cols(&s->input[i]) * sizeof(float));
        loss_of(&ctx, s, true);
        for (int i = 0; i < s->n_inputs; i++) {
            for (int trial = 0; trial < 3; trial++)
                check_input(&ctx, s, i, &rng);
        }
        jt_context_free(&ctx);
    }
    for (int i = 0; i < s->n_inputs; i++) {
        free(s->input[i].data);
        free(s->input[i].grad);
    }
}

static void pick_ids(setting *s, jt_rng *rng)
{
    for (int t = 0; t < TOKENS; t++)
        s->ids[t] = (int32_t)jt_rng_below(rng, VOCAB);
}

static jt_tensor linear_forward(jt_context *ctx, setting *s)
{
    jt_input x = jt_input_of(s->input[0]);
    return jt_linear(ctx, &x, &s->input[1], &s->input[2]);
}

static void linear(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 1};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0), parameter(&rng, WIDTH, D, 0),
                           parameter(&rng, 1, WIDTH, 0)},
                 .n_inputs = 3,
                 .forward = linear_forward};
    check_setting(&s);
}

static jt_tensor norm_forward(jt_context *ctx, setting *s)
{
    return jt_rms_norm(ctx, &s->input[0], &s->input[1], 1e-5f);
}

static void norm(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 2};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0), parameter(&rng, 1, D, 1)},
                 .n_inputs = 2,
                 .forward = norm_forward};
    check_setting(&s);
    /* several heads in a row, each by itself */
    setting heads = {
        .input = {parameter(&rng, TOKENS, 3 * D, 0), parameter(&rng, 1, D, 1)},
        .n_inputs = 2,
        .forward = norm_forward};
    check_setting(&heads);
}

/* Constant factors, and a norm whose weight is constant. */
static jt_tensor times_forward(jt_context *ctx, setting *s)
{
    float *factor = jt_scratch(ctx, TOKENS * D, sizeof *factor);
    jt_tensor ones = {.data = jt_scratch(ctx, D, sizeof(float)),
                      .dtype = JT_F32,
                      .n_dims = 1,
                      .shape = {D}};
    if (jt_failed(ctx))
        return ones;
    for (int i = 0; i < TOKENS * D; i++)
        factor[i] = (float)(i % 5) - 1.5f;
    for (size_t i = 0; i < D; i++)
        jt_row(&ones, 0)[i] = 1.0f;
    jt_tensor y = jt_times(ctx, &s->input[0], factor);
    return jt_rms_norm(ctx, &y, &ones, 1e-5f);
}

static void times(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 6};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0)},
                 .n_inputs = 1,
                 .forward = times_forward};
    check_setting(&s);
}

/* Embedding, a residual block with two products of one input, and the output: what is
 * changed in place and what is read twice. */
static jt_tensor block_forward(jt_context *ctx, setting *s)
{
    jt_tensor h = jt_embed(ctx, &s->input[0], s->ids, TOKENS);
    jt_input x = jt_input_of(jt_rms_norm(ctx, &h, &s->input[1], 1e-5f));
    jt_tensor gate = jt_new(ctx, TOKENS, WIDTH), up = jt_new(ctx, TOKENS, WIDTH);
    if (jt_failed(ctx))
        return gate;
    jt_product products[] = {jt_product_rows(&gate, &s->input[2], &x, 0, TOKENS),
                             jt_product_rows(&up, &s->input[3], &x, 0, 20),
                             jt_product_rows(&up, &s->input[4], &x, 20, TOKENS - 20)};
    jt_products(ctx, products, 3);
    jt_input hidden = jt_input_of(jt_glu(ctx, JT_SILU, &gate, &up));
    jt_tensor y = jt_linear(ctx, &hidden, &s->input[5], NULL);
    jt_add_to(ctx, &h, &y);
    x = jt_input_of(jt_rms_norm(ctx, &h, &s->input[6], 1e-5f));
    return jt_linear(ctx, &x, &s->input[7], NULL);
}

static void block(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 3};
    setting s = {.input = {parameter(&rng, VOCAB, D, 0), parameter(&rng, 1, D, 1),
                           parameter(&rng, WIDTH, D, 0), parameter(&rng, WIDTH, D, 0),
                           parameter(&rng, WIDTH, D, 0), parameter(&rng, D, WIDTH, 0),
                           parameter(&rng, 1, D, 1), parameter(&rng, VOCAB, D, 0)},
                 .n_inputs = 8,
                 .forward = block_forward};
    pick_ids(&s, &rng);
    check_setting(&s);
}

/* Rows by number, some of them never and most several times: two weights for the first
 * rows that are read, two for the others; and a result that is read once. */
static jt_tensor gather_forward(jt_context *ctx, setting *s)
{
    static int32_t row[VOCAB * TOKENS];
    static jt_gathering via = {.row = row, .rows = TOKENS, .k = TOKENS};
    enum { PART = 20 };
    via.token = s->ids;
    for (int i = 0; i < VOCAB * TOKENS; i++)
        row[i] = s->ids[i % TOKENS] == i / TOKENS ? i % TOKENS : -1;
    jt_input x = jt_input_of(s->input[0]);
    jt_tensor gate = jt_new_fresh(ctx, TOKENS, WIDTH);
    jt_tensor up = jt_new_fresh(ctx, TOKENS, WIDTH);
    if (jt_failed(ctx))
        return gate;
    jt_product products[] = {
        jt_product_rows(&gate, &s->input[1], &x, 0, PART),
        jt_product_rows(&gate, &s->input[2], &x, PART, TOKENS - PART),
        jt_product_rows(&up, &s->input[3], &x, 0, PART),
        jt_product_rows(&up, &s->input[4], &x, PART, TOKENS - PART),
    };
    for (int i = 0; i < 4; i++)
        products[i].via = &via;
    jt_products(ctx, products, 4);
    jt_input hidden = jt_input_of(jt_glu(ctx, JT_SILU, &gate, &up));
    return jt_linear(ctx, &hidden, &s->input[5], NULL);
}

static void gather(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 4};
    setting s = {.input = {parameter(&rng, VOCAB, D, 0), parameter(&rng, WIDTH, D, 0),
                           parameter(&rng, WIDTH, D, 0), parameter(&rng, WIDTH, D, 0),
                           parameter(&rng, WIDTH, D, 0), parameter(&rng, D, WIDTH, 0)},
                 .n_inputs = 6,
                 .forward = gather_forward};
    pick_ids(&s, &rng);
    check_setting(&s);
}

/* A layer norm without weights, one with weight and bias, and multipliers. */
static jt_tensor layer_norm_forward(jt_context *ctx, setting *s)
{
    const jt_norm plain = {.kind = JT_NORM_LAYER, .eps = 1e-5f};
    const jt_norm full = {JT_NORM_LAYER, 1e-5f, s->input[1], s->input[2]};
    jt_tensor x = jt_norm_forward(ctx, &plain, &s->input[0]);
    jt_tensor y = jt_norm_forward(ctx, &full, &x);
    jt_scale(ctx, &y, 3.0f);
    jt_softcap(ctx, &y, 2.0f);
    jt_scale(ctx, &y, 0.5f);
    return y;
}

static void layer_norm(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 7};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0), parameter(&rng, 1, D, 1),
                           parameter(&rng, 1, D, 0)},
                 .n_inputs = 3,
                 .forward = layer_norm_forward};
    check_setting(&s);
}

/* Gate and up side by side, and no up at all. */
static jt_tensor glu_forward(jt_context *ctx, setting *s)
{
    const jt_tensor none = {0};
    jt_input x = jt_input_of(s->input[0]);
    jt_tensor both = jt_linear(ctx, &x, &s->input[1], NULL);
    jt_tensor y = jt_glu_halves(ctx, JT_GELU, &both);
    return jt_glu(ctx, JT_RELU2, &y, &none);
}

static void glu(void **state)
{
    (void)state;
    jt_rng rng = {.seed = 8};
    setting s = {.input = {parameter(&rng, TOKENS, D, 0), parameter(&rng, WIDTH, D, 0)},
                 .n_inputs = 2,
                 .forward = glu_forward};
    check_setting(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear), cmocka_unit_test(norm),
        cmocka_unit_test(times),  cmocka_unit_test(block),
        cmocka_unit_test(gather), cmocka_unit_test(layer_norm),
        cmocka_unit_test(glu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
