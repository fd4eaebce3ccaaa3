#include "slopes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/tape.h"

jt_tensor parameter(jt_rng *rng, size_t rows, size_t cols, float mean)
{
    jt_tensor t = {.dtype = JT_F32, .n_dims = 2, .shape = {rows, cols}};
    t.data = malloc(rows * cols * sizeof(float));
    t.grad = calloc(rows * cols, sizeof(float));
    jt_rng_normals(rng, t.data, rows * cols);
    for (size_t i = 0; i < rows * cols; i++)
        ((float *)t.data)[i] = ((float *)t.data)[i] * 0.5f + mean;
    return t;
}

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

/* The central difference for a step. */
static double difference(jt_context *ctx, setting *s, jt_tensor *t,
                         const float *direction, const float *origin, float step)
{
    move(t, direction, origin, step);
    double up = loss_of(ctx, s, false);
    move(t, direction, origin, -step);
    double down = loss_of(ctx, s, false);
    return (up - down) / (2.0 * (double)step);
}

/* From three steps, which take out what is cubic and what is of fifth order (Romberg).
 */
static double measure(jt_context *ctx, setting *s, jt_tensor *t, const float *direction,
                      const float *origin, float step)
{
    double by[3];
    for (int i = 0; i < 3; i++)
        by[i] = difference(ctx, s, t, direction, origin, step * (float)(1 << i));
    double near = (4.0 * by[0] - by[1]) / 3.0, far = (4.0 * by[1] - by[2]) / 3.0;
    return (16.0 * near - far) / 15.0;
}

/* Slope along a random direction against the gradient's, to 1e-3 of what a random
 * direction gives on average. The values are floats, which asks for long steps, and
 * some functions bend more than others, which asks for short ones: one must agree. */
static void check_input(jt_context *ctx, setting *s, int which, jt_rng *rng)
{
    static const float steps[] = {4e-3f, 6e-3f, 1.5e-3f};
    jt_tensor *t = &s->input[which];
    size_t n = jt_rows(t) * jt_cols(t), bytes = n * sizeof(float);
    float *origin = malloc(bytes), *direction = malloc(bytes);
    double slope = 0.0, size = 0.0, measured = 0.0;
    bool agree = false;
    memcpy(origin, t->data, bytes);
    jt_rng_normals(rng, direction, n);
    for (size_t i = 0; i < n; i++) {
        slope += (double)t->grad[i] * direction[i];
        size += pow((double)t->grad[i], 2.0);
    }
    for (int i = 0; i < 3 && !agree; i++) {
        measured = measure(ctx, s, t, direction, origin, steps[i]);
        agree = fabs(measured - slope) <= 1e-3 * sqrt(size);
    }
    memcpy(t->data, origin, bytes);
    if (!agree)
        fail_msg("input %d: gradient says %.6g, difference %.6g (norm %.3g)", which,
                 slope, measured, sqrt(size));
    assert_true(size > 0.0);
    free(origin);
    free(direction);
}

static size_t values_of(const jt_tensor *t)
{
    return jt_rows(t) * jt_cols(t);
}

static void find_gradients(setting *s, const char *cpu, int threads)
{
    jt_context ctx;
    assert_int_equal(jt_context_init(&ctx, threads, cpu, NULL), JT_OK);
    for (int i = 0; i < s->n_inputs; i++)
        memset(s->input[i].grad, 0, values_of(&s->input[i]) * sizeof(float));
    loss_of(&ctx, s, true);
    jt_context_free(&ctx);
}

/* Gradients of one thread, and that three find the same. */
static void check_threads(setting *s, const char *cpu)
{
    float *kept[MAX_INPUTS] = {NULL};
    const int n = s->n_inputs;
    find_gradients(s, cpu, 3);
    for (int i = 0; i < n; i++) {
        size_t bytes = values_of(&s->input[i]) * sizeof(float);
        kept[i] = malloc(bytes);
        memcpy(kept[i], s->input[i].grad, bytes);
    }
    find_gradients(s, cpu, 1);
    for (int i = 0; i < n; i++) {
        assert_memory_equal(kept[i], s->input[i].grad,
                            values_of(&s->input[i]) * sizeof(float));
        free(kept[i]);
    }
}

static void check_level(setting *s, const char *cpu)
{
    jt_rng rng = {.seed = 5};
    jt_context ctx;
    check_threads(s, cpu);
    assert_int_equal(jt_context_init(&ctx, 2, cpu, NULL), JT_OK);
    for (int i = 0; i < s->n_inputs; i++) {
        for (int trial = 0; trial < 3; trial++)
            check_input(&ctx, s, i, &rng);
    }
    jt_context_free(&ctx);
}

void check_setting(setting *s)
{
    for (int level = 0; level < JT_CPU_COUNT; level++) {
        const jt_kernels *kernels = jt_kernels_level((jt_cpu_level)level);
        if (kernels)
            check_level(s, kernels->name);
    }
    for (int i = 0; i < s->n_inputs; i++) {
        free(s->input[i].data);
        free(s->input[i].grad);
    }
}
