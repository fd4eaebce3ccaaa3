/* The training product: against sums in double, and any part of it against the whole
 * (to the bit). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "check.h"

#define MEMORY_ROWS 40 /* more than the tokens that are gathered */

typedef struct task {
    jt_gemm g;
    buffer a, b, c, scratch;
    int32_t *a_index, *b_index;
} task;

/* Strides of a matrix of rows x columns: by rows, by columns, or neither together. The
 * number of floats from its first to its last. */
static size_t pick_strides(checker *c, size_t rows, size_t columns, size_t *row,
                           size_t *column)
{
    size_t kind = pick(c, 0, 4), gap = pick(c, 0, 1) ? pick(c, 0, 9) : 0;
    *column = kind < 2 ? 1 : kind < 4 ? rows + gap : 2;
    *row = kind < 2 ? columns + gap : kind < 4 ? 1 : 2 * columns + gap;
    return rows && columns ? (rows - 1) * *row + (columns - 1) * *column + 1 : 0;
}

static int32_t *pick_index(checker *c, size_t n)
{
    int32_t *index = malloc((n + 1) * sizeof *index);
    for (size_t i = 0; index && i < n; i++)
        index[i] = (int32_t)pick(c, 0, MEMORY_ROWS - 1);
    return index;
}

static buffer matrix(checker *c, size_t n)
{
    buffer b = buffer_in(n * sizeof(float), 4 * pick(c, 0, 3));
    fill_floats(c, b.data, n, FILL_NORMAL);
    return b;
}

static void make_task(checker *c, task *t)
{
    jt_gemm *g = &t->g;
    g->m = pick(c, 0, 9) ? pick(c, 1, 30) : pick(c, 90, 200);
    g->n = pick(c, 0, 9) ? pick(c, 1, 110) : pick(c, 470, 500);
    g->k = pick(c, 0, 4) ? pick(c, 0, 90) : pick(c, 380, 800);
    g->ldc = g->n + pick(c, 0, 5);
    g->accumulate = pick(c, 0, 1);
    g->precision = pick(c, 0, 1) ? JT_PRECISION_BF16 : JT_PRECISION_F32;
    t->a_index = pick(c, 0, 2) == 0 ? pick_index(c, g->m) : NULL;
    t->b_index = pick(c, 0, 2) == 0 ? pick_index(c, g->k) : NULL;
    g->a_index = t->a_index;
    g->b_index = t->b_index;
    t->a = matrix(c, pick_strides(c, t->a_index ? MEMORY_ROWS : g->m, g->k, &g->a_row,
                                  &g->a_col));
    t->b = matrix(c, pick_strides(c, t->b_index ? MEMORY_ROWS : g->k, g->n, &g->b_row,
                                  &g->b_col));
    t->c = buffer_out(((g->m - 1) * g->ldc + g->n) * sizeof(float), 4 * pick(c, 0, 3));
    t->scratch = buffer_out(jt_gemm_scratch(), 4 * pick(c, 0, 20));
    g->a = t->a.data;
    g->b = t->b.data;
    g->c = t->c.data;
    g->scratch = t->scratch.data;
    for (size_t i = 0; g->accumulate && i < g->m; i++)
        fill_floats(c, g->c + i * g->ldc, g->n, FILL_NORMAL);
}

static double factor(const jt_gemm *g, float x)
{
    return (double)(g->precision == JT_PRECISION_F32
                        ? x
                        : jt_bf16_to_float(jt_float_to_bf16(x)));
}

/* The error of C[i, j], which was `before`, as a part of what was added up. */
static double error_at(const jt_gemm *g, size_t i, size_t j, float before)
{
    double sum = g->accumulate ? (double)before : 0, size = fabs(sum) + 1e-30;
    for (size_t k = 0; k < g->k; k++) {
        size_t row = g->a_index ? (size_t)g->a_index[i] : i;
        size_t deep = g->b_index ? (size_t)g->b_index[k] : k;
        double product = factor(g, g->a[row * g->a_row + k * g->a_col]) *
                         factor(g, g->b[deep * g->b_row + j * g->b_col]);
        sum += product;
        size += fabs(product);
    }
    return fabs(sum - (double)g->c[i * g->ldc + j]) / size;
}

