/* Matrix products: against sums in double, against the scalar table (quantised types:
 * to the bit), and against themselves in other pieces (always to the bit). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "check.h"
#include "kernels/c/codes_table.h"
#include "kernels/tile.h"

typedef struct problem {
    jt_dtype dtype;
    const jt_matmul *mm;
    size_t rows, tokens, n, row_bytes, x_bytes, x_rows;
    buffer w, x;
    int32_t *index;
} problem;

/* Weights as doubles, and the size of what was added up to make them. */
static void weight_row(const problem *p, size_t r, double *w, double *size)
{
    const unsigned char *row = (unsigned char *)p->w.data + r * p->row_bytes;
    float *x = malloc(p->n * sizeof *x);
    jt_dequantize(p->dtype, x, row, p->n);
    for (size_t i = 0; i < p->n; i++) {
        w[i] = x[i];
        size[i] = fabs(w[i]);
    }
    free(x);
#define X(suffix, lower, values, group, biased, offset, top)                  \
    for (size_t b = 0; p->dtype == JT_##suffix && b < p->n / (values); b++) { \
        codes c;                                                              \
        unpack_##lower(&c, (const jt_##lower *)row + b);                      \
        for (int i = 0; i < (values); i++) {                                  \
            double shift = (biased) ? fabs((double)c.bias[i / (group)]) : 0;  \
            size[b * (values) + (size_t)i] =                                  \
                fabs((double)c.scale[i / (group)] * c.q[i]) + shift;          \
        }                                                                     \
    }
    JT_QUANT_LIST(X)
#undef X
}

static void act_row(const problem *p, size_t t, double *x)
{
    size_t j = p->index ? (size_t)p->index[t] : t;
    const char *row = (const char *)p->x.data + j * p->x_bytes;
    const char *second = row + jt_pad64(p->mm->act == JT_ACT_Q8 ? p->n : 2 * p->n);
    for (size_t i = 0; i < p->n; i++) {
        float f;
        uint16_t high, low;
        switch (p->mm->act) {
        case JT_ACT_Q8:
            memcpy(&f, second + i / 32 * 4, sizeof f);
            x[i] = (double)f * (signed char)row[i];
            break;
        case JT_ACT_BF16X2:
            memcpy(&high, row + 2 * i, 2);
            memcpy(&low, second + 2 * i, 2);
            x[i] = (double)jt_bf16_to_float(high) + (double)jt_bf16_to_float(low);
            break;
        default:
            memcpy(&f, row + 4 * i, sizeof f);
            x[i] = f;
        }
    }
}

/* y against sums in double: an error of a rounding per step of the longest chain. */
static void check_sums(checker *c, const problem *p, const float *y, size_t ldy)
{
    double *w = malloc(3 * p->n * sizeof *w), *size = w + p->n, *x = size + p->n;
    double worst = 0;
    for (size_t t = 0; t < p->tokens; t++) {
        act_row(p, t, x);
        for (size_t r = 0; r < p->rows; r++) {
            double sum = 0, scale = 1e-30;
            weight_row(p, r, w, size);
            for (size_t i = 0; i < p->n; i++) {
                sum += w[i] * x[i];
                scale += size[i] * fabs(x[i]);
            }
            double error = fabs(sum - (double)y[t * ldy + r]) / scale;
            worst = error <= worst ? worst : error;
        }
    }
    size_t steps = p->mm->act == JT_ACT_Q8 ? p->n / 32 + 6 : p->n + 2;
    check(c, worst <= (double)steps * 0x1p-24,
          "%s: error %g of the sum of sizes, n %zu", jt_dtype_name(p->dtype), worst,
          p->n);
    free(w);
}

static void run(const problem *p, float *y, size_t ldy, size_t row, size_t rows,
                size_t token, size_t tokens)
{
    const char *x = p->x.data;
    const jt_piece later[] = {{p->w.data, 200}, {p->x.data, 1}, {y, 4000}};
    if (!p->index)
        x += token * p->x_bytes;
    p->mm->fn(&(jt_matmul_args){.y = y,
                                .ldy = ldy,
                                .w = (const char *)p->w.data + row * p->row_bytes,
                                .row_bytes = p->row_bytes,
                                .rows = rows,
                                .x = x,
                                .x_bytes = p->x_bytes,
                                .index = p->index ? p->index + token : NULL,
                                .tokens = tokens,
                                .n = p->n,
                                .later = {later, 100, row % 2 ? 4101 : 90}});
}

