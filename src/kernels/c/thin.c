/* Scalar thin products. */
#include "kernels/c/thin.h"

#include <string.h>

#include "base/half.h"

static float load(const void *w, size_t i, jt_dtype type)
{
    if (type == JT_F32) {
        float x;
        memcpy(&x, (const char *)w + 4 * i, sizeof x);
        return x;
    }
    uint16_t bits;
    memcpy(&bits, (const char *)w + 2 * i, sizeof bits);
    return type == JT_F16 ? jt_f16_to_float(bits) : jt_bf16_to_float(bits);
}

/* W[row, k] of panels of 8 bits whose rows have n values. */
static float load_code(const void *w, size_t row, size_t k, size_t n)
{
    const char *block = (const char *)w + jt_panel8_at(row, k, n);
    size_t lane = row % JT_PANEL_ROWS, at = k % JT_PANEL_BLOCK * JT_PANEL_ROWS + lane;
    int code = ((const int8_t *)(block + JT_PANEL_ROWS * sizeof(float)))[at];
    return load(block, lane, JT_F32) * (float)code;
}

/* W[row, i] of what jt_thin reads. */
static float load_wide(const jt_thin *p, size_t row, size_t i, jt_dtype type)
{
    if (type == JT_Q8_0)
        return load_code(p->w, row, i, p->n);
    return load(p->w, row * p->n + i, type);
}

/* B[row, k] of what jt_thin_up reads. */
static float load_panel(const jt_thin_up *u, size_t row, size_t k, jt_dtype type)
{
    if (type == JT_Q8_0)
        return load_code(u->b, row, k, u->rank);
    return load(u->b, jt_panel_at(row, k, u->rank), type);
}

static void thin(const jt_thin *p, jt_dtype type)
{
    for (size_t t = 0; t < p->tokens; t++) {
        size_t j = p->index ? (size_t)p->index[t] : t;
        const char *x = (const char *)p->x + j * p->x_bytes;
        for (size_t r = 0; r < p->rows; r++) {
            float sum = 0;
            for (size_t i = 0; i < p->n; i++)
                sum += load_wide(p, p->row + r, i, type) * load(x, i, JT_F32);
            p->y[t * p->y_stride + r] = sum;
        }
    }
}

static void thin_up(const jt_thin_up *u, jt_dtype type)
{
    for (size_t t = 0; t < u->tokens; t++) {
        float factor = u->weight ? u->weight[t] * u->scale : u->scale;
        float *y = u->y + (u->index ? (size_t)u->index[t] : t) * u->y_stride;
        for (size_t r = 0; r < u->rows; r++) {
            float sum = 0;
            for (size_t k = 0; k < u->rank; k++)
                sum +=
                    load_panel(u, u->row + r, k, type) * u->low[t * u->low_stride + k];
            y[r] += factor * sum;
        }
    }
}

#define THIN(lower, type)                            \
    static void thin_##lower(const jt_thin *p)       \
    {                                                \
        thin(p, type);                               \
    }                                                \
    static void thin_up_##lower(const jt_thin_up *u) \
    {                                                \
        thin_up(u, type);                            \
    }
THIN(f32, JT_F32)
THIN(f16, JT_F16)
THIN(bf16, JT_BF16)
THIN(codes, JT_Q8_0)

void jt_scalar_thin(jt_kernels *table)
{
    table->thin[JT_F32] = thin_f32;
    table->thin[JT_F16] = thin_f16;
    table->thin[JT_BF16] = thin_bf16;
    table->thin[JT_Q8_0] = thin_codes;
    table->thin_up[JT_F32] = thin_up_f32;
    table->thin_up[JT_F16] = thin_up_f16;
    table->thin_up[JT_BF16] = thin_up_bf16;
    table->thin_up[JT_Q8_0] = thin_up_codes;
}
