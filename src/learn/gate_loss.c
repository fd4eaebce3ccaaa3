#include "learn/gate_loss.h"

#include <math.h>
#include <string.h>

#include "tensor/tape.h"

typedef struct saved_gate {
    const jt_gate_loss *loss;
    const int32_t *label;
    jt_tensor logits, scores;
    const float *share; /* [n] of the picks */
    float scale;
    size_t labelled;
} saved_gate;

static int label_of(const int32_t *label, size_t t)
{
    return label ? label[t] : -1;
}

/* ---- gradients ---- */

static void back_label(const saved_gate *s, size_t t)
{
    const jt_gate_loss *l = s->loss;
    int label = label_of(s->label, t);
    float *dlogits = jt_grad_row(&s->logits, t), *p = jt_row(&s->scores, t);
    if (label < 0)
        return;
    float factor = s->scale * l->beta / (float)((size_t)l->gates * s->labelled);
    for (int e = 0; e < l->n; e++)
        dlogits[e] += factor * (p[e] - (float)(e == label));
}

static void back_shape(const saved_gate *s, size_t t)
{
    const jt_gate_loss *l = s->loss;
    size_t tokens = jt_rows(&s->scores);
    float factor = s->scale / (float)((size_t)l->gates * tokens);
    float *dp = jt_grad_row(&s->scores, t), *p = jt_row(&s->scores, t);
    for (int e = 0; e < l->n; e++)
        dp[e] += factor * (l->alpha * s->share[e] -
                           l->lambda * (logf(fmaxf(p[e], 1e-20f)) + 1.0f));
}

static void gate_backward(jt_context *ctx, void *saved)
{
    const saved_gate *s = saved;
    (void)ctx;
    for (size_t t = 0; t < jt_rows(&s->scores); t++) {
        if (s->loss->beta != 0.0f && s->labelled)
            back_label(s, t);
        if (s->loss->alpha != 0.0f || s->loss->lambda != 0.0f)
            back_shape(s, t);
    }
}

/* ---- what is seen ---- */

static int best_of(const float *p, int n)
{
    int best = 0;
    for (int e = 1; e < n; e++)
        best = p[e] > p[best] ? e : best;
    return best;
}

static void count(jt_gate_loss *l, const jt_tensor *scores, const jt_route *route)
{
    for (size_t t = 0; t < jt_rows(scores); t++) {
        const float *p = jt_row(scores, t);
        int label = label_of(l->label, t);
        l->tokens += 1.0;
        for (int e = 0; e < l->n; e++)
            l->entropy -= p[e] > 0.0f ? (double)p[e] * log((double)p[e]) : 0.0;
        l->labelled += label >= 0;
        l->hits += label >= 0 && best_of(p, l->n) == label;
        for (int j = 0; j < route->k; j++) {
            int e = route->expert[t * (size_t)route->k + (size_t)j];
            if (e >= 0)
                l->picks[e] += 1.0;
        }
    }
}

void jt_gate_loss_reset(jt_gate_loss *l)
{
    l->hits = l->labelled = l->entropy = l->tokens = 0.0;
    memset(l->picks, 0, sizeof l->picks);
}

/* Shares of the picks: of the k best of each token, as they will be used. */
static void share_picks(const jt_gate_loss *l, const jt_tensor *scores, float *share)
{
    size_t tokens = jt_rows(scores);
    float one = 1.0f / (float)(tokens * (size_t)l->k);
    memset(share, 0, (size_t)l->n * sizeof *share);
    for (size_t t = 0; t < tokens; t++) {
        const float *p = jt_row(scores, t);
        for (int e = 0; e < l->n; e++) {
            int before = 0;
            for (int o = 0; o < l->n; o++)
                before += p[o] > p[e] || (p[o] == p[e] && o < e);
            share[e] += before < l->k ? one : 0.0f;
        }
    }
}

static void add(void *self, jt_context *ctx, const jt_route_site *site,
                const jt_router *router, const jt_tensor *logits,
                const jt_tensor *scores, const jt_route *route)
{
    jt_gate_loss *l = self;
    (void)site, (void)router;
    if (!ctx->tape) {
        count(l, scores, route);
        return;
    }
    float *share = jt_scratch(ctx, (size_t)l->n, sizeof *share);
    if (!share)
        return;
    share_picks(l, scores, share);
    saved_gate s = {l, l->label, *logits, *scores, share, l->scale, 0};
    for (size_t t = 0; t < jt_rows(scores); t++)
        s.labelled += label_of(l->label, t) >= 0;
    jt_tape_push(ctx, gate_backward, &s, sizeof s);
}

jt_route_term jt_gate_loss_term(jt_gate_loss *l)
{
    return (jt_route_term){l, add};
}
