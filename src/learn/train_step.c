/* One step of training. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "learn/output_loss.h"
#include "learn/train.h"
#include "tensor/loss.h"
#include "tensor/tape.h"

jt_tensor jt_trainer_forward(jt_trainer *t, const jt_chunk *chunk,
                             const jt_hooks *hooks)
{
    if (t->tuning)
        return jt_attached_forward(&t->tuning->attached, &t->ctx, t->model, chunk,
                                   t->store, hooks);
    return jt_transformer_forward(&t->ctx, t->model, chunk, t->store, hooks);
}

jt_span jt_trainer_span(jt_trainer *t)
{
    return (jt_span){&t->cache, 0, t->batch.n_seqs * t->batch.seq_len};
}

jt_chunk jt_trainer_chunk(const jt_trainer *t, const jt_span *span, int64_t index)
{
    return (jt_chunk){
        .spans = span,
        .n_spans = 1,
        .count = span->count,
        .ids = t->batch.tokens,
        .positions = t->batch.positions,
        .first = t->batch.first,
        .front = t->batch.front,
        .all_logits = true,
        .checkpoint = t->config->train.checkpoint_activations,
        .draw = index < 0
                    ? 0
                    : ((uint64_t)t->config->train.seed << 32 ^ (uint64_t)index) + 1,
    };
}

/* ---- what was not finite ---- */

/* Notes the first layer whose output is not finite. */
static void look(void *user, int layer, const jt_tensor *h)
{
    int *first = user;
    size_t n = jt_rows(h) * jt_cols(h);
    for (size_t i = 0; i < n && *first < 0; i++) {
        if (!isfinite(jt_row(h, 0)[i]))
            *first = layer;
    }
}

/* Run the micro-batch again and see after which layer it goes wrong. */
static jt_status fail_loss(jt_trainer *t, int64_t index, jt_err *err)
{
    static const jt_hooks none;
    int accumulate = t->config->train.accumulate;
    int layer = -1;
    jt_span span = jt_trainer_span(t);
    jt_chunk chunk = jt_trainer_chunk(t, &span, -1);
    chunk.on_layer = look;
    chunk.user = &layer;
    jt_arena_mark mark = jt_arena_save(&t->ctx.scratch);
    jt_trainer_forward(t, &chunk, &none);
    jt_arena_rewind(&t->ctx.scratch, mark);
    char where[64] = "in the output";
    if (layer >= 0)
        snprintf(where, sizeof where, "first in layer %d", layer);
    return jt_fail(err, JT_E_FORMAT,
                   "the loss is not finite at step %lld, micro-batch %lld, %s; the "
                   "last checkpoint is as it was (a lower optim.lr may help)",
                   (long long)t->made.step + 1, (long long)(index % accumulate) + 1,
                   where);
}

static jt_status fail_gradient(const jt_trainer *t, const char *name, jt_err *err)
{
    return jt_fail(err, JT_E_FORMAT,
                   "the gradient of '%s' is not finite at step %lld; the last "
                   "checkpoint is as it was (a lower optim.lr may help)",
                   name ? name : "all tensors together", (long long)t->made.step + 1);
}

/* ---- the step ---- */

/* Parts of an adapter that are drawn are those of number `draw` of the micro-batch. */
static void make_parts(jt_trainer *t, int64_t index, int draw)
{
    bool draws = t->config->adapter.sampled || (t->tuning && t->tuning->mosa);
    jt_tuning_begin(t->tuning, (size_t)t->batch.domains[0],
                    draws ? 2 * (uint64_t)index + (uint64_t)draw + 1 : 0);
}

