/* Probes of steering: skipping experts, self-contrast, rewiring. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learn/probe_impl.h"
#include "steer/modes.h"

/* ---- held-out sequences under a policy ---- */

typedef struct scores {
    size_t from, vocab; /* tokens that are predicted before `from` do not count */
    const int32_t *targets;
    double nll, right, tokens; /* sums */
} scores;

static jt_status score_rows(void *user, size_t first, const float *logits, size_t rows,
                            jt_err *err)
{
    scores *s = user;
    (void)err;
    for (size_t r = 0; r < rows; r++) {
        const float *row = logits + r * s->vocab;
        int32_t target = s->targets[first + r];
        size_t best = 0;
        double sum = 0.0;
        if (target < 0 || first + r + 1 < s->from)
            continue;
        for (size_t i = 1; i < s->vocab; i++)
            best = row[i] > row[best] ? i : best;
        for (size_t i = 0; i < s->vocab; i++)
            sum += exp((double)row[i] - (double)row[best]);
        s->nll += log(sum) - ((double)row[target] - (double)row[best]);
        s->right += (int32_t)best == target;
        s->tokens++;
    }
    return JT_OK;
}

/* A session on the trainer's model, steered by `policy` ("": not at all). */
typedef struct steered {
    jt_session *session;
    jt_steering *steering;
} steered;

static jt_status steer(const jt_probe_call *call, const char *policy, steered *out)
{
    const jt_trainer *t = call->trainer;
    jt_session_options options = {.n_ctx = (int)t->batch.seq_len,
                                  .threads = t->config->train.threads,
                                  .kv_type = "f32"};
    *out = (steered){0};
    JT_TRY(jt_session_new(&out->session, t->model, &options, call->err));
    JT_TRY(jt_steering_new(&out->steering, t->model, call->err));
    if (*policy)
        JT_TRY(jt_steering_add(out->steering, policy, call->err));
    return jt_steering_attach(out->steering, out->session, call->err);
}

/* Sequences of one source from `first` to before `end`. */
static jt_status score_source(const jt_probe_call *call, jt_session *session,
                              size_t source, size_t first, size_t end, scores *s)
{
    jt_trainer *t = call->trainer;
    jt_eval_options eval = {.on_logits = score_rows, .user = s};
    size_t filled, length = t->batch.seq_len;
    for (; first < end; first += t->batch.n_seqs) {
        JT_TRY(
            jt_data_eval_batch(t->data, source, first, &t->batch, &filled, call->err));
        for (size_t i = 0; i < filled && first + i < end; i++) {
            s->targets = t->batch.targets + i * length;
            jt_session_truncate(session, 0);
            JT_TRY(jt_session_eval(session, t->batch.tokens + i * length, length, &eval,
                                   call->err));
        }
    }
    return JT_OK;
}

/* Of source `source` the sequences that evaluations look at. */
static size_t sequences_of(const jt_trainer *t, size_t source)
{
    size_t all = jt_data_eval_count(t->data, source);
    size_t most = (size_t)t->config->eval.batches * t->batch.n_seqs;
    return most && all > most ? most : all;
}

/* ---- modes:SHARE ---- */

/* A text to calibrate with: a batch that comes after those of the training. */
static jt_status calibrate(const jt_probe_call *call, jt_modes **out)
{
    jt_trainer *t = call->trainer;
    uint64_t after =
        (uint64_t)t->config->train.steps * (uint64_t)t->config->train.accumulate + 1;
    float target = (float)call->value;
    jt_modes_options how = {.targets = &target,
                            .n_targets = 1,
                            .window = (int)t->batch.seq_len,
                            .grid = 2000,
                            .session = {.threads = t->config->train.threads}};
    JT_TRY(jt_data_train_batch(t->data, after, &t->batch, call->err));
    return jt_modes_calibrate(out, t->model, t->batch.tokens,
                              t->batch.n_seqs * t->batch.seq_len, &how, call->err);
}

/* Held-out loss with the thresholds of one power, below 0 of the best. */
static jt_status skip_by(const jt_probe_call *call, const jt_modes *modes, float power,
                         const char *name)
{
    char text[48];
    jt_modes_rule rule = {.n_layers = modes->n_layers, .second = &modes->second};
    jt_hooks hooks = {.n_policies = 1};
    size_t n = (size_t)modes->n_classes * (size_t)modes->n_layers;
    JT_TRY(jt_modes_thresholds(modes, &power, call->value, rule.tau, call->err));
    rule.alpha = jt_alloc(n, sizeof *rule.alpha);
    if (!rule.alpha)
        return jt_fail_memory(call->err, "probing a model");
    jt_modes_raise(&rule, modes, power);
    hooks.policy[0] =
        (jt_policy){.name = "modes", .self = &rule, .on_route = jt_modes_skip};
    snprintf(text, sizeof text, "%s=%s", name, call->text);
    jt_status status = jt_probe_loss(call, &hooks, text);
    if (status == JT_OK)
        status = jt_metrics_set(call->metrics, call->err,
                                (double)rule.skipped / (double)rule.slots, "skipped@%s",
                                text);
    free(rule.alpha);
    return status;
}

