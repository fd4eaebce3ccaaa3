/* Finding the importance of layers, and thresholds. Every measurement is a pass over
 * the text with some experts skipped, compared with what the model says with all of
 * them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "junto/trace.h"
#include "run/session.h"
#include "steer/modes.h"

enum { USUAL_WINDOW = 256, USUAL_GRID = 100, MAX_GRID = 10000 };

typedef struct search {
    const jt_model *model;
    const jt_modes_options *options;
    const int32_t *tokens;
    size_t count, window, grid;
    size_t vocab;
    jt_session *session;
    jt_modes_rule rule;
    jt_modes *modes;
    /* What the model says with all experts. */
    float *logits;   /* [count, vocab] */
    double *log_sum; /* [count] */
    /* A pass. */
    size_t first; /* token of the text with which the window begins */
    double kl, kl_class[JT_MODES_CLASSES]; /* sums over tokens */
    /* The grid of a rule: what each of its points gave, NaN where it was not tried. */
    float *tau[JT_MODES_CLASSES]; /* [grid]; of one class: grid and 1 */
    size_t n_tau[JT_MODES_CLASSES];
    double *skipped, *cost; /* [n_tau[0], n_tau[1]] */
    unsigned long long passes, foreseen;
} search;

/* ---- passes ---- */

static double log_sum_exp(const float *x, size_t n)
{
    double best = x[0], sum = 0.0;
    for (size_t i = 1; i < n; i++)
        best = x[i] > best ? x[i] : best;
    for (size_t i = 0; i < n; i++)
        sum += exp(x[i] - best);
    return best + log(sum);
}

static jt_status keep_rows(void *user, size_t first, const float *logits, size_t rows,
                           jt_err *err)
{
    search *s = user;
    (void)err;
    memcpy(s->logits + (s->first + first) * s->vocab, logits,
           rows * s->vocab * sizeof *logits);
    for (size_t r = 0; r < rows; r++)
        s->log_sum[s->first + first + r] = log_sum_exp(logits + r * s->vocab, s->vocab);
    return JT_OK;
}

/* KL(p || p') of each row, no less than 0. */
static jt_status compare_rows(void *user, size_t first, const float *logits,
                              size_t rows, jt_err *err)
{
    search *s = user;
    for (size_t r = 0; r < rows; r++) {
        const float *now = logits + r * s->vocab;
        const float *all = s->logits + (s->first + first + r) * s->vocab;
        double sum = log_sum_exp(now, s->vocab), kl = 0.0;
        double all_sum = s->log_sum[s->first + first + r];
        for (size_t i = 0; i < s->vocab; i++) {
            double log_p = all[i] - all_sum;
            kl += exp(log_p) * (log_p - (now[i] - sum));
        }
        if (!isfinite(kl))
            return jt_fail(err, JT_E_FORMAT,
                           "the model gives logits that are not finite");
        s->kl += fmax(0.0, kl);
    }
    return JT_OK;
}

/* Run the text, window by window. */
static jt_status pass(search *s, bool compare, jt_err *err)
{
    jt_eval_options eval = {.on_logits = compare ? compare_rows : keep_rows, .user = s};
    unsigned long long total = s->foreseen > s->passes ? s->foreseen : s->passes + 1;
    JT_TRY(jt_progress_report(&s->options->progress, "passes", s->passes, total, err));
    s->kl = 0.0;
    s->rule.slots = s->rule.skipped = 0;
    for (s->first = 0; s->first < s->count; s->first += s->window) {
        jt_session_truncate(s->session, 0);
        JT_TRY(
            jt_session_eval(s->session, s->tokens + s->first, s->window, &eval, err));
    }
    s->passes++;
    return JT_OK;
}

/* ---- importance ---- */

/* Without the experts of one layer, for tokens of one class: all others have a gate
 * that counts. */
static jt_status importance_of(search *s, int class, int layer, float *out, jt_err *err)
{
    int n = s->modes->n_layers;
    for (int i = 0; i < s->modes->n_classes * n; i++)
        s->rule.alpha[i] = 1.0f;
    s->rule.alpha[class * n + layer] = 0.0f;
    s->rule.tau[0] = s->rule.tau[1] = 1e-30f;
    JT_TRY(pass(s, true, err));
    *out = (float)(s->kl / (double)s->count);
    return JT_OK;
}

