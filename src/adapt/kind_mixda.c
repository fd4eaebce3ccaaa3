/* MixDA (Diao et al. 2023, "Mixture-of-domain-adapters: decoupling and injecting domain
 * knowledge to pre-trained language models' memories", sections 3.2 and 3.3; formulas
 * as in the authors' code). At the second matrix W of an FFN, whose input is h, n
 * domain adapters and W itself are mixed by a gate:
 *
 *   a_i = U_i gelu(D_i h + d_i) + u_i,  w = softmax(MLP(h)) of n + 1 values
 *   y = w_n+1 W h + sum_i w_i a_i (+ a_task)
 *
 * The MLP has three layers with a ReLU after each and one more. D of all adapters are
 * one matrix A, U one B; ranks of a task adapter, which always works, come last.
 *
 * The paper's encoder takes h at the last position for the gate of a whole sequence. A
 * model that reads from left to right has no such position but the token at hand, so
 * here each token has a gate of its own. */
#include "adapt/mixda.h"

#include <math.h>
#include <string.h>

#include "adapt/made.h"
#include "base/random.h"
#include "tensor/tape.h"

static size_t setting(const jt_adapter_slot *s, int which)
{
    return (size_t)s->setting[which];
}

/* Adapter that rank k belongs to: 0 .. n - 1, n for the task's. */
static size_t owner(const jt_adapter_slot *s, size_t k)
{
    size_t n = setting(s, JT_MIXDA_DOMAINS), task = setting(s, JT_MIXDA_TASK_RANK);
    size_t each = (s->rank - task) / n;
    return k < n * each ? k / each : n;
}

/* ---- the gate ---- */

static jt_tensor gate_logits(jt_context *ctx, const jt_adapter_slot *s, jt_tensor h)
{
    for (int i = 0; i < JT_MIXDA_LAYERS && !jt_failed(ctx); i++) {
        jt_input x = jt_input_of(h);
        h = jt_linear(ctx, &x, &s->part[JT_MIXDA_GATE + 2 * i],
                      &s->part[JT_MIXDA_GATE + 2 * i + 1]);
        if (i + 1 < JT_MIXDA_LAYERS)
            jt_relu(ctx, &h);
    }
    return h;
}

/* ---- mixing ---- */

typedef struct mixing {
    const jt_adapter_slot *slot;
    jt_product p;
    float scale;            /* of the adapter: 0 leaves W h as it is */
    const float *weight;    /* [tokens] beside it, or NULL */
    jt_tensor logits, z, y; /* [tokens, n + 1], [tokens, rank], z w */
    float *w;               /* [tokens, n + 1] */
    float *old;             /* [tokens, rows] W h; with a tape */
    float *apart; /* [tokens, rows] y - W h in the end, times what the gradient
                     of keeping has; or NULL */
} mixing;

static float share_of(const mixing *m, size_t t)
{
    return m->weight ? m->scale * m->weight[t] : m->scale;
}

/* z *= w of its adapter; y = (1 + s (w_n+1 - 1)) W h + s sum_i w_i u_i. The low-rank
 * change that follows multiplies by s. */
