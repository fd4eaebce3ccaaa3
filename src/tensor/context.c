#include "tensor/context.h"

#include <string.h>

#include "base/clock.h"
#include "tensor/tape.h"

const char *jt_stage_name(jt_stage stage)
{
    static const char *const names[] = {
#define X(name, text) text,
        JT_STAGE_LIST(X)
#undef X
    };
    return stage >= 0 && stage < JT_STAGE_COUNT ? names[stage] : "?";
}

jt_status jt_context_init(jt_context *ctx, int threads, const char *cpu, jt_err *err)
{
    *ctx = (jt_context){0};
    JT_TRY(jt_kernels_choose(&ctx->kernels, cpu, err));
    return jt_pool_new(&ctx->pool, threads, err);
}

void jt_context_free(jt_context *ctx)
{
    jt_pool_free(ctx->pool);
    jt_arena_free(&ctx->scratch);
    *ctx = (jt_context){0};
}

void *jt_scratch(jt_context *ctx, size_t count, size_t size)
{
    if (jt_failed(ctx))
        return NULL;
    void *p = jt_arena_alloc(&ctx->scratch, count, size);
    if (!p)
        jt_fail_memory(&ctx->err, "computing a layer");
    return p;
}

enum { ZERO_RUN = 1 << 15 };

typedef struct zeroing {
    float *x;
    size_t n;
} zeroing;

static void zero_run(void *arg, size_t i)
{
    const zeroing *z = arg;
    size_t first = i * ZERO_RUN, left = z->n - first;
    memset(z->x + first, 0, (left < ZERO_RUN ? left : ZERO_RUN) * sizeof *z->x);
}

void jt_zero(jt_context *ctx, float *x, size_t n)
{
    zeroing z = {x, n};
    if (x && n <= ZERO_RUN)
        memset(x, 0, n * sizeof *x);
    else if (x)
        jt_pool_run(ctx->pool, zero_run, &z, (n + ZERO_RUN - 1) / ZERO_RUN);
}

/* Without a gradient. */
static jt_tensor new_values(jt_context *ctx, size_t rows, size_t cols)
{
    size_t values = 0;
    void *data = NULL;
    if (jt_mul(rows, cols, &values))
        data = jt_scratch(ctx, values, sizeof(float));
    jt_tensor t = {.data = data, .dtype = JT_F32, .n_dims = 2, .shape = {rows, cols}};
    return t;
}

jt_tensor jt_new(jt_context *ctx, size_t rows, size_t cols)
{
    jt_tensor t = new_values(ctx, rows, cols);
    if (jt_tape_keeps(ctx)) {
        t.grad = jt_scratch(ctx, rows * cols, sizeof(float));
        jt_zero(ctx, t.grad, rows * cols);
    }
    return t;
}

size_t jt_fresh_values(size_t rows, size_t cols)
{
    enum { LINE = 16 };
    return (rows * cols + LINE - 1) / LINE * LINE;
}

void jt_fresh_begin(jt_context *ctx, size_t values)
{
    jt_tape *tape = ctx->tape;
    if (!jt_tape_keeps(ctx))
        return;
    tape->room_used = 0;
    if (values <= tape->room_values)
        return;
    tape->room = jt_scratch(ctx, values, sizeof(float));
    tape->room_values = tape->room ? values : 0;
}

jt_tensor jt_new_fresh(jt_context *ctx, size_t rows, size_t cols)
{
    jt_tensor t = new_values(ctx, rows, cols);
    jt_tape *tape = ctx->tape;
    size_t values = jt_fresh_values(rows, cols);
    if (!jt_tape_keeps(ctx) || jt_failed(ctx))
        return t;
    if (values <= tape->room_values - tape->room_used) {
        t.grad = tape->room + tape->room_used;
        tape->room_used += values;
    } else {
        t.grad = jt_scratch(ctx, values, sizeof(float));
    }
    t.grad_fresh = true;
    return t;
}

void jt_fresh_zero(jt_context *ctx, const jt_tensor *t)
{
    if (t->grad_fresh)
        jt_zero(ctx, t->grad, jt_rows(t) * jt_cols(t));
}

jt_context_aside jt_context_put_aside(jt_context *ctx)
{
    jt_context_aside aside = {ctx->err, ctx->change};
    ctx->err = (jt_err){0};
    ctx->change = (jt_product_change){0};
    return aside;
}

void jt_context_resume(jt_context *ctx, const jt_context_aside *aside)
{
    ctx->err = aside->err;
    ctx->change = aside->change;
    jt_lap_start(ctx);
}

void jt_lap_start(jt_context *ctx)
{
    ctx->lap = jt_seconds();
}

void jt_lap(jt_context *ctx, jt_stage stage)
{
    double t = jt_seconds();
    ctx->times[stage] += t - ctx->lap;
    ctx->lap = t;
}

typedef struct row_runs {
    jt_pool_fn *fn;
    void *arg;
    size_t count, run;
} row_runs;

static void one_run(void *arg, size_t i)
{
    const row_runs *runs = arg;
    size_t end = (i + 1) * runs->run;
    for (size_t row = i * runs->run; row < end && row < runs->count; row++)
        runs->fn(runs->arg, row);
}

void jt_for_rows(jt_context *ctx, size_t count, size_t work, jt_pool_fn *fn, void *arg)
{
    enum { SMALL = 16384, RUNS_PER_THREAD = 4 };
    size_t pieces = (size_t)jt_pool_threads(ctx->pool) * RUNS_PER_THREAD;
    row_runs runs = {fn, arg, count, 1};
    if (work < SMALL) {
        runs.run = count;
        if (count)
            one_run(&runs, 0);
        return;
    }
    runs.run = (count + pieces - 1) / pieces;
    if (count)
        jt_pool_run(ctx->pool, one_run, &runs, (count + runs.run - 1) / runs.run);
}
