/* The terms that balancing adds to the loss, and what it counts on the way. */
#include <math.h>
#include <string.h>

#include "learn/balance_impl.h"
#include "tensor/tape.h"

void jt_balance_shares(double *f, const uint64_t *picks, const jt_router *router,
                       bool null_mean)
{
    int rows = jt_router_rows(router);
    double total = 0.0, null = 0.0;
    for (int i = 0; i < rows; i++) {
        total += (double)picks[i];
        null += i >= router->n_experts ? (double)picks[i] : 0.0;
    }
    for (int i = 0; i < rows; i++) {
        bool mean = null_mean && i >= router->n_experts;
        double share =
            mean ? null / (total * router->n_null) : (double)picks[i] / total;
        f[i] = total > 0.0 ? share : 0.0;
    }
}

/* ---- alpha E sum_i f_i P_i ---- */

typedef struct saved_loss {
    const jt_kernels *kernels;
    jt_tensor scores;
    size_t group;  /* tokens that share an f */
    float *slope;  /* [groups, rows]: derivative by p_i of each of its tokens */
    float *shares; /* sigmoid: [tokens, rows], p; softmax: NULL */
} saved_loss;

/* Scores of a sigmoid do not sum to 1: without dividing by their sum, the loss would
 * fall by making all of them small. p = s / S: dL/ds_i = (g_i - sum_j g_j p_j) / S. */
static void back_token(void *arg, size_t t)
{
    const saved_loss *s = arg;
    size_t n = jt_cols(&s->scores);
    const float *slope = s->slope + t / s->group * n, *score = jt_row(&s->scores, t);
    float *grad = jt_grad_row(&s->scores, t);
    if (!s->shares) {
        s->kernels->axpy(grad, 1.0f, slope, n);
        return;
    }
    const float *p = s->shares + t * n;
    float sum = 0.0f, along = s->kernels->dot(slope, p, n);
    for (size_t i = 0; i < n; i++)
        sum += score[i];
    for (size_t i = 0; i < n && sum > 0.0f; i++)
        grad[i] += (slope[i] - along) / sum;
}

static void loss_backward(jt_context *ctx, void *saved)
{
    const saved_loss *s = saved;
    size_t tokens = jt_rows(&s->scores);
    jt_for_rows(ctx, tokens, 2 * tokens * jt_cols(&s->scores), back_token, saved);
}

/* p of all tokens: the scores over their sum. */
static float *shares_of(jt_context *ctx, const jt_tensor *scores)
{
    size_t tokens = jt_rows(scores), n = jt_cols(scores);
    float *shares = jt_scratch(ctx, tokens * n, sizeof *shares);
    for (size_t t = 0; shares && t < tokens; t++) {
        const float *score = jt_row(scores, t);
        float sum = 0.0f;
        for (size_t i = 0; i < n; i++)
            sum += score[i];
        for (size_t i = 0; i < n; i++)
            shares[t * n + i] = sum > 0.0f ? score[i] / sum : 0.0f;
    }
    return shares;
}

/* What a layer's terms are made from, for one pass. */
typedef struct pass {
    jt_context *ctx;
    const jt_balance *b;
    const jt_router *router;
    const jt_tensor *scores;
    const jt_route *route;
    const jt_balance_layer *layer;
    float *shares;   /* as in saved_loss */
    uint64_t *picks; /* [rows], room for a count */
    double *mean;    /* [rows], room for P */
} pass;

static void count_picks(uint64_t *picks, const jt_route *route, size_t from, size_t to)
{
    size_t k = (size_t)route->k;
    for (size_t slot = from * k; slot < to * k; slot++) {
        if (route->picked[slot] >= 0)
            picks[route->picked[slot]]++;
    }
}

/* The value for tokens from .. to with f of `picks`; the slope of each p_i, too. */
static double group_loss(const pass *s, float alpha, const uint64_t *picks, size_t from,
                         size_t to, float *slope)
{
    int n = jt_router_rows(s->router);
    const float *p = s->shares ? s->shares : s->scores->data;
    double tokens = (double)(to - from), sum = 0.0, *f = s->layer->f;
    memset(s->mean, 0, (size_t)n * sizeof *s->mean);
    for (size_t t = from; t < to; t++) {
        for (int i = 0; i < n; i++)
            s->mean[i] += (double)p[t * (size_t)n + (size_t)i];
    }
    jt_balance_shares(f, picks, s->router, s->b->options.null_mean);
    for (int i = 0; i < n; i++) {
        double by_mean = (double)alpha * n * f[i];
        sum += by_mean * s->mean[i] / tokens;
        slope[i] = (float)(by_mean / tokens);
    }
    return sum;
}

/* A loss of the given scope. */
static double add_loss(const pass *s, float alpha, jt_balance_scope scope)
{
    size_t n = jt_cols(s->scores), tokens = jt_rows(s->scores);
    size_t group = scope == JT_SCOPE_SEQUENCE ? s->b->options.seq_len : tokens;
    size_t groups = (tokens + group - 1) / group;
    float *slope = jt_scratch(s->ctx, groups * n, sizeof *slope);
    double sum = 0.0;
    for (size_t g = 0; slope && g < groups; g++) {
        size_t from = g * group, to = from + group < tokens ? from + group : tokens;
        const uint64_t *picks = s->layer->picks;
        if (scope != JT_SCOPE_GLOBAL) {
            memset(s->picks, 0, n * sizeof *s->picks);
            count_picks(s->picks, s->route, from, to);
            picks = s->picks;
        }
        sum += group_loss(s, alpha, picks, from, to, slope + g * n);
    }
    for (size_t i = 0; slope && i < groups * n; i++)
        slope[i] *= s->b->scale / (float)groups;
    saved_loss saved = {s->ctx->kernels, *s->scores, group, slope, s->shares};
    jt_tape_push(s->ctx, loss_backward, &saved, sizeof saved);
    return sum / (double)groups;
}