static void mix_token(void *arg, size_t t)
{
    const mixing *m = arg;
    const jt_adapter_slot *s = m->slot;
    const jt_tensor *bias = &s->part[JT_MIXDA_B_BIAS];
    size_t n = setting(s, JT_MIXDA_DOMAINS), rows = s->rows;
    float *w = m->w + t * (n + 1), *y = m->p.y + t * m->p.ldy, share = share_of(m, t);
    float most = -INFINITY, sum = 0.0f;
    const float *logits = jt_row(&m->logits, t), *z = jt_row(&m->z, t);
    if (m->old)
        memcpy(m->old + t * rows, y, rows * sizeof *y);
    for (size_t i = 0; i <= n; i++)
        most = fmaxf(most, logits[i]);
    for (size_t i = 0; i <= n; i++)
        sum += w[i] = expf(logits[i] - most);
    for (size_t i = 0; i <= n; i++)
        w[i] /= sum;
    for (size_t k = 0; k < s->rank; k++)
        jt_row(&m->y, t)[k] = z[k] * (owner(s, k) < n ? w[owner(s, k)] : 1.0f);
    for (size_t r = 0; r < rows; r++)
        y[r] *= 1.0f + share * (w[n] - 1.0f);
    for (size_t i = 0; i < jt_rows(bias); i++) {
        float factor = share * (i < n ? w[i] : 1.0f);
        for (size_t r = 0; r < rows; r++)
            y[r] += factor * jt_row(bias, i)[r];
    }
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* dw_i = dy . s u_i + sum of dz' z,  dw_n+1 = s dy . W h,  dlogits = w (dw - w . dw) */
static void mix_token_back(void *arg, size_t t)
{
    const mixing *m = arg;
    const jt_adapter_slot *s = m->slot;
    const jt_tensor *bias = &s->part[JT_MIXDA_B_BIAS];
    size_t n = setting(s, JT_MIXDA_DOMAINS), rows = s->rows;
    const float *w = m->w + t * (n + 1), *z = jt_row(&m->z, t),
                *dlow = jt_grad_row(&m->y, t);
    float *dy = m->p.y_grad + t * m->p.ldy, *dz = jt_grad_row(&m->z, t);
    float *dlogits = jt_grad_row(&m->logits, t), share = share_of(m, t);
    double dw[JT_MIXDA_MOST + 1] = {0.0}, mean = 0.0;
    for (size_t k = 0; k < s->rank; k++) {
        size_t i = owner(s, k);
        dz[k] += dlow[k] * (i < n ? w[i] : 1.0f);
        if (i < n)
            dw[i] += (double)dlow[k] * (double)z[k];
    }
    for (size_t i = 0; i < n; i++)
        dw[i] += (double)share * dot(dy, jt_row(bias, i), rows);
    dw[n] = (double)share * dot(dy, m->old + t * rows, rows);
    for (size_t i = 0; i <= n; i++)
        mean += dw[i] * (double)w[i];
    for (size_t i = 0; i <= n; i++)
        dlogits[i] += w[i] * (float)(dw[i] - mean);
}

/* du_i += s w_i dy, by tokens in order. */
static void bias_back(const mixing *m)
{
    const jt_adapter_slot *s = m->slot;
    const jt_tensor *bias = &s->part[JT_MIXDA_B_BIAS];
    size_t n = setting(s, JT_MIXDA_DOMAINS);
    for (size_t t = 0; t < m->p.tokens && bias->grad; t++) {
        const float *dy = m->p.y_grad + t * m->p.ldy, *w = m->w + t * (n + 1);
        for (size_t i = 0; i < jt_rows(bias); i++) {
            float factor = share_of(m, t) * (i < n ? w[i] : 1.0f);
            for (size_t r = 0; r < s->rows; r++)
                jt_grad_row(bias, i)[r] += factor * dy[r];
        }
    }
}

/* The gradient of W h is what is left: dy (1 + s (w_n+1 - 1)), less that of keeping. */
static void old_back(const mixing *m)
{
    size_t n = setting(m->slot, JT_MIXDA_DOMAINS), rows = m->slot->rows;
    for (size_t t = 0; t < m->p.tokens; t++) {
        float *dy = m->p.y_grad + t * m->p.ldy;
        float factor = 1.0f + share_of(m, t) * (m->w[t * (n + 1) + n] - 1.0f);
        for (size_t r = 0; r < rows; r++)
            dy[r] = factor * dy[r] - (m->apart ? m->apart[t * rows + r] : 0.0f);
    }
}

static void mix_backward(jt_context *ctx, void *saved)
{
    mixing *const *m = saved;
    size_t tokens = (*m)->p.tokens;
    jt_for_rows(ctx, tokens, 8 * tokens * (*m)->slot->rows, mix_token_back, *m);
    bias_back(*m);
    old_back(*m);
}

/* ---- keeping ---- */

/* The gradient of the mean square of y - W h, added to that of y. */
static void keep_backward(jt_context *ctx, void *saved)
{
    mixing *const *m = saved;
    size_t rows = (*m)->slot->rows;
    for (size_t t = 0; t < (*m)->p.tokens; t++)
        ctx->kernels->add((*m)->p.y_grad + t * (*m)->p.ldy, (*m)->apart + t * rows,
                          rows);
}

static void keep(jt_context *ctx, mixing *m)
{
    const jt_mixda_keeping *k = m->slot->keeping;
    size_t rows = m->slot->rows, tokens = m->p.tokens;
    float factor = 2.0f * k->scale / (float)(k->slots * k->tokens * rows);
    m->apart = jt_scratch(ctx, tokens * rows, sizeof *m->apart);
    for (size_t i = 0; i < tokens * rows && !jt_failed(ctx); i++) {
        float apart = m->p.y[i / rows * m->p.ldy + i % rows] - m->old[i];
        m->apart[i] = k->kept[i / rows] ? factor * apart : 0.0f;
    }
    if (!jt_failed(ctx))
        jt_tape_push(ctx, keep_backward, &m, sizeof m);
}

/* ---- at the products ---- */

/* Rows of x, to be read beside the products: their gradient goes back late. */
static jt_tensor copy_input(jt_context *ctx, const jt_use *u)
{
    jt_tensor h = jt_new(ctx, u->p.tokens, jt_cols(&u->x));
    if (!jt_failed(ctx))
        memcpy(h.data, jt_row(&u->x, u->p.first),
               jt_rows(&h) * jt_cols(&h) * sizeof(float));
    return h;
}

static mixing *begin(jt_context *ctx, jt_use *u)
{
    const jt_adapter_slot *s = u->slot;
    static const jt_tensor none;
    size_t tokens = u->p.tokens, n = setting(s, JT_MIXDA_DOMAINS);
    if (u->p.via || jt_rows(&u->p.w) != s->rows)
        jt_fail(&ctx->err, JT_E_UNSUPPORTED, "domain adapters at '%s' in this family",
                s->target);
    mixing *m = jt_scratch(ctx, 1, sizeof *m);
    u->own = copy_input(ctx, u);
    if (jt_failed(ctx))
        return NULL;
    jt_add_bias(ctx, &u->low.x, &s->part[JT_MIXDA_A_BIAS]);
    *m = (mixing){.slot = s,
                  .p = u->p,
                  .scale = u->scale,
                  .weight = u->weight,
                  .logits = gate_logits(ctx, s, u->own),
                  .z = jt_glu(ctx, JT_GELU_ERF, &u->low.x, &none),
                  .y = jt_new(ctx, tokens, s->rank),
                  .w = jt_scratch(ctx, tokens * (n + 1), sizeof(float))};
    if (ctx->tape)
        m->old = jt_scratch(ctx, tokens * s->rows, sizeof(float));
    return m;
}

static void change(jt_context *ctx, jt_use *uses, size_t count)
{
    mixing **all = jt_scratch(ctx, count, sizeof *all);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        all[i] = begin(ctx, &uses[i]);
        if (jt_failed(ctx))
            return;
        jt_for_rows(ctx, uses[i].p.tokens, 8 * uses[i].p.tokens * uses[i].slot->rows,
                    mix_token, all[i]);
        jt_tape_push(ctx, mix_backward, &all[i], sizeof all[i]);
        uses[i].low = jt_input_of(all[i]->y);
    }
    if (jt_failed(ctx))
        return;
    jt_low_rank_change(ctx, uses, count);
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        const jt_mixda_keeping *k = uses[i].slot->keeping;
        if (k && k->tokens && k->scale > 0.0f && ctx->tape)
            keep(ctx, all[i]);
    }
}

