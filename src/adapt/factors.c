#include "adapt/factors.h"

#include <math.h>
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

jt_status jt_factor_rule_named(jt_factor_rule *rule, const char *name, jt_err *err)
{
    static const char *const names[] = {[JT_FACTORS_AUTO] = "auto",
                                        [JT_FACTORS_EXACT] = "exact",
                                        [JT_FACTORS_8_BITS] = "q8_0"};
    *rule = JT_FACTORS_AUTO;
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++) {
        if (!strcmp(name, names[i])) {
            *rule = (jt_factor_rule)i;
            return JT_OK;
        }
    }
    return name ? jt_fail(err, JT_E_ARG, "unknown type '%s' of adapters", name) : JT_OK;
}

bool jt_factors_rounded(jt_factor_rule rule, jt_dtype weight)
{
    if (rule == JT_FACTORS_AUTO)
        return jt_dtype_block_values(weight) > 1;
    return rule == JT_FACTORS_8_BITS;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return false;
    }
    return true;
}

/* ---- where they lie ---- */

size_t jt_factor_plan(jt_factor *f, const jt_tensor *t, jt_factor_part part,
                      bool rounded, const jt_kernels *kernels)
{
    size_t count = t->shape[0], rows = t->shape[1], cols = t->shape[2];
    size_t all = count * rows * cols, codes = jt_panel8_bytes(rows, cols);
    bool panels = part == JT_FACTOR_B;
    size_t values = panels ? jt_panel_values(rows, cols) : rows * cols;
    jt_dtype dtype = smallest(t->data, all, kernels);
    *f = (jt_factor){
        .dtype = dtype, .panels = panels, .bytes = jt_dtype_row_bytes(dtype, values)};
    if (rounded && codes < f->bytes && all_finite(t->data, all))
        *f = (jt_factor){.dtype = JT_Q8_0, .panels = true, .bytes = codes};
    else if (dtype == JT_F32 && !panels)
        f->data = t->data;
    return f->data ? 0 : jt_pad64(count * f->bytes);
}

/* One panel of the rows from `row` on, of which there are `rows`. */
static char *fill_panel(char *to, const float *x, size_t row, size_t rows, size_t cols,
                        jt_dtype dtype, const jt_kernels *kernels)
{
    size_t bytes = jt_dtype_row_bytes(dtype, JT_PANEL_ROWS);
    for (size_t k = 0; k < cols; k++, to += bytes) {
        float some[JT_PANEL_ROWS] = {0};
        for (size_t i = 0; i < JT_PANEL_ROWS && row + i < rows; i++)
            some[i] = x[(row + i) * cols + k];
        convert(to, some, JT_PANEL_ROWS, dtype, kernels);
    }
    return to;
}

/* Some values of a row: `scale`, and the codes for it, JT_PANEL_ROWS apart. The scale
 * is that of GGUF's Q8_0, in F32: what came from there stays what it was. */
static void fill_codes(float *scale, int8_t *code, const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    *scale = most / 127;
    for (size_t i = 0; i < n; i++, code += JT_PANEL_ROWS)
        *code = (int8_t)(*scale > 0 ? roundf(x[i] / *scale) : 0);
}

/* The same panel of 8 bits. */
static char *fill_panel8(char *to, const float *x, size_t row, size_t rows, size_t cols)
{
    for (size_t k = 0; k < cols; k += JT_PANEL_BLOCK) {
        size_t n = cols - k < JT_PANEL_BLOCK ? cols - k : JT_PANEL_BLOCK;
        float *scale = (float *)(void *)to;
        int8_t *code = (int8_t *)(scale + JT_PANEL_ROWS);
        size_t bytes = jt_panel8_bytes(1, n);
        memset(to, 0, bytes);
        for (size_t i = 0; i < JT_PANEL_ROWS && row + i < rows; i++)
            fill_codes(scale + i, code + i, x + (row + i) * cols + k, n);
        to += bytes;
    }
    return to;
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
    for (size_t i = 0; i < count; i++, x += rows * cols) {
        for (size_t row = 0; row < rows; row += JT_PANEL_ROWS)
            memory = f->dtype == JT_Q8_0
                         ? fill_panel8(memory, x, row, rows, cols)
                         : fill_panel(memory, x, row, rows, cols, f->dtype, kernels);
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
    product->thin = a->bytes;
    if (b)
        product->then = (jt_piece){b->data + i * b->bytes, b->bytes};
}

const void *jt_factor_at(const jt_factor *b, size_t i, size_t row, size_t rank)
{
    const char *matrix = b->data + i * b->bytes;
    if (b->dtype == JT_Q8_0)
        return matrix + jt_panel8_at(row, 0, rank);
    return matrix + jt_dtype_row_bytes(b->dtype, jt_panel_at(row, 0, rank));
}

void jt_factor_add_up(const jt_factor *b, size_t i, jt_thin_up u,
                      const jt_kernels *kernels)
{
    u.b = b->data + i * b->bytes;
    kernels->thin_up[b->dtype](&u);
}
