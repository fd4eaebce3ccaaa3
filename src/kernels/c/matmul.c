/* Scalar matrix products: the truth.
 *
 * Plain weights: products are summed in the order of i, in float.
 * Quantised weights: integer sums of code products within a group are exact; then for
 * each 32 activations, in order and with a rounding after each operation,
 *     part = isum * scale                  (groups of 16: isum0 * scale0, then
 *                                           + isum1 * scale1)
 *     part = part + bias * sum(q)          (formats with a bias, group by group)
 *     y    = y + part * d
 * Every other level keeps to this, so quantised products are the same bits everywhere.
 */
#include "kernels/c/matmul.h"

#include "kernels/c/codes.h"
#include "kernels/c/codes_table.h"

typedef struct q8_row {
    const int8_t *q;
    const char *d, *sum; /* float[n / 32], int16[n / 16], at any address */
} q8_row;

static const char *act_row(const jt_matmul_args *m, size_t t)
{
    return (const char *)m->x + (m->index ? (size_t)m->index[t] : t) * m->x_bytes;
}

static q8_row q8_at(const char *row, size_t n)
{
    const char *d = row + jt_pad64(n);
    return (q8_row){(const int8_t *)row, d, d + jt_pad64(n / 32 * 4)};
}

static float load_float(const char *p)
{
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

static float load_half(const char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return jt_f16_to_float(h);
}

static float load_bf16(const char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return jt_bf16_to_float(h);
}

#define X(lower, load, bytes)                                               \
    static void matmul_##lower(const jt_matmul_args *m)                     \
    {                                                                       \
        for (size_t t = 0; t < m->tokens; t++) {                            \
            const char *act = act_row(m, t);                                \
            for (size_t r = 0; r < m->rows; r++) {                          \
                const char *row = (const char *)m->w + r * m->row_bytes;    \
                float sum = 0;                                              \
                for (size_t i = 0; i < m->n; i++)                           \
                    sum += load(row + (bytes)*i) * load_float(act + 4 * i); \
                m->y[t * m->ldy + r] = sum;                                 \
            }                                                               \
        }                                                                   \
    }
X(f32, load_float, 4)
X(f16, load_half, 2)
X(bf16, load_bf16, 2)
#undef X

/* Sum of the activation codes that belong to group g of a block at `at`. */
static inline float code_sum(const q8_row *x, size_t at, int g, int group)
{
    int16_t sum[2] = {0, 0};
    const char *first = x->sum + (at + (size_t)(g * group)) / 16 * sizeof *sum;
    memcpy(sum, first, (size_t)group / 16 * sizeof *sum);
    return (float)(sum[0] + sum[1]);
}

/* y + codes of one block times activations from position `at`. */
static inline float dot_block(float y, const codes *c, const q8_row *x, size_t at,
                              int values, int group, bool bias)
{
    for (int first = 0; first < values; first += 32) {
        const int g0 = first / group, g1 = (first + 32) / group;
        float part = 0;
        for (int g = g0; g < g1; g++) {
            int isum = 0;
            for (int i = g * group; i < (g + 1) * group; i++)
                isum += c->q[i] * x->q[at + (size_t)i];
            part += (float)isum * c->scale[g];
        }
        for (int g = g0; bias && g < g1; g++)
            part += c->bias[g] * code_sum(x, at, g, group);
        y += part * load_float(x->d + (at + (size_t)first) / 32 * sizeof y);
    }
    return y;
}

#define X(suffix, lower, values, group, bias, offset, top)                     \
    static void matmul_##lower(const jt_matmul_args *m)                        \
    {                                                                          \
        for (size_t r = 0; r < m->rows; r++) {                                 \
            const jt_##lower *block =                                          \
                (const void *)((const char *)m->w + r * m->row_bytes);         \
            for (size_t t = 0; t < m->tokens; t++)                             \
                m->y[t * m->ldy + r] = 0;                                      \
            for (size_t at = 0; at < m->n; at += (values), block++) {          \
                codes c;                                                       \
                unpack_##lower(&c, block);                                     \
                for (size_t t = 0; t < m->tokens; t++) {                       \
                    q8_row act = q8_at(act_row(m, t), m->n);                   \
                    float *out = &m->y[t * m->ldy + r];                        \
                    *out = dot_block(*out, &c, &act, at, values, group, bias); \
                }                                                              \
            }                                                                  \
        }                                                                      \
    }
JT_QUANT_LIST(X)
#undef X

void jt_scalar_matmuls(jt_matmul matmul[JT_DTYPE_COUNT])
{
    matmul[JT_F32] = (jt_matmul){.act = JT_ACT_F32, .fn = matmul_f32};
    matmul[JT_F16] = (jt_matmul){.act = JT_ACT_F32, .fn = matmul_f16};
    matmul[JT_BF16] = (jt_matmul){.act = JT_ACT_F32, .fn = matmul_bf16};
#define X(suffix, lower, values, group, bias, offset, top) \
    matmul[JT_##suffix] = (jt_matmul){.act = JT_ACT_Q8, .fn = matmul_##lower};
    JT_QUANT_LIST(X)
#undef X
}