static void back_late(jt_context *ctx, const jt_use *uses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const jt_tensor *x = &uses[i].x, *own = &uses[i].own;
        if (x->grad)
            ctx->kernels->add(jt_grad_row(x, uses[i].p.first), own->grad,
                              jt_rows(own) * jt_cols(own));
    }
}

/* ---- parts ---- */

static jt_status check_settings(const jt_adapter_slot *s, jt_err *err)
{
    static const double most[] = {JT_MIXDA_MOST, JT_ADAPTER_MOST_RANK,
                                  JT_ADAPTER_MOST_RANK};
    for (int i = 0; i < 3; i++) {
        double x = (double)s->setting[i];
        if (!(x >= (i < 2) && x <= most[i]) || x != trunc(x))
            return jt_fail(
                err, JT_E_FORMAT,
                "the metadata 'junto.adapter.%s' is %g, which makes no sense",
                jt_adapter_mixda.setting[i], x);
    }
    size_t n = setting(s, JT_MIXDA_DOMAINS), task = setting(s, JT_MIXDA_TASK_RANK);
    if (s->count != 1 || s->rank <= task || (s->rank - task) % n)
        return jt_fail(err, JT_E_FORMAT,
                       "'%s' has %zu ranks for %zu domains and a task of %zu",
                       s->target, s->rank, n, task);
    return JT_OK;
}