/* The loss, and that of agreeing, on the logits of all tokens. */
static double agreeing_loss(jt_trainer *t, const jt_tensor *hidden, float share,
                            float agree, const float *q, float *p)
{
    jt_context *ctx = &t->ctx;
    jt_tensor logits = jt_transformer_head(ctx, t->model, hidden);
    double loss = jt_cross_entropy(ctx, &logits, t->batch.targets, share, NULL);
    if (q && !jt_failed(ctx))
        jt_mosa_agree(ctx, &logits, q, t->batch.targets, agree);
    if (p && !jt_failed(ctx))
        jt_mosa_probabilities(ctx, &logits, p);
    return loss;
}

/* Forward and backward of a micro-batch; gradients add up in the variables. `share` is
 * that of its loss, `agree` that of agreeing with the probabilities q; its own are left
 * in p, unless that is NULL. */
static double pass(jt_trainer *t, int64_t index, int draw, float share, float agree,
                   const float *q, float *p)
{
    jt_context *ctx = &t->ctx;
    jt_span span = jt_trainer_span(t);
    jt_chunk chunk = jt_trainer_chunk(t, &span, index);
    jt_tape tape = {0};
    make_parts(t, index, draw);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    ctx->tape = &tape;
    chunk.hidden = true;
    jt_tensor hidden = jt_trainer_forward(t, &chunk, &t->hooks);
    double loss = p || q
                      ? agreeing_loss(t, &hidden, share, agree, q, p)
                      : jt_output_loss(ctx, t->model, &hidden, t->batch.targets, share,
                                       jt_tuning_output_values(t->tuning), NULL);
    if (isfinite(loss))
        jt_tape_backward(ctx);
    jt_tuning_end(t->tuning);
    ctx->tape = NULL;
    jt_arena_rewind(&ctx->scratch, mark);
    return loss;
}

/* The probabilities that draw 0 gives. */
static void look_ahead(jt_trainer *t, int64_t index, float *p)
{
    static const jt_hooks none;
    jt_context *ctx = &t->ctx;
    jt_span span = jt_trainer_span(t);
    jt_chunk chunk = jt_trainer_chunk(t, &span, index);
    make_parts(t, index, 0);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_tensor logits = jt_trainer_forward(t, &chunk, &none);
    if (!jt_failed(ctx))
        jt_mosa_probabilities(ctx, &logits, p);
    jt_tuning_end(t->tuning);
    jt_arena_rewind(&ctx->scratch, mark);
}

/* Two draws that shall agree (MoSA). The parts are those of one draw at a time, so the
 * first one runs twice. */
static double two_passes(jt_trainer *t, int64_t index, float scale, float agree)
{
    jt_context *ctx = &t->ctx;
    size_t values = t->batch.n_seqs * t->batch.seq_len * jt_rows(&t->model->output);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    float *p = jt_scratch(ctx, values, sizeof *p),
          *q = jt_scratch(ctx, values, sizeof *q);
    double loss = NAN;
    if (p && q) {
        look_ahead(t, index, p);
        pass(t, index, 1, 0.0f, scale * agree, p, q);
        loss = pass(t, index, 0, scale, scale * agree, q, NULL);
    }
    jt_arena_rewind(&ctx->scratch, mark);
    return loss;
}

static jt_status micro_batch(jt_trainer *t, int64_t index, double *loss, jt_err *err)
{
    jt_context *ctx = &t->ctx;
    float scale = 1.0f / (float)t->config->train.accumulate;
    float agree = jt_tuning_agrees(t->tuning);
    JT_TRY(jt_data_train_batch(t->data, (uint64_t)index, &t->batch, err));
    jt_balance_micro(t->balance, scale);
    if (t->on_batch)
        t->on_batch(t->user, &t->batch);
    jt_tuning_batch(t->tuning, &t->batch, scale);
    *loss = agree > 0.0f ? two_passes(t, index, scale, agree)
                         : pass(t, index, 0, scale, 0.0f, NULL, NULL);
    bool finite = isfinite(*loss);
    if (jt_failed(ctx)) {
        if (err)
            *err = ctx->err;
        return ctx->err.code;
    }
    return finite ? JT_OK : fail_loss(t, index, err);
}