/* Any part of the product has the bits of the whole. */
static void check_parts(checker *c, const problem *p, const float *y, size_t ldy)
{
    for (int i = 0; i < 6; i++) {
        size_t row = pick(c, 0, p->rows - 1), token = pick(c, 0, p->tokens - 1);
        size_t rows = i < 2 ? 1 : pick(c, 1, p->rows - row);
        size_t tokens = i % 2 ? 1 : pick(c, 1, p->tokens - token);
        float *part = malloc(rows * tokens * sizeof *part);
        run(p, part, rows, row, rows, token, tokens);
        bool same = true;
        for (size_t t = 0; t < tokens; t++)
            same = same && memcmp(part + t * rows, y + (token + t) * ldy + row,
                                  rows * sizeof *y) == 0;
        check(c, same, "%s: a part of %zu rows, %zu tokens differs from the whole",
              jt_dtype_name(p->dtype), rows, tokens);
        free(part);
    }
}

/* The product over tiles, in parts that begin where threads begin, has the bits of that
 * over rows. */
static void check_tiles(checker *c, const problem *p, const float *y, size_t ldy)
{
    size_t row_bytes = jt_dtype_row_bytes(p->dtype, p->n);
    if (!p->mm->tiled || !jt_tile_can(p->dtype, p->n))
        return;
    buffer tiles = buffer_in(jt_tile_bytes(p->rows, row_bytes), 0);
    char *rows = malloc(p->rows * row_bytes);
    for (size_t r = 0; r < p->rows; r++)
        memcpy(rows + r * row_bytes, (char *)p->w.data + r * p->row_bytes, row_bytes);
    for (size_t r = 0; r < p->rows; r += JT_TILE_ROWS)
        jt_tile_fill((char *)tiles.data + r * row_bytes, rows + r * row_bytes,
                     row_bytes, p->rows - r < JT_TILE_ROWS ? p->rows - r : JT_TILE_ROWS,
                     p->dtype);
    float *z = malloc(p->tokens * p->rows * sizeof *z);
    for (size_t r = 0; r < p->rows; r += JT_MATMUL_ROWS) {
        size_t some = p->rows - r < JT_MATMUL_ROWS ? p->rows - r : JT_MATMUL_ROWS;
        p->mm->tiled(&(jt_matmul_args){.y = z + r,
                                       .ldy = p->rows,
                                       .w = (char *)tiles.data + r * row_bytes,
                                       .row_bytes = row_bytes,
                                       .rows = some,
                                       .x = p->x.data,
                                       .x_bytes = p->x_bytes,
                                       .index = p->index,
                                       .tokens = p->tokens,
                                       .n = p->n});
    }
    bool same = true;
    for (size_t t = 0; t < p->tokens; t++)
        same = same && memcmp(z + t * p->rows, y + t * ldy, p->rows * sizeof *z) == 0;
    check(c, same, "%s: not the bits of rows in tiles, rows %zu, tokens %zu, n %zu",
          jt_dtype_name(p->dtype), p->rows, p->tokens, p->n);
    free(z);
    free(rows);
    buffer_free(&tiles);
}

/* Floats that bfloat16 says exactly, in tiles of that, have the bits of floats. */
static void check_halves(checker *c, const problem *p)
{
    if (!p->mm->halves || !jt_tile_can(JT_BF16, p->n))
        return;
    size_t row_bytes = p->n * sizeof(float), half = row_bytes / 2;
    problem exact = *p;
    exact.row_bytes = row_bytes;
    exact.w = buffer_in(p->rows * row_bytes, 0);
    buffer tiles = buffer_in(jt_tile_bytes(p->rows, half), 0);
    float *w = exact.w.data;
    for (size_t r = 0; r < p->rows; r++) {
        memcpy(w + r * p->n, (char *)p->w.data + r * p->row_bytes, row_bytes);
        for (size_t i = r * p->n; i < (r + 1) * p->n; i++)
            w[i] = jt_bf16_to_float(jt_float_to_bf16(w[i]));
    }
    check(c, jt_all_bf16(w, p->rows * p->n), "floats are not bfloat16");
    for (size_t r = 0; r < p->rows; r += JT_TILE_ROWS)
        jt_tile_fill_halves((char *)tiles.data + r * half, w + r * p->n, p->n,
                            p->rows - r < JT_TILE_ROWS ? p->rows - r : JT_TILE_ROWS);
    size_t values = p->tokens * p->rows;
    float *y = malloc(values * sizeof *y), *z = malloc(values * sizeof *z);
    run(&exact, y, p->rows, 0, p->rows, 0, p->tokens);
    p->mm->halves(&(jt_matmul_args){.y = z,
                                    .ldy = p->rows,
                                    .w = tiles.data,
                                    .row_bytes = half,
                                    .rows = p->rows,
                                    .x = p->x.data,
                                    .x_bytes = p->x_bytes,
                                    .index = p->index,
                                    .tokens = p->tokens,
                                    .n = p->n});
    check(c, memcmp(y, z, values * sizeof *y) == 0,
          "halves: not the bits of floats, rows %zu, tokens %zu, n %zu", p->rows,
          p->tokens, p->n);
    free(y);
    free(z);
    buffer_free(&exact.w);
    buffer_free(&tiles);
}

