#include "adapt/factors.h"

#include <string.h>

#include "base/half.h"
#include "base/memory.h"

/* ---- types ---- */

static bool all_half(const float *x, size_t n, const jt_kernels *k)
{
    enum { SOME = 256 };
    uint16_t half[SOME];
    float back[SOME];
    for (size_t i = 0, count; i < n; i += count) {
        count = n - i < SOME ? n - i : SOME;
        k->f32_to_f16(half, x + i, count);
        k->dequant[JT_F16](back, half, count);
        if (memcmp(back, x + i, count * sizeof *back) != 0)
            return false;
    }
    return true;
}

static jt_dtype smallest(const float *x, size_t n, const jt_kernels *k)
{
    if (jt_all_bf16(x, n))
        return JT_BF16;
    return all_half(x, n, k) ? JT_F16 : JT_F32;
}

static void convert(void *to, const float *x, size_t n, jt_dtype dtype,
                    const jt_kernels *k)
{
    uint16_t *bits = to;
    if (dtype == JT_F16)
        k->f32_to_f16(bits, x, n);
    else if (dtype == JT_F32)
        memcpy(to, x, n * sizeof *x);
    for (size_t i = 0; dtype == JT_BF16 && i < n; i++)
        bits[i] = (uint16_t)(jt_float_bits(x[i]) >> 16);
}

/* ---- where they lie ---- */

size_t jt_factor_plan(jt_factor *f, const jt_tensor *t, bool panels,
                      const jt_kernels *kernels)
{
    size_t count = t->shape[0], rows = t->shape[1], cols = t->shape[2];
    size_t values = panels ? jt_panel_values(rows, cols) : rows * cols;
    jt_dtype dtype = smallest(t->data, count * rows * cols, kernels);
    *f = (jt_factor){
        .dtype = dtype, .panels = panels, .bytes = jt_dtype_row_bytes(dtype, values)};
    if (dtype == JT_F32 && !panels)
        f->data = t->data;
    return f->data ? 0 : jt_pad64(count * f->bytes);
}

/* One panel of the rows from `row` on. */
static void fill_panel(char *to, const float *x, size_t row, size_t rows, size_t cols,
                       jt_dtype dtype, const jt_kernels *kernels)
{
    size_t bytes = jt_dtype_row_bytes(dtype, JT_PANEL_ROWS);
    for (size_t k = 0; k < cols; k++) {
        float some[JT_PANEL_ROWS] = {0};
        for (size_t i = 0; i < JT_PANEL_ROWS && row + i < rows; i++)
            some[i] = x[(row + i) * cols + k];
        convert(to + k * bytes, some, JT_PANEL_ROWS, dtype, kernels);
    }
}

char *jt_factor_fill(jt_factor *f, const jt_tensor *t, char *memory,
                     const jt_kernels *kernels)
{
    size_t count = t->shape[0], rows = t->shape[1], cols = t->shape[2];
    const float *x = t->data;
    if (f->data)
        return memory;
    f->data = memory;
    char *end = memory + jt_pad64(count * f->bytes);
    if (!f->panels) {
        convert(memory, x, count * rows * cols, f->dtype, kernels);
        return end;
    }
    size_t panel = jt_dtype_row_bytes(f->dtype, JT_PANEL_ROWS * cols);
    for (size_t i = 0; i < count; i++, x += rows * cols) {
        for (size_t row = 0; row < rows; row += JT_PANEL_ROWS, memory += panel)
            fill_panel(memory, x, row, rows, cols, f->dtype, kernels);
    }
    return end;
}

char *jt_factors_room(size_t bytes)
{
    enum { LARGE = 1 << 20 };
    return bytes < LARGE ? jt_alloc(bytes, 1) : jt_alloc_large(bytes);
}

/* ---- products ---- */

void jt_factor_product(const jt_factor *a, const jt_factor *b, size_t i,
                       jt_product *product)
{
    product->w.data = (void *)(uintptr_t)(a->data + i * a->bytes);
    product->w.dtype = a->dtype;
    product->thin = true;
    if (b)
        product->then = (jt_piece){b->data + i * b->bytes, b->bytes};
}

const void *jt_factor_at(const jt_factor *b, size_t i, size_t row, size_t rank)
{
    size_t value = jt_panel_at(row, 0, rank);
    return b->data + i * b->bytes + jt_dtype_row_bytes(b->dtype, value);
}

void jt_factor_add_up(const jt_factor *b, size_t i, jt_thin_up u,
                      const jt_kernels *kernels)
{
    u.b = b->data + i * b->bytes;
    kernels->thin_up[b->dtype](&u);
}
