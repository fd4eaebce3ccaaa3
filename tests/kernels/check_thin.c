/* Thin products against sums in double, and parts of them against the whole. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "check.h"

/* A matrix of any of the types, and its values. */
typedef struct values {
    buffer in;
    double *x;
} values;

static values new_values(checker *c, jt_dtype dtype, size_t n)
{
    size_t bytes = dtype == JT_F32 ? 4 : 2;
    values v = {buffer_in(n * bytes, bytes * pick(c, 0, 1)), malloc(n * sizeof *v.x)};
    float *x = malloc(n * sizeof *x);
    fill_floats(c, x, n, FILL_NORMAL);
    for (size_t i = 0; i < n; i++) {
        uint16_t bits =
            dtype == JT_F16 ? jt_float_to_f16(x[i]) : jt_float_to_bf16(x[i]);
        if (dtype == JT_F16)
            x[i] = jt_f16_to_float(bits);
        else if (dtype == JT_BF16)
            x[i] = jt_bf16_to_float(bits);
        memcpy((char *)v.in.data + i * bytes, dtype == JT_F32 ? (void *)&x[i] : &bits,
               bytes);
        v.x[i] = (double)x[i];
    }
    free(x);
    return v;
}

/* Panels of 8 bits: any codes, any scales; x [rows, n]. */
static values new_codes(checker *c, size_t rows, size_t n)
{
    size_t bytes = jt_panel8_bytes(rows, n);
    values v = {buffer_in(bytes, 4 * pick(c, 0, 1)), malloc(rows * n * sizeof *v.x)};
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)v.in.data)[i] = (uint8_t)pick(c, 0, 255);
    for (size_t row = 0; row < (rows + 15) / 16 * 16; row++) {
        for (size_t k = 0; k < n; k += JT_PANEL_BLOCK) {
            float scale;
            fill_floats(c, &scale, 1, FILL_NORMAL);
            memcpy((char *)v.in.data + jt_panel8_at(row, k, n) + row % 16 * 4, &scale,
                   4);
        }
    }
    for (size_t i = 0; i < rows * n; i++) {
        size_t row = i / n, k = i % n;
        const char *block = (const char *)v.in.data + jt_panel8_at(row, k, n);
        float scale;
        memcpy(&scale, block + row % 16 * 4, 4);
        v.x[i] = (double)scale * ((const int8_t *)block)[64 + k % 32 * 16 + row % 16];
    }
    return v;
}

/* W of jt_thin, [rows, n]. */
static values new_wide(checker *c, jt_dtype dtype, size_t rows, size_t n)
{
    return dtype == JT_Q8_0 ? new_codes(c, rows, n) : new_values(c, dtype, rows * n);
}

/* B of jt_thin_up; x [rows, rank], and more of the last panel. */
static values new_panels(checker *c, jt_dtype dtype, size_t rows, size_t rank)
{
    if (dtype == JT_Q8_0)
        return new_codes(c, rows, rank);
    values v = new_values(c, dtype, jt_panel_values(rows, rank));
    double *x = malloc(rows * rank * sizeof *x);
    for (size_t i = 0; i < rows * rank; i++)
        x[i] = v.x[jt_panel_at(i / rank, i % rank, rank)];
    free(v.x);
    v.x = x;
    return v;
}

static void free_values(values *v)
{
    buffer_free(&v->in);
    free(v->x);
}

static bool near(double sum, double size, float y, size_t steps)
{
    return fabs(sum - (double)y) <= (double)(steps + 2) * 0x1p-24 * size + 1e-30;
}

/* Any rows of any tokens have the bits of the whole. */
static void check_thin_parts(checker *c, const jt_thin *all, jt_dtype dtype)
{
    for (int i = 0; i < 4; i++) {
        size_t row = pick(c, 0, all->rows - 1), token = pick(c, 0, all->tokens - 1);
        jt_thin part = *all;
        part.rows = pick(c, 1, all->rows - row);
        part.tokens = pick(c, 1, all->tokens - token);
        part.row += row;
        part.x = (const char *)all->x + (all->index ? 0 : token * all->x_bytes);
        part.index = all->index ? all->index + token : NULL;
        float *y = malloc(part.tokens * part.rows * sizeof *y);
        part.y = y;
        part.y_stride = part.rows;
        part.next = all->w;
        c->level->thin[dtype](&part);
        bool same = true;
        for (size_t t = 0; t < part.tokens; t++)
            same = same &&
                   memcmp(y + t * part.rows, all->y + (token + t) * all->y_stride + row,
                          part.rows * sizeof *y) == 0;
        check(c, same, "thin %s: a part of %zu rows, %zu tokens differs",
              jt_dtype_name(dtype), part.rows, part.tokens);
        free(y);
    }
}

