/* Bottleneck adapters (Houlsby et al. 2019, "Parameter-efficient transfer learning for
 * NLP", section 2.1, after a half of a layer; Chen et al. 2022, "AdaptFormer", section
 * 3.2, beside an FFN):
 *   y += s (U f(D x + d) + u),  s = alpha / r
 * and with a gate (Shazeer 2020, "GLU variants improve transformer"):
 *   y += s (U (f(G x + g) * (D x + d)) + u)
 * U and u begin as 0. */
#include <string.h>

#include "adapt/made.h"

enum { DOWN, DOWN_BIAS, UP, UP_BIAS, GATE, GATE_BIAS, TENSORS };
enum { ACTIVATION };

static const char *const tails[TENSORS] = {"down",    "down_bias", "up",
                                           "up_bias", "gate",      "gate_bias"};

static jt_tensor part(const jt_adapter *a, const jt_adapter_place *p, int which)
{
    return a->source[p->source[which]].t;
}

static bool has_gate(const jt_adapter_place *p)
{
    return p->source[GATE] != p->source[DOWN];
}

/* ---- forward ---- */

/* f(D x + d), or with its gate */
static jt_tensor narrow(const jt_adapter *a, const jt_adapter_place *p, jt_context *ctx,
                        const jt_tensor *x)
{
    static const jt_activation functions[] = {JT_SILU, JT_GELU};
    static const jt_tensor none;
    jt_activation f = functions[(int)a->setting[ACTIVATION]];
    jt_tensor down = part(a, p, DOWN), down_bias = part(a, p, DOWN_BIAS);
    jt_tensor gate = part(a, p, GATE), gate_bias = part(a, p, GATE_BIAS);
    jt_input in = jt_input_of(*x);
    jt_tensor h = jt_linear(ctx, &in, &down, &down_bias);
    if (!has_gate(p))
        return jt_glu(ctx, f, &h, &none);
    jt_tensor g = jt_linear(ctx, &in, &gate, &gate_bias);
    return jt_glu(ctx, f, &g, &h);
}

static void at_place(const jt_adapter *a, const jt_adapter_place *p, jt_context *ctx,
                     const jt_tensor *x, float scale, const float *weight, jt_tensor *y)
{
    jt_tensor up = part(a, p, UP), up_bias = part(a, p, UP_BIAS);
    jt_input h = jt_input_of(narrow(a, p, ctx, x));
    jt_tensor change = jt_linear(ctx, &h, &up, &up_bias);
    jt_scale(ctx, &change, scale);
    for (size_t t = 0; weight && t < jt_rows(x) && !jt_failed(ctx); t++) {
        float *row = jt_row(&change, t);
        ctx->kernels->scale(row, weight[t], row, p->cols);
    }
    jt_add_to(ctx, y, &change);
}

static bool all_zero(jt_tensor t)
{
    const float *x = t.data;
    for (size_t i = 0; i < jt_rows(&t) * jt_cols(&t); i++) {
        if (x[i] != 0.0f)
            return false;
    }
    return true;
}

static bool is_fresh_place(const jt_adapter *a, const jt_adapter_place *p)
{
    return all_zero(part(a, p, UP)) && all_zero(part(a, p, UP_BIAS));
}

/* ---- a fresh one ---- */

static jt_status start_place(jt_adapter *a, jt_adapter_place *p,
                             const jt_adapter_options *o, uint64_t stream, jt_err *err)
{
    const size_t narrow_shape[] = {p->rank, p->cols}, wide_shape[] = {p->cols, p->rank};
    jt_str target = {p->name, strlen(p->name)};
    for (int i = 0; i < (o->gated ? TENSORS : GATE); i++) {
        bool bias = i % 2 == 1, wide = i == UP || i == UP_BIAS;
        JT_TRY(jt_adapter_add_source(a, &p->source[i], target, tails[i], JT_F32,
                                     bias ? 1 : 2, wide ? wide_shape : narrow_shape,
                                     err));
        jt_adapter_source *s = &a->source[p->source[i]];
        s->trained = true;
        if (!bias && !wide)
            jt_low_rank_start_a(s->t.data, p->rank * p->cols, p->cols, o->seed,
                                stream + (uint64_t)i);
    }
    if (!o->gated)
        p->source[GATE] = p->source[DOWN];
    return JT_OK;
}

static jt_status begin(jt_adapter *a, const jt_adapter_options *o, jt_err *err)
{
    a->setting[ACTIVATION] = strcmp(o->activation, "gelu") == 0;
    for (size_t i = 0; i < a->n_places; i++)
        JT_TRY(start_place(a, &a->place[i], o, (UINT64_C(5) << 32) + 8 * i, err));
    return JT_OK;
}

/* ---- from a file ---- */

static bool has_shape(const jt_adapter *a, size_t at, size_t rows, size_t cols)
{
    const jt_tensor *t = &a->source[at].t;
    return t->n_dims == 1 ? t->shape[0] == rows * cols
                          : t->shape[0] == rows && t->shape[1] == cols;
}

static jt_status bind_place(jt_adapter *a, size_t at, jt_str target, float alpha,
                            jt_err *err)
{
    jt_adapter_place *p;
    if (a->source[at].t.n_dims != 2)
        return jt_adapter_fail_source(a, at, err);
    size_t rank = a->source[at].t.shape[0], cols = a->source[at].t.shape[1];
    bool gated = jt_adapter_has_source(a, target, tails[GATE]);
    JT_TRY(jt_adapter_add_place(a, &p, target, cols, rank, alpha, err));
    for (int i = 0; i < (gated ? TENSORS : GATE); i++) {
        bool bias = i % 2 == 1, wide = i == UP || i == UP_BIAS;
        size_t rows = wide ? cols : rank, width = wide ? rank : cols;
        JT_TRY(jt_adapter_need_source(a, target, tails[i], JT_F32, bias ? 1 : 2,
                                      &p->source[i], err));
        if (!has_shape(a, p->source[i], rows, bias ? 1 : width))
            return jt_adapter_fail_source(a, p->source[i], err);
        a->source[p->source[i]].trained = true;
    }
    if (!gated)
        p->source[GATE] = p->source[DOWN];
    return JT_OK;
}

static jt_status bind(jt_adapter *a, float alpha, jt_err *err)
{
    float f = a->setting[ACTIVATION];
    if (f != 0.0f && f != 1.0f)
        return jt_fail(err, JT_E_FORMAT,
                       "the metadata 'junto.adapter.activation' is %g, expected 0 "
                       "(SiLU) or 1 (GELU)",
                       (double)f);
    return jt_adapter_bind_each(a, tails[DOWN], bind_place, alpha, err);
}

static const jt_adapter_making making = {.start = begin, .bind = bind};

const jt_adapter_kind jt_adapter_bottleneck = {.name = "bottleneck",
                                               .what = "layers of their own",
                                               .setting = {"activation"},
                                               .by_token = true,
                                               .making = &making,
                                               .scale = jt_low_rank_by_rank,
                                               .at_place = at_place,
                                               .is_fresh_place = is_fresh_place};