/* BIP moves selection biases within a step; one that fails must leave them as they
 * were. Copy all of them from (`back`) or to `room`; the number of values. A model that
 * is only tuned is never changed. */
static size_t copy_biases(const jt_trainer *t, float *room, bool back)
{
    const jt_model *model = t->model;
    size_t n = 0;
    for (int i = t->tuning ? model->params.n_layers : 0; i < model->params.n_layers;
         i++) {
        const jt_tensor *bias = &model->layers[i].mixture.router.selection_bias;
        if (!model->layers[i].is_mixture || !jt_has(bias))
            continue;
        size_t bytes = jt_cols(bias) * sizeof(float);
        if (back)
            memcpy(bias->data, room + n, bytes);
        else if (room)
            memcpy(room + n, bias->data, bytes);
        n += jt_cols(bias);
    }
    return n;
}

/* SMoE-Dropout: the number of experts rises in a line over the run. */
static void set_experts_used(jt_trainer *t)
{
    int from = t->config->router.used_from, to = t->model->params.router.k;
    double progress = (double)t->made.step / (double)t->config->train.steps;
    if (!from)
        return;
    int used = (int)lround((to - from) * progress) + from;
    for (int i = 0; i < t->model->params.n_layers; i++) {
        if (t->model->layers[i].is_mixture)
            t->model->layers[i].mixture.router.k = used < to ? used : to;
    }
}

static jt_status gather_gradients(jt_trainer *t, double *loss, jt_err *err)
{
    int accumulate = t->config->train.accumulate;
    *loss = 0.0;
    jt_variables_zero_grad(&t->variables, t->ctx.pool);
    jt_tuning_refresh(t->tuning, &t->ctx);
    for (int i = 0; i < accumulate; i++) {
        double part;
        JT_TRY(jt_progress_report(&t->options->progress, "step", (unsigned long long)i,
                                  (unsigned long long)accumulate, err));
        JT_TRY(micro_batch(t, t->made.step * accumulate + i, &part, err));
        *loss += part / accumulate;
    }
    return JT_OK;
}

/* The gradients of a step in the variables, with their norm, or everything as it was.
 */
static jt_status gather_or_undo(jt_trainer *t, jt_step_report *report, jt_err *err)
{
    const char *culprit;
    jt_arena_mark mark = jt_arena_save(&t->ctx.scratch);
    float *biases = jt_scratch(&t->ctx, copy_biases(t, NULL, false), sizeof *biases);
    if (!biases)
        return jt_fail_memory(err, "training");
    copy_biases(t, biases, false);
    jt_status status = gather_gradients(t, &report->loss, err);
    if (status == JT_OK) {
        report->grad_norm = jt_optim_grad_norm(t->optim, t->ctx.pool, &culprit);
        if (!isfinite(report->grad_norm))
            status = fail_gradient(t, culprit, err);
    }
    if (status != JT_OK)
        copy_biases(t, biases, true);
    jt_arena_rewind(&t->ctx.scratch, mark);
    return status;
}

jt_status jt_trainer_step(jt_trainer *t, jt_step_report *report, jt_err *err)
{
    double clip = t->config->optim.clip;
    t->ctx.err = (jt_err){0};
    set_experts_used(t);
    jt_balance_begin(t->balance);
    JT_TRY(gather_or_undo(t, report, err));
    report->lr = jt_schedule_lr(&t->schedule, t->made.step);
    bool clipped = clip > 0.0 && report->grad_norm > clip;
    jt_optim_step(t->optim, t->ctx.pool, (float)report->lr,
                  clipped ? (float)(clip / report->grad_norm) : 1.0f);
    jt_balance_end(t->balance);
    t->made.step++;
    t->made.tokens +=
        (uint64_t)t->config->train.accumulate * t->batch.n_seqs * t->batch.seq_len;
    return JT_OK;
}
