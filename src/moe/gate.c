#include "moe/gate.h"

#include <math.h>

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static bool all_out(const float *logits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (logits[i] != -INFINITY)
            return false;
    }
    return true;
}

/* log(1 + exp(x)), which is x where that would overflow. */
static float softplus(float x)
{
    return x > 20.0f ? x : log1pf(expf(x));
}

void jt_gate(const jt_kernels *kernels, jt_gating gating, float *scores,
             const float *logits, size_t n)
{
    bool soft = gating == JT_GATE_SOFTMAX || gating == JT_GATE_SPARSEMIXER;
    if (soft && !all_out(logits, n)) {
        kernels->softmax(scores, logits, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        scores[i] = gating == JT_GATE_SQRT_SOFTPLUS ? sqrtf(softplus(logits[i]))
                                                    : sigmoid(logits[i]);
}

void jt_gate_inverse(jt_gating gating, float *logits, const float *scores, size_t n)
{
    static const float least = 1e-12f, most = 1.0f - 1e-7f;
    for (size_t i = 0; i < n; i++) {
        float p = scores[i] > least ? scores[i] : least;
        if (gating == JT_GATE_SQRT_SOFTPLUS)
            logits[i] = p * p > 20.0f ? p * p : logf(expm1f(p * p));
        else if (gating == JT_GATE_SIGMOID)
            logits[i] = logf(p) - log1pf(-(p < most ? p : most));
        else
            logits[i] = logf(p);
    }
}

void jt_gate_back(const jt_kernels *kernels, jt_gating gating, float *dlogits,
                  const float *dscores, const float *scores, const float *logits,
                  size_t n)
{
    if (gating == JT_GATE_SOFTMAX || gating == JT_GATE_SPARSEMIXER) {
        kernels->softmax_back(dlogits, dscores, scores, n);
        return;
    }
    for (size_t e = 0; e < n; e++) {
        float p = scores[e], slope = p * (1.0f - p);
        if (gating == JT_GATE_SQRT_SOFTPLUS)
            slope = p > 0.0f ? sigmoid(logits[e]) / (2.0f * p) : 0.0f;
        dlogits[e] += dscores[e] * slope;
    }
}

/* ---- SparseMixer ---- */

static bool taken(const int32_t *chosen, int before, size_t e)
{
    for (int j = 0; j < before; j++) {
        if (chosen[j] == (int32_t)e)
            return true;
    }
    return false;
}

/* The softmax that expert chosen[j] has a share in: its greatest logit and its sum. */
typedef struct sparse {
    const float *logits;
    size_t n;
    const int32_t *chosen;
    int j;
    float max, sum;
} sparse;

/* exp(s - max) of a logit that takes part, else 0. */
static float sparse_term(const sparse *m, size_t e)
{
    const float near = 2.0f * 0.01f;
    float s = m->logits[e];
    if (s == -INFINITY || taken(m->chosen, m->j, e) ||
        m->max - s > near * fmaxf(fabsf(s), m->max))
        return 0.0f;
    return expf(s - m->max);
}

static sparse sparse_of(const float *logits, size_t n, const int32_t *chosen, int j)
{
    sparse m = {logits, n, chosen, j, logits[chosen[j]], 0.0f};
    for (size_t e = 0; e < n; e++) {
        if (logits[e] > m.max && !taken(chosen, j, e))
            m.max = logits[e];
    }
    for (size_t e = 0; e < n; e++)
        m.sum += sparse_term(&m, e);
    return m;
}

void jt_sparsemixer(const float *logits, size_t n, const int32_t *chosen, int k,
                    float *weight)
{
    for (int j = 0; j < k; j++) {
        weight[j] = 0.0f;
        if (chosen[j] < 0)
            continue;
        sparse m = sparse_of(logits, n, chosen, j);
        weight[j] = sparse_term(&m, (size_t)chosen[j]) / m.sum;
    }
}

void jt_sparsemixer_back(const float *logits, size_t n, const int32_t *chosen, int k,
                         const float *dweight, float *dlogits)
{
    for (int j = 0; j < k; j++) {
        if (chosen[j] < 0)
            continue;
        sparse m = sparse_of(logits, n, chosen, j);
        float along = dweight[j] * sparse_term(&m, (size_t)chosen[j]) / m.sum;
        dlogits[chosen[j]] += along;
        for (size_t e = 0; e < n; e++)
            dlogits[e] -= along * sparse_term(&m, e) / m.sum;
    }
}

/* ---- weights ---- */

void jt_gate_chosen(const jt_kernels *kernels, const jt_router *r, const float *logits,
                    const float *scores, size_t n, const int32_t *chosen, int k,
                    float *gated)
{
    if (r->gating == JT_GATE_SPARSEMIXER) {
        jt_sparsemixer(logits, n, chosen, k, gated);
        return;
    }
    float nothing = r->gate_after ? -INFINITY : 0.0f;
    for (int j = 0; j < k; j++)
        gated[j] =
            chosen[j] >= 0 ? (r->gate_after ? logits : scores)[chosen[j]] : nothing;
    if (r->gate_after)
        jt_gate(kernels, r->gating, gated, gated, (size_t)k);
}