static void check_values(checker *c, const task *t, const float *before)
{
    const jt_gemm *g = &t->g;
    double worst = 0;
    bool gaps = true;
    for (size_t i = 0; i < g->m; i++)
        for (size_t j = 0; j < g->ldc && i * g->ldc + j < t->c.bytes / sizeof(float);
             j++)
            if (j >= g->n) {
                gaps = gaps && isnan(g->c[i * g->ldc + j]);
            } else if (g->m * g->n < 2000 || pick(c, 0, 30) == 0) {
                double error = error_at(g, i, j, before[i * g->ldc + j]);
                worst = error <= worst ? worst : error; /* a NaN is the worst */
            }
    check(c, gaps, "gemm wrote between its rows");
    check(c, worst <= (double)(g->k + 2) * 0x1p-24,
          "gemm: error %g, m %zu n %zu k %zu, gathers %d %d, precision %d", worst, g->m,
          g->n, g->k, g->a_index != NULL, g->b_index != NULL, (int)g->precision);
}

/* A part of C by itself, from what C was before. */
static void check_part(checker *c, const task *t, const float *before)
{
    const jt_gemm *g = &t->g;
    jt_gemm part = *g;
    size_t i = pick(c, 0, g->m - 1), j = pick(c, 0, g->n - 1);
    part.m = pick(c, 1, g->m - i);
    part.n = pick(c, 1, g->n - j);
    part.a_index = g->a_index ? g->a_index + i : NULL;
    part.a += g->a_index ? 0 : i * g->a_row;
    part.b += j * g->b_col;
    part.ldc = part.n;
    part.c = malloc(part.m * part.n * sizeof *part.c);
    for (size_t r = 0; r < part.m; r++)
        memcpy(part.c + r * part.n, before + (i + r) * g->ldc + j,
               part.n * sizeof *part.c);
    c->level->gemm(&part);
    bool same = true;
    for (size_t r = 0; r < part.m; r++)
        same = same && memcmp(part.c + r * part.n, g->c + (i + r) * g->ldc + j,
                              part.n * sizeof *part.c) == 0;
    check(c, same, "gemm: a part of %zu x %zu differs from the whole", part.m, part.n);
    free(part.c);
}

/* A value of every kind meets a one: infinities and NaNs come out, others rounded. */
static void check_specials(checker *c, jt_precision precision)
{
    static const float values[] = {INFINITY,    -INFINITY,    NAN,          0.0f,
                                   -0.0f,       1.0f,         0x1.01p0f,    0x1.03p0f,
                                   0x1.fep127f, 0x1.fffp127f, -0x1.0101p3f, 3e-38f};
    enum { N = sizeof values / sizeof *values };
    static const uint32_t nan_that_overflows = 0x7fffffff;
    float a[N + 1], y[N + 1], one = 1.0f;
    float *scratch = malloc(jt_gemm_scratch());
    memcpy(a, values, sizeof values);
    memcpy(a + N, &nan_that_overflows, sizeof *a);
    jt_gemm g = {.c = y,
                 .ldc = 1,
                 .a = a,
                 .b = &one,
                 .a_row = 1,
                 .a_col = 1,
                 .b_row = 1,
                 .b_col = 1,
                 .m = N + 1,
                 .n = 1,
                 .k = 1,
                 .precision = precision,
                 .scratch = scratch};
    c->level->gemm(&g);
    for (size_t i = 0; i < g.m; i++) {
        double want = factor(&g, a[i]);
        check(c, isnan(want) ? isnan(y[i]) : want == (double)y[i], "gemm: %g became %g",
              (double)a[i], (double)y[i]);
    }
    g.a = &one;
    g.b = a;
    g.m = 1;
    g.n = N + 1;
    g.ldc = N + 1;
    c->level->gemm(&g);
    for (size_t i = 0; i < g.n; i++) {
        double want = factor(&g, a[i]);
        check(c, isnan(want) ? isnan(y[i]) : want == (double)y[i],
              "gemm: %g on the right became %g", (double)a[i], (double)y[i]);
    }
    free(scratch);
}

void check_gemm(checker *c)
{
    check_specials(c, JT_PRECISION_F32);
    check_specials(c, JT_PRECISION_BF16);
    for (int i = 0; i < 80; i++) {
        task t;
        make_task(c, &t);
        float *before = malloc(t.c.bytes);
        memcpy(before, t.c.data, t.c.bytes);
        c->level->gemm(&t.g);
        check_margins(c, &t.c, "gemm");
        check_margins(c, &t.scratch, "gemm (scratch)");
        check_values(c, &t, before);
        check_part(c, &t, before);
        free(before);
        free(t.a_index);
        free(t.b_index);
        buffer_free(&t.a);
        buffer_free(&t.b);
        buffer_free(&t.c);
        buffer_free(&t.scratch);
    }
}
