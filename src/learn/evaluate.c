/* Loss on held-out data, domain by domain. */
#include <stdlib.h>

#include "base/memory.h"
#include "learn/output_loss.h"
#include "learn/train.h"

/* Over tokens that have a loss. */
typedef struct sums {
    double loss, hits, counted;
} sums;

static jt_status evaluate_batch(jt_trainer *t, const jt_evaluation_options *o, sums *s,
                                jt_err *err)
{
    jt_context *ctx = &t->ctx;
    jt_span span = jt_trainer_span(t);
    jt_chunk chunk = jt_trainer_chunk(t, &span, -1);
    chunk.hidden = true;
    jt_tuning_batch(t->tuning, &t->batch, 0.0f);
    if (o->on_batch)
        o->on_batch(o->user, &t->batch);
    ctx->err = (jt_err){0};
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_tensor hidden = jt_trainer_forward(t, &chunk, o->hooks);
    jt_output_seen seen = {0};
    double loss = jt_output_loss(ctx, t->model, &hidden, t->batch.targets, 1.0f,
                                 jt_tuning_output_values(t->tuning), &seen);
    jt_arena_rewind(&ctx->scratch, mark);
    if (jt_failed(ctx)) {
        if (err)
            *err = ctx->err;
        return ctx->err.code;
    }
    s->loss += loss * (double)seen.counted;
    s->hits += (double)seen.hits;
    s->counted += (double)seen.counted;
    return JT_OK;
}

jt_status jt_trainer_loss(jt_trainer *t, double *loss, jt_err *err)
{
    static const jt_hooks none;
    static const jt_evaluation_options plain = {.hooks = &none};
    sums s = {0.0, 0.0, 0.0};
    JT_TRY(evaluate_batch(t, &plain, &s, err));
    *loss = s.counted > 0.0 ? s.loss / s.counted : 0.0;
    return JT_OK;
}

static jt_status evaluate_domain(jt_trainer *t, const jt_evaluation_options *o,
                                 size_t source, sums *out, jt_err *err)
{
    size_t sequences = jt_data_eval_count(t->data, source), per = t->batch.n_seqs;
    size_t most = (size_t)t->config->eval.batches * per, filled;
    sums s = {0.0, 0.0, 0.0};
    if (most && sequences > most)
        sequences = most;
    jt_tuning_begin(t->tuning, source, 0);
    for (size_t first = 0; first < sequences; first += per) {
        JT_TRY(jt_progress_report(&t->options->progress, "evaluating", first, sequences,
                                  err));
        JT_TRY(jt_data_eval_batch(t->data, source, first, &t->batch, &filled, err));
        JT_TRY(evaluate_batch(t, o, &s, err));
    }
    *out =
        s.counted > 0.0 ? (sums){s.loss / s.counted, s.hits / s.counted, s.counted} : s;
    return JT_OK;
}

jt_status jt_trainer_evaluate(jt_trainer *t, const jt_evaluation_options *o,
                              jt_evaluation *out, jt_err *err)
{
    jt_evaluation e = {.n_domains = jt_data_sources(t->data)};
    double shares = 0.0;
    jt_tuning_refresh(t->tuning, &t->ctx);
    e.domain_loss = jt_calloc(e.n_domains, sizeof *e.domain_loss);
    e.domain_accuracy = jt_calloc(e.n_domains, sizeof *e.domain_accuracy);
    if (!e.domain_loss || !e.domain_accuracy) {
        jt_evaluation_free(&e);
        return jt_fail_memory(err, "evaluating");
    }
    for (size_t i = 0; i < e.n_domains; i++) {
        double share = jt_data_eval_count(t->data, i) ? jt_data_share(t->data, i) : 0.0;
        sums domain;
        jt_status status = evaluate_domain(t, o, i, &domain, err);
        if (status != JT_OK) {
            jt_evaluation_free(&e);
            return status;
        }
        e.domain_loss[i] = domain.loss;
        e.domain_accuracy[i] = domain.hits;
        e.loss += share * domain.loss;
        e.accuracy += share * domain.hits;
        shares += share;
    }
    e.loss = shares > 0.0 ? e.loss / shares : 0.0;
    e.accuracy = shares > 0.0 ? e.accuracy / shares : 0.0;
    *out = e;
    return JT_OK;
}

void jt_evaluation_free(jt_evaluation *evaluation)
{
    free(evaluation->domain_loss);
    free(evaluation->domain_accuracy);
    *evaluation = (jt_evaluation){0};
}