static void check_thin_rows(checker *c, jt_dtype dtype)
{
    size_t rows = pick(c, 1, 40), n = pick(c, 1, 600), tokens = pick(c, 1, 11);
    size_t first = pick(c, 0, 1) * pick(c, 0, 40);
    size_t x_rows = tokens + 2, stride = rows + pick(c, 0, 3);
    values w = new_wide(c, dtype, first + rows, n),
           x = new_values(c, JT_F32, x_rows * n);
    buffer y = buffer_out(((tokens - 1) * stride + rows) * sizeof(float), 0);
    int32_t index[16];
    for (size_t t = 0; t < tokens; t++)
        index[t] = (int32_t)pick(c, 0, x_rows - 1);
    jt_thin p = {.y = y.data,
                 .y_stride = stride,
                 .w = w.in.data,
                 .row = first,
                 .rows = rows,
                 .n = n,
                 .x = x.in.data,
                 .x_bytes = n * sizeof(float),
                 .index = pick(c, 0, 1) ? index : NULL,
                 .tokens = tokens};
    c->level->thin[dtype](&p);
    check_margins(c, &y, "thin");
    bool good = true;
    for (size_t t = 0; t < tokens; t++) {
        const double *xt = x.x + (p.index ? (size_t)index[t] : t) * n;
        for (size_t r = 0; r < rows; r++) {
            double sum = 0, size = 0;
            for (size_t i = 0; i < n; i++) {
                double one = w.x[(first + r) * n + i] * xt[i];
                sum += one;
                size += fabs(one);
            }
            good = good && near(sum, size, p.y[t * stride + r], n);
        }
    }
    check(c, good, "thin %s: wrong sums, rows %zu .. %zu, n %zu, tokens %zu",
          jt_dtype_name(dtype), first, first + rows, n, tokens);
    check_thin_parts(c, &p, dtype);
    free_values(&w);
    free_values(&x);
    buffer_free(&y);
}

/* The same, token by token. */
static void check_up_alone(checker *c, const jt_thin_up *all, const float *y0,
                           jt_dtype dtype)
{
    bool same = true;
    float *y = malloc(all->rows * sizeof *y);
    for (size_t t = 0; t < all->tokens; t++) {
        jt_thin_up one = *all;
        size_t row = all->index ? (size_t)all->index[t] : t;
        one.y = y;
        one.index = NULL;
        one.low += t * all->low_stride;
        one.weight = all->weight ? all->weight + t : NULL;
        one.tokens = 1;
        one.next = all->b;
        memcpy(y, y0 + row * all->y_stride, all->rows * sizeof *y);
        c->level->thin_up[dtype](&one);
        same =
            same && memcmp(y, all->y + row * all->y_stride, all->rows * sizeof *y) == 0;
    }
    check(c, same, "thin_up %s: a token alone differs", jt_dtype_name(dtype));
    free(y);
}

static void check_thin_up(checker *c, jt_dtype dtype)
{
    size_t first = pick(c, 0, 1) * pick(c, 0, 40), rows = pick(c, 1, 150);
    size_t rank = pick(c, 1, 40), tokens = pick(c, 1, 11), stride = rows + 3;
    size_t all = first + rows + pick(c, 0, 9);
    values b = new_panels(c, dtype, all, rank);
    values low = new_values(c, JT_F32, tokens * rank);
    values weight = new_values(c, JT_F32, tokens),
           y0 = new_values(c, JT_F32, tokens * stride);
    buffer y = buffer_out(((tokens - 1) * stride + rows) * sizeof(float), 0);
    memcpy(y.data, y0.in.data, ((tokens - 1) * stride + rows) * sizeof(float));
    int32_t index[11]; /* the tokens from some token on, round */
    size_t turn = pick(c, 0, tokens - 1);
    for (size_t t = 0; t < tokens; t++)
        index[t] = (int32_t)((t + turn) % tokens);
    jt_thin_up u = {.y = y.data,
                    .y_stride = stride,
                    .index = turn ? index : NULL,
                    .b = b.in.data,
                    .row = first,
                    .rows = rows,
                    .rank = rank,
                    .low = low.in.data,
                    .low_stride = rank,
                    .tokens = tokens,
                    .weight = pick(c, 0, 1) ? weight.in.data : NULL,
                    .scale = 0.5f};
    c->level->thin_up[dtype](&u);
    check_margins(c, &y, "thin_up");
    bool good = true;
    for (size_t t = 0; t < tokens; t++) {
        double factor = u.weight ? 0.5 * weight.x[t] : 0.5;
        size_t row = (t + turn) % tokens * stride;
        for (size_t r = 0; r < rows; r++) {
            double sum = y0.x[row + r], size = fabs(sum);
            for (size_t k = 0; k < rank; k++) {
                double one = factor * b.x[(first + r) * rank + k] * low.x[t * rank + k];
                sum += one;
                size += fabs(one);
            }
            good = good && near(sum, size, u.y[row + r], rank + 2);
        }
    }
    check(c, good, "thin_up %s: wrong sums, rows %zu .. %zu, rank %zu, tokens %zu",
          jt_dtype_name(dtype), first, first + rows, rank, tokens);
    check_up_alone(c, &u, y0.in.data, dtype);
    free_values(&b);
    free_values(&low);
    free_values(&weight);
    free_values(&y0);
    buffer_free(&y);
}

void check_thin(checker *c)
{
    static const jt_dtype types[] = {JT_F32, JT_F16, JT_BF16, JT_Q8_0};
    for (int i = 0; i < 80; i++) {
        check_thin_rows(c, types[i % 4]);
        check_thin_up(c, types[i % 4]);
    }
}