/* Both losses, from room for what they need. */
static double add_losses(pass *s)
{
    const jt_balance_options *o = &s->b->options;
    size_t n = jt_cols(s->scores);
    double sum = 0.0;
    if (o->loss == 0.0f && o->micro_loss == 0.0f)
        return 0.0;
    s->picks = jt_scratch(s->ctx, n, sizeof *s->picks);
    s->mean = jt_scratch(s->ctx, n, sizeof *s->mean);
    if (s->router->gating == JT_GATE_SIGMOID)
        s->shares = shares_of(s->ctx, s->scores);
    if (jt_failed(s->ctx))
        return 0.0;
    if (o->loss != 0.0f)
        sum += add_loss(s, o->loss, o->scope);
    if (o->micro_loss != 0.0f)
        sum += add_loss(s, o->micro_loss, JT_SCOPE_MICRO);
    return sum;
}

/* ---- beta mean_t (log sum_i exp logit_i)^2 ---- */

typedef struct saved_z {
    const jt_kernels *kernels;
    jt_tensor logits;
    double *lse; /* [tokens] */
    float *room; /* [tokens, rows], probabilities */
    float slope; /* of lse^2 */
} saved_z;

/* A token that policies left no expert counts as 0. */
static void lse_token(void *arg, size_t t)
{
    const saved_z *s = arg;
    size_t n = jt_cols(&s->logits);
    const float *row = jt_row(&s->logits, t);
    float best = row[0];
    for (size_t i = 1; i < n; i++)
        best = row[i] > best ? row[i] : best;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += expf(row[i] - best);
    s->lse[t] = best == -INFINITY ? 0.0 : best + log(sum);
}

static void z_token(void *arg, size_t t)
{
    const saved_z *s = arg;
    size_t n = jt_cols(&s->logits);
    float *p = s->room + t * n;
    if (s->lse[t] == 0.0)
        return;
    s->kernels->softmax(p, jt_row(&s->logits, t), n);
    s->kernels->axpy(jt_grad_row(&s->logits, t), 2.0f * s->slope * (float)s->lse[t], p,
                     n);
}

static void z_backward(jt_context *ctx, void *saved)
{
    saved_z s = *(const saved_z *)saved;
    size_t tokens = jt_rows(&s.logits), n = jt_cols(&s.logits);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    s.room = jt_scratch(ctx, tokens * n, sizeof *s.room);
    if (!jt_failed(ctx))
        jt_for_rows(ctx, tokens, 8 * tokens * n, z_token, &s);
    jt_arena_rewind(&ctx->scratch, mark);
}

static double add_z_loss(const jt_balance *b, jt_context *ctx, const jt_tensor *logits)
{
    float beta = b->options.z_loss;
    size_t tokens = jt_rows(logits);
    if (beta == 0.0f)
        return 0.0;
    saved_z s = {.kernels = ctx->kernels,
                 .logits = *logits,
                 .lse = jt_scratch(ctx, tokens, sizeof *s.lse),
                 .slope = b->scale * beta / (float)tokens};
    if (jt_failed(ctx))
        return 0.0;
    jt_for_rows(ctx, tokens, 8 * tokens * jt_cols(logits), lse_token, &s);
    double sum = 0.0;
    for (size_t t = 0; t < tokens; t++)
        sum += s.lse[t] * s.lse[t];
    jt_tape_push(ctx, z_backward, &s, sizeof s);
    return (double)beta * sum / (double)tokens;
}

/* ---- the route term ---- */

static void count_pass(jt_balance_layer *layer, const jt_route *route)
{
    size_t tokens = (size_t)route->n_tokens;
    count_picks(layer->picks, route, 0, tokens);
    layer->tokens += tokens;
    for (size_t slot = 0; slot < tokens * (size_t)route->k; slot++)
        layer->used +=
            route->expert[slot] >= 0 && route->expert[slot] < route->n_experts;
    layer->passes++;
}

/* A pass that is run again for its gradients counts once; the step's counts still end
 * with it then, so that its losses are those of the first time. */
void jt_balance_add(void *self, jt_context *ctx, const jt_route_site *site,
                    const jt_router *router, const jt_tensor *logits,
                    const jt_tensor *scores, const jt_route *route)
{
    jt_balance *b = self;
    jt_balance_layer *layer = &b->layer[site->layer];
    if (b->no_room)
        jt_fail_memory(&ctx->err, "pricing experts");
    if (jt_failed(ctx))
        return;
    if (!site->replay)
        count_pass(layer, route);
    pass s = {.ctx = ctx,
              .b = b,
              .router = router,
              .scores = scores,
              .route = route,
              .layer = layer};
    double loss = add_losses(&s);
    double z_loss = add_z_loss(b, ctx, logits);
    if (!site->replay) {
        layer->loss += loss;
        layer->z_loss += z_loss;
    }
}
