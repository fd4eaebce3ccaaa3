#include "nn/rope.h"

#include <math.h>

#include "tensor/tape.h"

/* YaRN, section 3.2: the pair whose wavelength makes `turns` turns in the original
 * context. */
static float turning_pair(const jt_rope_params *p, float turns)
{
    float wavelengths = p->original_context / (turns * 2.0f * (float)M_PI);
    return (float)p->dims * logf(wavelengths) / (2.0f * logf(p->base));
}

/* How far pair `i` is interpolated: 0 (fast pairs, kept) to 1 (slow ones, divided by
 * the factor). */
static float yarn_ramp(const jt_rope_params *p, size_t i)
{
    float low = turning_pair(p, p->beta_fast), high = turning_pair(p, p->beta_slow);
    if (!p->exact_ramp) {
        low = floorf(low);
        high = ceilf(high);
    }
    low = fmaxf(low, 0.0f);
    high = fminf(high, (float)p->dims - 1.0f);
    if (high <= low)
        high = low + 0.001f;
    return fminf(1.0f, fmaxf(0.0f, ((float)i - low) / (high - low)));
}

static float pair_frequency(const jt_rope_params *p, size_t i)
{
    float frequency = powf(p->base, -2.0f * (float)i / (float)p->dims);
    if (p->pair_factors)
        frequency /= p->pair_factors[i];
    if (p->scaling == JT_ROPE_LINEAR)
        frequency /= p->factor;
    if (p->scaling == JT_ROPE_YARN) {
        float ramp = yarn_ramp(p, i);
        frequency = frequency / p->factor * ramp + frequency * (1.0f - ramp);
    }
    return frequency;
}

static float magnitude(const jt_rope_params *p)
{
    if (p->scaling != JT_ROPE_YARN || p->factor <= 1.0f)
        return p->magnitude;
    float log = 0.1f * logf(p->factor);
    float usual = (1.0f + log) / (1.0f + p->log_multiplier * log);
    return p->magnitude * (p->yarn_magnitude > 0.0f ? p->yarn_magnitude : usual);
}

jt_status jt_rope_init(jt_rope *out, const jt_rope_params *params, jt_err *err)
{
    jt_rope rope = {params->dims / 2, params->neox, magnitude(params), NULL};
    rope.frequency = jt_alloc(rope.pairs, sizeof(float));
    if (!rope.frequency)
        return jt_fail_memory(err, "preparing positions");
    for (size_t i = 0; i < rope.pairs; i++)
        rope.frequency[i] = pair_frequency(params, i);
    *out = rope;
    return JT_OK;
}

jt_angles jt_rope_angles(jt_context *ctx, const jt_rope *rope, const int32_t *positions,
                         size_t count)
{
    jt_angles a = {jt_new(ctx, count, rope->pairs), jt_new(ctx, count, rope->pairs),
                   rope->neox};
    if (jt_failed(ctx))
        return a;
    for (size_t t = 0; t < count; t++) {
        float *c = jt_row(&a.cos, t), *s = jt_row(&a.sin, t);
        for (size_t i = 0; i < rope->pairs; i++) {
            float angle = (float)positions[t] * rope->frequency[i];
            c[i] = cosf(angle) * rope->magnitude;
            s[i] = sinf(angle) * rope->magnitude;
        }
    }
    return a;
}

/* ---- rotating: an orthogonal matrix (times a magnitude), whose transpose turns the
 * gradient the other way ---- */

typedef struct rotation {
    const jt_kernels *kernels;
    jt_tensor x;
    jt_angles angles;
    size_t dim, at;
} rotation;

static void rotate_heads(const rotation *r, float *x, size_t t)
{
    const jt_angles *a = &r->angles;
    for (size_t at = r->at; at < jt_cols(&r->x); at += r->dim)
        r->kernels->rope(x + at, jt_row(&a->cos, t), jt_row(&a->sin, t),
                         jt_cols(&a->cos), a->neox);
}

static void rotate_row(void *arg, size_t t)
{
    const rotation *r = arg;
    rotate_heads(r, jt_row(&r->x, t), t);
}

static void rotate_back_row(void *arg, size_t t)
{
    const rotation *r = arg;
    rotate_heads(r, jt_grad_row(&r->x, t), t);
}

static void rotate_backward(jt_context *ctx, void *saved)
{
    rotation r = *(const rotation *)saved;
    const jt_tensor *sin = &r.angles.sin;
    size_t rows = jt_rows(sin), pairs = jt_cols(sin);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    float *minus = jt_scratch(ctx, rows * pairs, sizeof *minus);
    if (!jt_failed(ctx)) {
        r.kernels->scale(minus, -1.0f, sin->data, rows * pairs);
        r.angles.sin.data = minus;
        jt_for_rows(ctx, rows, rows * jt_cols(&r.x), rotate_back_row, &r);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_rope_rotate(jt_context *ctx, jt_tensor *x, size_t dim, size_t at,
                    const jt_angles *angles)
{
    rotation r = {ctx->kernels, *x, *angles, dim, at};
    if (jt_failed(ctx))
        return;
    jt_for_rows(ctx, jt_rows(x), jt_rows(x) * jt_cols(x), rotate_row, &r);
    jt_tape_push(ctx, rotate_backward, &r, sizeof r);
}