static void check_problem(checker *c, const problem *p)
{
    size_t ldy = p->rows + pick(c, 0, 5);
    size_t used = (p->tokens - 1) * ldy + p->rows;
    buffer y = buffer_out(used * sizeof(float), 4 * pick(c, 0, 3));
    float *out = y.data;
    run(p, out, ldy, 0, p->rows, 0, p->tokens);
    check_margins(c, &y, jt_dtype_name(p->dtype));
    bool gaps = true;
    for (size_t i = 0; i < used; i++)
        if (i % ldy >= p->rows)
            gaps = gaps && jt_float_bits(out[i]) == 0xffffffff;
    check(c, gaps, "%s: wrote between its rows", jt_dtype_name(p->dtype));
    check_sums(c, p, out, ldy);
    check_parts(c, p, out, ldy);
    check_tiles(c, p, out, ldy);
    check_halves(c, p);

    if (p->mm->act == JT_ACT_Q8) {
        problem truth = *p;
        truth.mm = &c->scalar->matmul[p->dtype];
        buffer z = buffer_out(used * sizeof(float), 0);
        run(&truth, z.data, ldy, 0, p->rows, 0, p->tokens);
        check(c, memcmp(z.data, out, used * sizeof(float)) == 0,
              "%s: not the bits of scalar, rows %zu, tokens %zu, n %zu",
              jt_dtype_name(p->dtype), p->rows, p->tokens, p->n);
        buffer_free(&z);
    }
    buffer_free(&y);
}

static void make_problem(checker *c, problem *p, fill weights, fill acts)
{
    size_t block = jt_dtype_block_values(p->dtype);
    p->mm = &c->level->matmul[p->dtype];
    p->rows = pick(c, 1, 40);
    p->tokens = pick(c, 0, 3) ? pick(c, 1, 12) : pick(c, 60, 70);
    p->n = block * pick(c, 1, block == 256 ? 3 : block >= 32 ? 608 / block : 600);
    p->row_bytes = jt_dtype_row_bytes(p->dtype, p->n);
    if (pick(c, 0, 1))
        p->row_bytes += pick(c, 0, 70); /* rows of a wider matrix */
    p->w = buffer_in((p->rows - 1) * p->row_bytes + jt_dtype_row_bytes(p->dtype, p->n),
                     pick(c, 0, 3));
    for (size_t r = 0; r < p->rows; r++)
        fill_blocks(c, p->dtype, (char *)p->w.data + r * p->row_bytes, p->n / block,
                    weights);

    p->x_bytes = jt_act_bytes(p->mm->act, p->n) + 64 * pick(c, 0, 1);
    p->x_rows = p->tokens + pick(c, 0, 3);
    p->x = buffer_in((p->x_rows - 1) * p->x_bytes + jt_act_bytes(p->mm->act, p->n), 0);
    float *x = malloc(p->n * sizeof *x);
    for (size_t j = 0; j < p->x_rows; j++) {
        fill_floats(c, x, p->n, acts);
        c->scalar->pack[p->mm->act]((char *)p->x.data + j * p->x_bytes, x, p->n);
    }
    free(x);
    p->index = NULL;
    if (pick(c, 0, 1)) {
        p->index = malloc(p->tokens * sizeof *p->index);
        for (size_t t = 0; t < p->tokens; t++)
            p->index[t] = (int32_t)pick(c, 0, p->x_rows - 1);
    }
}

void check_matmuls(checker *c)
{
    for (int dtype = 0; dtype < JT_DTYPE_COUNT; dtype++) {
        if (!c->level->matmul[dtype].fn)
            continue;
        for (int i = 0; i < 10; i++) {
            problem p = {.dtype = (jt_dtype)dtype};
            make_problem(c, &p, (fill)(i % FILLS),
                         i < FILLS ? FILL_NORMAL : (fill)pick(c, 0, FILLS - 1));
            check_problem(c, &p);
            buffer_free(&p.w);
            buffer_free(&p.x);
            free(p.index);
        }
    }
}
