/* Fifty steps of training a tiny mixtral, against the same steps in PyTorch
 * (make_training.py): loss and size of the gradient, step by step. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "junto/junto.h"
#include "learn/balance.h"
#include "tensor/loss.h"
#include "learn/schedule.h"
#include "learn/variables.h"
#include "model/transformer.h"
#include "store/mapped.h"
#include "tensor/tape.h"

typedef struct training {
    jt_gguf *curves;
    jt_model *model;
    jt_context ctx;
    jt_cache cache;
    jt_variables variables;
    jt_optim *optim;
    jt_balance *balance;
    jt_hooks hooks;
    jt_schedule schedule;
    uint32_t micro_batches, sequences;
    size_t length, count;  /* tokens of a sequence, of a micro-batch */
    const int32_t *tokens; /* of the next micro-batch */
    int32_t *targets, *positions, *first;
} training;

static jt_err err;

static void must(jt_status status)
{
    if (status != JT_OK)
        fail_msg("%s", err.msg);
}

static char *data_path(char *path, size_t room, const char *name)
{
    const char *data = getenv("JUNTO_TEST_DATA");
    snprintf(path, room, "%s/learn/data/%s", data ? data : "tests", name);
    return path;
}

static uint32_t whole(const training *tr, const char *key)
{
    uint32_t value = 0;
    assert_true(jt_gguf_get_u32(tr->curves, key, &value));
    return value;
}

static float number(const training *tr, const char *key)
{
    float value = 0.0f;
    assert_true(jt_gguf_get_f32(tr->curves, key, &value));
    return value;
}

static const float *curve(const training *tr, const char *run, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", run, what);
    const jt_gguf_tensor *t = jt_gguf_find(tr->curves, name);
    assert_non_null(t);
    return t->data;
}

/* ---- setting up ---- */

static void make_optimiser(training *tr)
{
    jt_optim_group group[] = {
        {.pattern = "*norm.weight"},
        {.pattern = "*", .weight_decay = number(tr, "weight_decay")},
    };
    for (int i = 0; i < 2; i++) {
        group[i].beta1 = number(tr, "beta1");
        group[i].beta2 = number(tr, "beta2");
        group[i].eps = number(tr, "eps");
    }
    must(jt_optim_new(&tr->optim, tr->ctx.kernels, tr->variables.list,
                      tr->variables.count, group, 2, &err));
    tr->schedule = (jt_schedule){.kind = JT_SCHEDULE_COSINE,
                                 .lr = number(tr, "lr"),
                                 .final_lr = number(tr, "final_lr"),
                                 .warmup_steps = whole(tr, "warmup"),
                                 .steps = whole(tr, "steps")};
}

/* `alpha`: of the balance loss. */
static void make_balance(training *tr, float alpha)
{
    jt_balance_options options = {.loss = alpha, .scope = JT_SCOPE_MICRO};
    must(jt_balance_new(&tr->balance, tr->model, &options, &err));
    must(jt_balance_attach(tr->balance, &tr->hooks, &err));
}

static void begin(training *tr)
{
    char path[512];
    *tr = (training){0};
    must(jt_gguf_open(&tr->curves, data_path(path, sizeof path, "curves.gguf"), &err));
    must(jt_model_load(&tr->model, data_path(path, sizeof path, "mixtral.gguf"), &err));
    must(jt_context_init(&tr->ctx, 2, NULL, &err));
    must(jt_variables_take(&tr->variables, tr->model, &err));
    make_optimiser(tr);
    const jt_gguf_tensor *tokens = jt_gguf_find(tr->curves, "tokens");
    assert_non_null(tokens);
    tr->micro_batches = whole(tr, "micro_batches");
    tr->sequences = whole(tr, "sequences");
    tr->tokens = tokens->data;
    tr->length = tokens->shape[1];
    tr->count = tr->sequences * tr->length;
    must(jt_cache_init_train(&tr->cache, tr->model, 1, tr->count, false, &err));
    tr->targets = malloc(tr->count * sizeof(int32_t));
    tr->positions = malloc(tr->count * sizeof(int32_t));
    tr->first = malloc(tr->count * sizeof(int32_t));
}

