#include "nn/rope.h"

#include <math.h>

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

jt_angles jt_rope_back(jt_context *ctx, const jt_angles *angles)
{
    jt_angles back = *angles;
    back.sin = jt_new(ctx, jt_rows(&angles->sin), jt_cols(&angles->sin));
    if (!jt_failed(ctx))
        ctx->kernels->scale(back.sin.data, -1.0f, angles->sin.data,
                            jt_rows(&back.sin) * jt_cols(&back.sin));
    return back;
}
