/* The scalar table: what needs the C library only. */
#include <math.h>

#include "kernels/c/backward.h"
#include "kernels/c/glu.h"
#include "kernels/c/loops.h"
#include "kernels/c/matmul.h"
#include "kernels/c/recur.h"
#include "kernels/c/thin.h"

static void dequant_f16(float *dst, const void *src, size_t n)
{
    const uint8_t *bytes = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        dst[i] = jt_f16_to_float(bits);
    }
}

static void f32_to_f16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = jt_float_to_f16(x[i]);
}

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    float factor = (float)(1 / sqrt(sum / (double)n + eps));
    for (size_t i = 0; i < n; i++)
        y[i] = w ? x[i] * factor * w[i] : x[i] * factor;
}

static void softcap(float *y, const float *x, float cap, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = cap * tanhf(x[i] / cap);
}

static void softmax(float *y, const float *x, size_t n)
{
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - max);
        sum += y[i];
    }
    scale(y, (float)(1 / sum), y, n);
}

/* Value i of the row that starts `skip` bytes on. */
static float kv_value(const void *kv, jt_dtype type, size_t skip, size_t i)
{
    const uint8_t *row = (const uint8_t *)kv + skip;
    const jt_q8_0 *bytes = (const void *)row;
    const jt_q4_0 *nibbles = (const void *)row;
    size_t b = i / 32, at = i % 32;
    uint16_t half;
    float value;
    switch (type) {
    case JT_Q8_0:
        return jt_f16_to_float(bytes[b].d) * (float)bytes[b].qs[at];
    case JT_Q4_0:
        return jt_f16_to_float(nibbles[b].d) *
               (float)((nibbles[b].qs[at % 16] >> at / 16 * 4 & 15) - 8);
    case JT_F16:
        memcpy(&half, row + i * sizeof half, sizeof half);
        return jt_f16_to_float(half);
    default:
        memcpy(&value, row + i * sizeof value, sizeof value);
        return value;
    }
}

/* Value e of key `row`. */
static float key_value(const jt_attn *a, size_t row, size_t e)
{
    if (a->k_tiled)
        return kv_value(a->k, a->k_type, 0, jt_attn_key(row, e, (size_t)a->k_dim));
    return kv_value(a->k, a->k_type, row * jt_dtype_row_bytes(a->k_type, a->k_stride),
                    e);
}

static float capped(float score, float cap)
{
    return cap > 0 ? cap * tanhf(score / cap) : score;
}

/* One query over the positions from .. to of one block: scores in `p`, then weights;
 * the running maximum and sum, and what is summed in `out`, move to the new maximum. */
static void attend_block(const jt_attn *a, int j, int from, int to, float *max,
                         float *sum)
{
    float p[JT_ATTN_BLOCK], top = *max;
    const float *q = a->q + (size_t)j * a->q_stride;
    float *out = a->out + (size_t)j * a->out_stride;
    for (int i = from; i < to; i++) {
        float dot = 0;
        for (size_t e = 0; e < (size_t)a->k_dim; e++)
            dot += q[e] * key_value(a, (size_t)i % a->rows, e);
        p[i - from] = capped(dot * a->scale, a->softcap);
        top = p[i - from] > top ? p[i - from] : top;
    }
    float shrink = expf(*max - top);
    *max = top;
    *sum *= shrink;
    scale(out, shrink, out, (size_t)a->v_dim);
    for (int i = from; i < to; i++) {
        size_t at = (size_t)i % a->rows * jt_dtype_row_bytes(a->v_type, a->v_stride);
        float weight = expf(p[i - from] - top);
        *sum += weight;
        for (size_t e = 0; e < (size_t)a->v_dim; e++)
            out[e] += weight * kv_value(a->v, a->v_type, at, e);
    }
}

static void attention(const jt_attn *a)
{
    for (int j = 0; j < a->n_q; j++) {
        float max = a->sink ? a->sink[j] : -INFINITY, sum = a->sink ? 1 : 0;
        float *out = a->out + (size_t)j * a->out_stride;
        memset(out, 0, (size_t)a->v_dim * sizeof *out);
        for (int from = a->from[j]; from < a->to[j];) {
            int next = (from / JT_ATTN_BLOCK + 1) * JT_ATTN_BLOCK;
            int to = next < a->to[j] ? next : a->to[j];
            attend_block(a, j, from, to, &max, &sum);
            from = to;
        }
        if (sum > 0)
            scale(out, 1 / sum, out, (size_t)a->v_dim);
        if (a->lse)
            a->lse[j] = max + logf(sum);
    }
}

static float narrow(float x, jt_precision precision)
{
    return precision == JT_PRECISION_F32 ? x : jt_bf16_to_float(jt_float_to_bf16(x));
}

static void gemm(const jt_gemm *g)
{
    for (size_t i = 0; i < g->m; i++) {
        const float *a = g->a + (g->a_index ? (size_t)g->a_index[i] : i) * g->a_row;
        for (size_t j = 0; j < g->n; j++) {
            float sum = 0;
            for (size_t k = 0; k < g->k; k++) {
                size_t at = g->b_index ? (size_t)g->b_index[k] : k;
                sum += narrow(a[k * g->a_col], g->precision) *
                       narrow(g->b[at * g->b_row + j * g->b_col], g->precision);
            }
            float *c = &g->c[i * g->ldc + j];
            *c = g->accumulate ? *c + sum : sum;
        }
    }
}

/* Chains enough for whatever registers the compiler finds. */
enum { CHAINS = 32 };

static double spin_f32(long steps)
{
    float x[CHAINS] = {0}, sum = 0;
    for (long s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            x[i] = 0.999f * x[i] + 0.999f;
    for (int i = 0; i < CHAINS; i++)
        sum += x[i];
    return isfinite(sum) ? 2.0 * CHAINS * (double)steps : 0;
}

static double spin_int8(long steps)
{
    uint32_t x[CHAINS], sum = 0;
    for (int i = 0; i < CHAINS; i++)
        x[i] = (uint32_t)(steps + i);
    for (long s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            x[i] += (uint32_t)((int8_t)x[i] * (int8_t)(s + i));
    for (int i = 0; i < CHAINS; i++)
        sum |= x[i];
    /* never true, which the compiler does not know */
    return sum == 1 ? 0 : 2.0 * CHAINS * (double)steps;
}

void jt_kernels_init_scalar(jt_kernels *table)
{
    table->name = "scalar";
    set_loops(table);
    jt_scalar_matmuls(table->matmul);
    jt_scalar_thin(table);
    table->dequant[JT_F16] = dequant_f16;
    table->f32_to_f16 = f32_to_f16;
    table->rms_norm = rms_norm;
    table->softcap = softcap;
    table->softmax = softmax;
    table->attention = attention;
    table->gemm = gemm;
    jt_scalar_backward(table);
    table->glu = jt_plain_glu;
    table->glu_back = jt_plain_glu_back;
    jt_scalar_recur(table);
    table->spin[JT_SPIN_F32] = spin_f32;
    table->spin[JT_SPIN_INT8] = spin_int8;
}