static jt_status find_importance(search *s, jt_err *err)
{
    jt_modes *m = s->modes;
    for (int c = 0; c < m->n_classes; c++) {
        float *alpha = m->alpha + c * m->n_layers;
        double sum = 0.0;
        for (int i = 0; i < m->n_layers; i++) {
            if (s->model->layers[i].is_mixture)
                JT_TRY(importance_of(s, c, i, &alpha[i], err));
            sum += (double)alpha[i];
        }
        for (int i = 0; sum > 0.0 && i < m->n_layers; i++)
            alpha[i] = (float)(alpha[i] / sum);
    }
    return JT_OK;
}

/* ---- thresholds ---- */

/* Thresholds as the paper's code spaces them, tau = 2 / (1 + exp(-10 (x - 1))) for even
 * steps of x from 0. Its largest x, 0.71 for text, suits a model of 48 layers; here it
 * is that of the largest importance, which skips everything. */
static void space_grid(float *tau, size_t n, double most)
{
    double last = 1.0 - log(2.0 / most - 1.0) / 10.0;
    for (size_t i = 0; i < n; i++) {
        double x = last * (double)i / (double)(n > 1 ? n - 1 : 1);
        tau[i] = (float)(2.0 / (1.0 + exp(-10.0 * (x - 1.0))));
    }
    if (n > 0)
        tau[n - 1] = (float)most * (1.0f + 1e-5f);
}

static double largest(const float *x, int n)
{
    double most = 1e-4; /* above the threshold of x = 0 */
    for (int i = 0; i < n; i++)
        most = x[i] > most ? (double)x[i] : most;
    return most;
}

static void begin_grid(search *s, float power)
{
    const jt_modes *m = s->modes;
    jt_modes_raise(&s->rule, m, power);
    for (int c = 0; c < m->n_classes; c++)
        space_grid(s->tau[c], s->n_tau[c],
                   largest(s->rule.alpha + c * m->n_layers, m->n_layers));
    for (size_t i = 0; i < s->n_tau[0] * s->n_tau[1]; i++)
        s->skipped[i] = s->cost[i] = (double)NAN;
}

static jt_status measure(void *user, size_t i, size_t j, double *skipped, double *cost,
                         jt_err *err)
{
    search *s = user;
    size_t at = i * s->n_tau[1] + j;
    if (isnan(s->cost[at])) {
        s->rule.tau[0] = s->tau[0][i];
        s->rule.tau[1] = s->tau[1][j];
        JT_TRY(pass(s, true, err));
        s->skipped[at] = (double)s->rule.skipped / (double)s->rule.slots;
        s->cost[at] = s->kl / (double)s->count;
    }
    *skipped = s->skipped[at];
    *cost = s->cost[at];
    return JT_OK;
}

static jt_status find_point(search *s, float power, double target, jt_err *err)
{
    jt_frontier frontier = {s->n_tau[0], s->n_tau[1], measure, s};
    jt_modes_point *p = &s->modes->point[s->modes->n_points];
    size_t i, j;
    bool found;
    JT_TRY(jt_frontier_search(&frontier, target, &i, &j, &found, err));
    if (!found)
        return jt_fail(err, JT_E_ARG, "no threshold skips %g of the experts", target);
    size_t at = i * s->n_tau[1] + j;
    *p = (jt_modes_point){.power = power,
                          .target = target,
                          .skipped = s->skipped[at],
                          .kl = s->cost[at],
                          .tau = {s->tau[0][i], s->tau[1][j]}};
    s->modes->n_points++;
    return JT_OK;
}

static jt_status find_points(search *s, jt_err *err)
{
    for (int p = 0; p < JT_MODES_POWERS; p++) {
        begin_grid(s, jt_modes_powers[p]);
        for (size_t t = 0; t < s->options->n_targets; t++)
            JT_TRY(
                find_point(s, jt_modes_powers[p], (double)s->options->targets[t], err));
    }
    return JT_OK;
}

/* ---- from outside ---- */

static jt_status check_options(const search *s, size_t count, jt_err *err)
{
    const jt_modes_options *o = s->options;
    if (o->n_targets == 0)
        return jt_fail(err, JT_E_ARG, "no share to skip is given");
    for (size_t i = 0; i < o->n_targets; i++) {
        if (!(o->targets[i] > 0.0f && o->targets[i] < 1.0f))
            return jt_fail(err, JT_E_ARG, "the share %g is not between 0 and 1",
                           (double)o->targets[i]);
    }
    if (o->window < 0 || o->grid < 0 || o->grid > MAX_GRID)
        return jt_fail(err, JT_E_ARG, "a window of %d tokens, a grid of %d", o->window,
                       o->grid);
    if (count < s->window)
        return jt_fail(err, JT_E_ARG, "the text has %zu tokens, a window takes %zu",
                       count, s->window);
    return JT_OK;
}