/* Held-out loss with fewer experts for all tokens. */
static jt_status skip_evenly(const jt_probe_call *call)
{
    const jt_model *model = call->trainer->model;
    char policy[32], text[48];
    jt_steering *steering;
    jt_hooks hooks = {0};
    int k = (int)lround((1.0 - call->value) * model->params.router.k);
    snprintf(policy, sizeof policy, "topk:k=%d", k);
    snprintf(text, sizeof text, "even=%s", call->text);
    JT_TRY(jt_steering_new(&steering, model, call->err));
    jt_status status = jt_steering_add(steering, policy, call->err);
    if (status == JT_OK)
        status = jt_steering_hooks(steering, &hooks, call->err);
    if (status == JT_OK)
        status = jt_probe_loss(call, &hooks, text);
    jt_steering_free(steering);
    return status;
}

jt_status jt_probe_modes(const jt_probe_call *call)
{
    jt_modes *modes;
    if (call->value >= 1.0)
        return jt_fail(call->err, JT_E_ARG, "a share of %s experts", call->text);
    JT_TRY(calibrate(call, &modes));
    jt_status status = skip_by(call, modes, -1.0f, "best");
    if (status == JT_OK)
        status = skip_by(call, modes, 1.0f, "modes");
    if (status == JT_OK)
        status = skip_by(call, modes, 0.0f, "gate");
    if (status == JT_OK)
        status = skip_evenly(call);
    jt_modes_free(modes);
    return status;
}

/* ---- scmoe ---- */

/* How many of the next tokens of all sources come out right, in one half of their
 * sequences. */
static jt_status accuracy(const jt_probe_call *call, const char *policy, bool second,
                          double *out)
{
    jt_trainer *t = call->trainer;
    scores s = {.vocab = (size_t)t->model->params.n_vocab};
    steered with;
    jt_status status = steer(call, policy, &with);
    for (size_t i = 0; i < jt_data_sources(t->data) && status == JT_OK; i++) {
        size_t n = sequences_of(t, i), half = n / 2;
        status = score_source(call, with.session, i, second ? half : 0,
                              second ? n : half, &s);
    }
    jt_session_free(with.session);
    jt_steering_free(with.steering);
    *out = s.tokens > 0.0 ? s.right / s.tokens : 0.0;
    return status;
}

/* beta and the weak rank are chosen on the first half, and judged on the second. */
jt_status jt_probe_scmoe(const jt_probe_call *call)
{
    static const double betas[] = {0.25, 0.5, 1.0};
    int ranks = call->trainer->model->params.router.k + 2;
    double best = -1.0, beta = 0.0, value;
    int weak = 0;
    char policy[64];
    for (int rank = 0; rank < ranks; rank++) {
        for (size_t b = 0; b < 3; b++) {
            snprintf(policy, sizeof policy, "scmoe:beta=%g,weak=%d", betas[b], rank);
            JT_TRY(accuracy(call, policy, false, &value));
            if (value > best) {
                best = value;
                beta = betas[b];
                weak = rank;
            }
        }
    }
    JT_TRY(jt_metrics_set(call->metrics, call->err, beta, "scmoe_beta"));
    JT_TRY(jt_metrics_set(call->metrics, call->err, weak, "scmoe_weak"));
    snprintf(policy, sizeof policy, "scmoe:beta=%g,weak=%d", beta, weak);
    JT_TRY(accuracy(call, policy, true, &value));
    JT_TRY(jt_metrics_set(call->metrics, call->err, value, "accuracy@scmoe"));
    JT_TRY(accuracy(call, "", true, &value));
    return jt_metrics_set(call->metrics, call->err, value, "accuracy@greedy");
}

/* ---- rewire:LR ---- */

/* The source that training saw least of. */
static size_t rarest(const jt_trainer *t)
{
    size_t least = 0;
    for (size_t i = 1; i < jt_data_sources(t->data); i++) {
        if (jt_data_share(t->data, i) < jt_data_share(t->data, least))
            least = i;
    }
    return least;
}

static jt_status rewired_loss(const jt_probe_call *call, const char *policy,
                              size_t prompt, double *out)
{
    jt_trainer *t = call->trainer;
    scores s = {.from = prompt, .vocab = (size_t)t->model->params.n_vocab};
    size_t source = rarest(t);
    steered with;
    jt_status status = steer(call, policy, &with);
    if (status == JT_OK)
        status =
            score_source(call, with.session, source, 0, sequences_of(t, source), &s);
    jt_session_free(with.session);
    jt_steering_free(with.steering);
    *out = s.tokens > 0.0 ? s.nll / s.tokens : 0.0;
    return status;
}

/* Sequences of the rarest source: a quarter is the prompt, the rest is scored, fits
 * come every quarter. */
jt_status jt_probe_rewire(const jt_probe_call *call)
{
    char policy[128];
    double loss;
    size_t prompt = call->trainer->batch.seq_len / 4;
    static const struct {
        const char *name, *keys;
        double rate; /* of the argument */
    } ways[] = {{"hard", "steps=5,window=0", 1},
                {"soft", "steps=5,window=0,choose=soft", 1},
                {"all", "steps=5,window=0,share=1", 1},
                {"quick", "steps=1", 5}};
    JT_TRY(rewired_loss(call, "", prompt, &loss));
    JT_TRY(jt_metrics_set(call->metrics, call->err, loss, "loss@rarest"));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        snprintf(policy, sizeof policy, "rewire:prompt=%zu,every=%zu,lr=%g,%s", prompt,
                 prompt, ways[i].rate * call->value, ways[i].keys);
        JT_TRY(rewired_loss(call, policy, prompt, &loss));
        JT_TRY(jt_metrics_set(call->metrics, call->err, loss, "loss@%s=%s",
                              ways[i].name, call->text));
    }
    return JT_OK;
}