static void end(training *tr)
{
    free(tr->targets);
    free(tr->positions);
    free(tr->first);
    jt_balance_free(tr->balance);
    jt_optim_free(tr->optim);
    jt_cache_free(&tr->cache);
    jt_context_free(&tr->ctx);
    jt_model_free(tr->model);
    jt_variables_free(&tr->variables);
    jt_gguf_close(tr->curves);
}

/* ---- a step ---- */

/* The sequences of a micro-batch lie one after the other; the last token of each has no
 * target. */
static void pack(training *tr)
{
    for (size_t t = 0; t < tr->count; t++) {
        size_t at = t % tr->length;
        tr->positions[t] = (int32_t)at;
        tr->first[t] = (int32_t)(t - at);
        tr->targets[t] = at + 1 < tr->length ? tr->tokens[t + 1] : -1;
    }
}

/* Forward and backward of the next micro-batch; its loss. */
static double micro_batch(training *tr)
{
    jt_context *ctx = &tr->ctx;
    float share = 1.0f / (float)tr->micro_batches;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_tape tape = {0};
    ctx->tape = &tape;
    pack(tr);
    jt_balance_micro(tr->balance, share);
    jt_span span = {&tr->cache, 0, tr->count};
    jt_chunk chunk = {.spans = &span,
                      .n_spans = 1,
                      .count = tr->count,
                      .ids = tr->tokens,
                      .positions = tr->positions,
                      .first = tr->first,
                      .all_logits = true};
    jt_tensor logits =
        jt_transformer_forward(ctx, tr->model, &chunk, &jt_store_mapped, &tr->hooks);
    double loss = jt_cross_entropy(ctx, &logits, tr->targets, share, NULL);
    jt_tape_backward(ctx);
    if (jt_failed(ctx))
        fail_msg("%s", ctx->err.msg);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    tr->tokens += tr->count;
    return loss;
}

/* The size of the gradient before clipping goes to `norm`. */
static double train_step(training *tr, double *norm)
{
    double loss = 0.0, clip = number(tr, "clip");
    jt_variables_zero_grad(&tr->variables, tr->ctx.pool);
    jt_balance_begin(tr->balance);
    for (uint32_t i = 0; i < tr->micro_batches; i++)
        loss += micro_batch(tr) / tr->micro_batches;
    *norm = jt_optim_grad_norm(tr->optim, tr->ctx.pool, NULL);
    jt_optim_step(tr->optim, tr->ctx.pool,
                  jt_schedule_lr(&tr->schedule, jt_optim_steps(tr->optim)),
                  *norm > clip ? (float)(clip / *norm) : 1.0f);
    jt_balance_end(tr->balance);
    return loss;
}

/* ---- the runs ---- */

static void compare(training *tr, const char *run)
{
    const float *losses = curve(tr, run, "loss"), *norms = curve(tr, run, "grad_norm");
    double worst_loss = 0.0, worst_norm = 0.0;
    for (int64_t step = 0; step < tr->schedule.steps; step++) {
        double norm, loss = train_step(tr, &norm);
        worst_loss = fmax(worst_loss, fabs(loss / losses[step] - 1.0));
        worst_norm = fmax(worst_norm, fabs(norm / norms[step] - 1.0));
        if (!(worst_loss < 1e-4 && worst_norm < 1e-3))
            fail_msg(
                "step %d: loss %.7f instead of %.7f, gradient %.7f instead of %.7f",
                (int)step, loss, losses[step], norm, norms[step]);
    }
    print_message("%s: loss within %.1e, gradient within %.1e of PyTorch's\n", run,
                  worst_loss, worst_norm);
}

static void test_plain(void **state)
{
    training tr;
    (void)state;
    begin(&tr);
    make_balance(&tr, 0.0f);
    compare(&tr, "plain");
    end(&tr);
}

static void test_balanced(void **state)
{
    training tr;
    (void)state;
    begin(&tr);
    make_balance(&tr, number(&tr, "balance"));
    compare(&tr, "balanced");
    end(&tr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_balanced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