static jt_status make_more(jt_adapter_slot *s, jt_err *err)
{
    JT_TRY(check_settings(s, err));
    size_t n = setting(s, JT_MIXDA_DOMAINS), width = setting(s, JT_MIXDA_GATE_WIDTH);
    size_t biases = n + (setting(s, JT_MIXDA_TASK_RANK) > 0);
    bool ok =
        jt_adapter_make_part(&s->part[JT_MIXDA_A_BIAS], 1, &s->rank) &&
        jt_adapter_make_part(&s->part[JT_MIXDA_B_BIAS], 2, (size_t[]){biases, s->rows});
    for (int i = 0; i < JT_MIXDA_LAYERS && ok; i++) {
        size_t rows = i + 1 < JT_MIXDA_LAYERS ? width : n + 1;
        size_t cols = i ? width : s->cols;
        ok = jt_adapter_make_part(&s->part[JT_MIXDA_GATE + 2 * i], 2,
                                  (size_t[]){rows, cols}) &&
             jt_adapter_make_part(&s->part[JT_MIXDA_GATE + 2 * i + 1], 1, &rows);
    }
    return ok ? JT_OK : jt_fail_memory(err, "making an adapter");
}

void jt_mixda_start_gate(jt_adapter_slot *s, uint64_t seed, uint64_t stream)
{
    jt_rng rng = {seed, (UINT64_C(8) << 32) + stream, 0};
    for (int i = 0; i < 2 * JT_MIXDA_LAYERS; i++) {
        jt_tensor *t = &s->part[JT_MIXDA_GATE + i];
        float most = 1.0f / sqrtf((float)jt_cols(&s->part[JT_MIXDA_GATE + i / 2 * 2]));
        for (size_t j = 0; j < jt_rows(t) * jt_cols(t); j++)
            ((float *)t->data)[j] = (2.0f * jt_rng_float(&rng) - 1.0f) * most;
    }
}

static void zero(jt_tensor *t)
{
    memset(t->data, 0, jt_rows(t) * jt_cols(t) * sizeof(float));
}

static void start_more(jt_adapter_slot *s, uint64_t seed, uint64_t stream)
{
    zero(&s->part[JT_MIXDA_A_BIAS]);
    zero(&s->part[JT_MIXDA_B_BIAS]);
    jt_mixda_start_gate(s, seed, stream);
}

/* Ranks of domains and their biases stay. */
static void freeze(const jt_adapter *a)
{
    jt_ranks_freeze(a);
    for (size_t i = 0; i < a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i];
        if (!s->frozen)
            continue;
        memset(s->part[JT_MIXDA_A_BIAS].grad, 0, s->frozen * sizeof(float));
        memset(s->part[JT_MIXDA_B_BIAS].grad, 0,
               setting(s, JT_MIXDA_DOMAINS) * s->rows * sizeof(float));
    }
}

/* ---- the kind ---- */

static float one(float alpha, size_t rank)
{
    (void)alpha;
    (void)rank;
    return 1.0f;
}

/* The gate takes from W h from the start. */
static bool never(const jt_adapter_slot *s, const float *norm)
{
    (void)s;
    (void)norm;
    return false;
}

const jt_adapter_kind jt_adapter_mixda = {
    .name = "mixda",
    .what = "domain adapters and a gate at the second matrix of an FFN",
    .part = {"mixda_a", "mixda_b", "mixda_a_bias", "mixda_b_bias", "mixda_gate0",
             "mixda_gate0_bias", "mixda_gate1", "mixda_gate1_bias", "mixda_gate2",
             "mixda_gate2_bias", "mixda_gate3", "mixda_gate3_bias"},
    .setting = {"domains", "gate_width", "task_rank"},
    .low_rank = true,
    .by_token = true,
    .scale = one,
    .make_more = make_more,
    .start_more = start_more,
    .freeze = freeze,
    .is_fresh = never,
    .merge_row = jt_low_rank_merge_row,
    .change = change,
    .back_late = back_late};