static jt_status start_session(search *s, jt_err *err)
{
    jt_session_options options = s->options->session;
    jt_policy policy = {.name = "modes", .self = &s->rule, .on_route = jt_modes_skip};
    options.n_ctx = (int)s->window;
    JT_TRY(jt_session_new(&s->session, s->model, &options, err));
    return jt_session_add_policy(s->session, &policy, err);
}

static jt_status allocate(search *s, jt_err *err)
{
    const jt_modes_options *o = s->options;
    size_t layers = (size_t)s->model->params.n_layers;
    jt_modes *m = s->modes = jt_calloc(1, sizeof *m);
    if (!m)
        return jt_fail_memory(err, "looking for thresholds");
    m->n_layers = (int)layers;
    m->n_classes = o->n_second ? 2 : 1;
    m->model = jt_model_fingerprint(s->model);
    m->tokens = s->count;
    m->alpha = jt_calloc((size_t)m->n_classes * layers, sizeof *m->alpha);
    m->point = jt_calloc(JT_MODES_POWERS * o->n_targets, sizeof *m->point);
    m->second.list = jt_alloc(o->n_second, sizeof *m->second.list);
    s->rule = (jt_modes_rule){.n_layers = (int)layers, .second = &m->second};
    s->rule.alpha = jt_calloc((size_t)m->n_classes * layers, sizeof *s->rule.alpha);
    s->logits = jt_alloc(s->count, s->vocab * sizeof *s->logits);
    s->log_sum = jt_alloc(s->count, sizeof *s->log_sum);
    for (int c = 0; c < JT_MODES_CLASSES; c++) {
        s->n_tau[c] = c < m->n_classes ? s->grid : 1;
        s->tau[c] = jt_calloc(s->n_tau[c], sizeof *s->tau[c]);
    }
    s->skipped = jt_alloc(s->n_tau[0] * s->n_tau[1], sizeof *s->skipped);
    s->cost = jt_alloc(s->n_tau[0] * s->n_tau[1], sizeof *s->cost);
    if (!m->alpha || !m->point || !m->second.list || !s->rule.alpha || !s->logits ||
        !s->log_sum || !s->tau[0] || !s->tau[1] || !s->skipped || !s->cost)
        return jt_fail_memory(err, "looking for thresholds (try fewer tokens)");
    if (o->n_second)
        memcpy(m->second.list, o->second, o->n_second * sizeof *o->second);
    m->second.count = o->n_second;
    return JT_OK;
}

static unsigned long long foresee(const search *s)
{
    unsigned long long layers = 0, each = s->grid > 1 ? 8 : 1;
    for (int i = 0; i < s->model->params.n_layers; i++)
        layers += s->model->layers[i].is_mixture;
    if (s->modes->n_classes > 1)
        each = 2 * s->grid;
    return 1 + layers * (unsigned)s->modes->n_classes +
           JT_MODES_POWERS * each * s->options->n_targets;
}

static jt_status find_all(search *s, jt_err *err)
{
    JT_TRY(allocate(s, err));
    JT_TRY(start_session(s, err));
    s->foreseen = foresee(s);
    JT_TRY(pass(s, false, err));
    JT_TRY(find_importance(s, err));
    JT_TRY(find_points(s, err));
    return jt_progress_report(&s->options->progress, "passes", s->passes, s->passes,
                              err);
}

jt_status jt_modes_calibrate(jt_modes **out, const jt_model *model,
                             const int32_t *tokens, size_t count,
                             const jt_modes_options *o, jt_err *err)
{
    jt_steering *steerable;
    search s = {.model = model,
                .options = o,
                .tokens = tokens,
                .window = o->window > 0 ? (size_t)o->window : USUAL_WINDOW,
                .grid = o->grid > 0 ? (size_t)o->grid : USUAL_GRID,
                .vocab = (size_t)model->params.n_vocab};
    JT_TRY(check_options(&s, count, err));
    JT_TRY(jt_steering_new(&steerable, model, err)); /* does it have experts? */
    jt_steering_free(steerable);
    s.count = count / s.window * s.window;
    jt_status status = find_all(&s, err);
    if (status == JT_OK)
        *out = s.modes;
    else
        jt_modes_free(s.modes);
    jt_session_free(s.session);
    free(s.rule.alpha);
    free(s.logits);
    free(s.log_sum);
    free(s.tau[0]);
    free(s.tau[1]);
    free(s.skipped);
    free(s.cost);
    return status;
}
