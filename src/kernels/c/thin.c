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

static void thin(const jt_thin *p, jt_dtype type)
{
    for (size_t t = 0; t < p->tokens; t++) {
        size_t j = p->index ? (size_t)p->index[t] : t;
        const char *x = (const char *)p->x + j * p->x_bytes, *w = p->w;
        for (size_t r = 0; r < p->rows; r++, w += p->row_bytes) {
            float sum = 0;
            for (size_t i = 0; i < p->n; i++)
                sum += load(w, i, type) * load(x, i, JT_F32);
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
                sum += load(u->b, jt_panel_at(u->row + r, k, u->rank), type) *
                       u->low[t * u->low_stride + k];
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

void jt_scalar_thin(jt_kernels *table)
{
    table->thin[JT_F32] = thin_f32;
    table->thin[JT_F16] = thin_f16;
    table->thin[JT_BF16] = thin_bf16;
    table->thin_up[JT_F32] = thin_up_f32;
    table->thin_up[JT_F16] = thin_up_f16;
    table->thin_up[JT_BF16] = thin_up_bf16;
}
