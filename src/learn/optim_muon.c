/* Muon: momentum whose singular values are moved near 1.
 *
 * Newton-Schulz works on X [m, n] with m <= n, the update or its transpose, scaled to
 * Frobenius norm 1. A step is X <- (a I + b G + c G^2) X with G = X X^T: each singular
 * value s becomes a s + b s^3 + c s^5 (a, b, c = 3.4445, -4.7750, 2.0315). Five steps
 * bring all of them to 0.7 .. 1.2, but the smallest (below about 0.003 of the norm).
 *
 * Matrices of a stack go through the phases together, in batches: many small experts
 * then make parallel work for each phase, as one large matrix does by its tiles. */
#include <math.h>

#include "learn/optim_rules.h"

enum {
    NEWTON_SCHULZ_STEPS = 5,
    BATCH = 1 << 19, /* values of a batch of matrices: 2 MiB; at least one matrix */
    TILE = 64        /* rows and columns of an item of a product */
};

typedef struct muon {
    const jt_optim_task *task;
    size_t m, n;         /* shorter and longer side */
    size_t first, count; /* matrices of this batch */
    float *x;            /* [count, m, n] */
    float *xt;          /* [count, n, m], and [rows, cols] before and after the steps */
    float *gram, *poly; /* [count, m, m] */
    float *update;      /* x or xt: the one that has the shape of the parameter */
    float keep, rate;
} muon;

static size_t batch_of(const jt_param *p)
{
    size_t values = p->rows * p->cols;
    size_t count = values && values < BATCH ? BATCH / values : 1;
    return count < p->count ? count : p->count;
}

static size_t shorter(const jt_param *p)
{
    return p->rows < p->cols ? p->rows : p->cols;
}

static size_t scratch_of(const jt_param *p)
{
    return batch_of(p) * 2 * (p->rows * p->cols + shorter(p) * shorter(p));
}

/* ---- products -----------------------------------------------------------------------
 */

/* y = b a^T for each matrix of the batch: a [rows, n], b [tokens, n], y [tokens, rows].
 */
typedef struct product {
    const jt_kernels *kernels;
    float *y;
    const float *a, *b;
    size_t rows, tokens, n;
} product;

static size_t tiles(size_t n)
{
    return (n + TILE - 1) / TILE;
}

static void run_tile(void *arg, size_t item)
{
    const product *p = arg;
    size_t row_tiles = tiles(p->rows), per_matrix = row_tiles * tiles(p->tokens);
    size_t matrix = item / per_matrix, tile = item % per_matrix;
    size_t row = tile % row_tiles * TILE, token = tile / row_tiles * TILE;
    size_t rows = p->rows - row < TILE ? p->rows - row : TILE;
    size_t tokens = p->tokens - token < TILE ? p->tokens - token : TILE;
    size_t row_bytes = p->n * sizeof(float);
    p->kernels->matmul[JT_F32].fn(
        &(jt_matmul_args){.y = p->y + (matrix * p->tokens + token) * p->rows + row,
                          .ldy = p->rows,
                          .w = p->a + (matrix * p->rows + row) * p->n,
                          .row_bytes = row_bytes,
                          .rows = rows,
                          .x = p->b + (matrix * p->tokens + token) * p->n,
                          .x_bytes = row_bytes,
                          .tokens = tokens,
                          .n = p->n});
}

static void multiply(const muon *w, float *y, const float *a, size_t rows,
                     const float *b, size_t tokens, size_t n)
{
    product p = {w->task->kernels, y, a, b, rows, tokens, n};
    size_t items = w->count * tiles(rows) * tiles(tokens);
    jt_pool_run(w->task->pool, run_tile, &p, items);
}

/* ---- transposition ------------------------------------------------------------------
 */

enum { LINE = 16 }; /* rows at a time: what is written side by side is a cache line */

typedef struct transposition {
    float *to;         /* [count, cols, rows] */
    const float *from; /* [count, rows, cols] */
    size_t rows, cols;
} transposition;

static size_t lines(size_t rows)
{
    return (rows + LINE - 1) / LINE;
}

static void transpose_rows(void *arg, size_t item)
{
    const transposition *t = arg;
    size_t matrix = item / lines(t->rows), row = item % lines(t->rows) * LINE;
    size_t rows = t->rows - row < LINE ? t->rows - row : LINE;
    const float *from = t->from + (matrix * t->rows + row) * t->cols;
    float *to = t->to + matrix * t->rows * t->cols + row;
    for (size_t j = 0; j < t->cols; j++) {
        for (size_t i = 0; i < rows; i++)
            to[j * t->rows + i] = from[i * t->cols + j];
    }
}

static void transpose(const muon *w, float *to, const float *from, size_t rows,
                      size_t cols)
{
    transposition t = {to, from, rows, cols};
    jt_pool_run(w->task->pool, transpose_rows, &t, w->count * lines(rows));
}

/* ---- Newton-Schulz ------------------------------------------------------------------
 */

static void normalise(void *arg, size_t matrix)
{
    const muon *w = arg;
    float *x = w->x + matrix * w->m * w->n;
    double norm = sqrt(jt_optim_squares(x, w->m * w->n));
    float inverse = (float)(1.0 / (norm > 1e-7 ? norm : 1e-7));
    w->task->kernels->scale(x, inverse, x, w->m * w->n);
}

/* poly, which holds G^2, becomes b G + c G^2, and with add_identity a I more. */
static void combine(void *arg, size_t piece, size_t first, size_t count)
{
    const muon *w = arg;
    const float *restrict gram = w->gram + first;
    float *restrict poly = w->poly + first;
    (void)piece;
    for (size_t i = 0; i < count; i++)
        poly[i] = -4.7750f * gram[i] + 2.0315f * poly[i];
}

static void add_identity(void *arg, size_t matrix)
{
    const muon *w = arg;
    float *poly = w->poly + matrix * w->m * w->m;
    for (size_t i = 0; i < w->m; i++)
        poly[i * w->m + i] += 3.4445f;
}

static void newton_schulz(muon *w)
{
    size_t m = w->m, n = w->n;
    jt_pool_run(w->task->pool, normalise, w, w->count);
    for (int step = 0; step < NEWTON_SCHULZ_STEPS; step++) {
        multiply(w, w->gram, w->x, m, w->x, m, n);
        multiply(w, w->poly, w->gram, m, w->gram, m, m);
        jt_optim_for(w->task->pool, w->count * m * m, JT_OPTIM_CHUNK, combine, w);
        jt_pool_run(w->task->pool, add_identity, w, w->count);
        transpose(w, w->xt, w->x, m, n);
        multiply(w, w->x, w->xt, n, w->poly, m, m);
    }
}

/* ---- the step -----------------------------------------------------------------------
 */

static void follow_momentum(void *arg, size_t piece, size_t first, size_t count)
{
    const muon *w = arg;
    const jt_optim_task *task = w->task;
    size_t start = w->first * w->m * w->n + first;
    const float *restrict grad = task->param->grad + start;
    float *restrict m = task->state[0] + start, *restrict update = w->update + first;
    float scale = task->grad_scale, momentum = task->group->momentum;
    float ahead = task->group->nesterov ? 1.0f - momentum : 0.0f;
    (void)piece;
    for (size_t i = 0; i < count; i++) {
        float g = grad[i] * scale;
        m[i] += (1.0f - momentum) * (g - m[i]);
        update[i] = m[i] + ahead * (g - m[i]);
    }
}

static void apply_update(void *arg, size_t piece, size_t first, size_t count)
{
    const muon *w = arg;
    const float *restrict update = w->update + first;
    float *restrict p = w->task->param->value + w->first * w->m * w->n + first;
    (void)piece;
    for (size_t i = 0; i < count; i++)
        p[i] = w->keep * p[i] - w->rate * update[i];
}

static void step_batch(muon *w)
{
    const jt_param *p = w->task->param;
    size_t values = w->count * p->rows * p->cols;
    jt_optim_for(w->task->pool, values, JT_OPTIM_CHUNK, follow_momentum, w);
    if (w->update == w->xt)
        transpose(w, w->x, w->xt, p->rows, p->cols);
    newton_schulz(w);
    if (w->update == w->xt)
        transpose(w, w->xt, w->x, p->cols, p->rows);
    jt_optim_for(w->task->pool, values, JT_OPTIM_CHUNK, apply_update, w);
}

static void step_muon(const jt_optim_task *task)
{
    const jt_param *p = task->param;
    size_t batch = batch_of(p), values = batch * p->rows * p->cols;
    double shape = (double)p->rows / (double)p->cols;
    muon w = {
        .task = task,
        .m = shorter(p),
        .n = p->rows < p->cols ? p->cols : p->rows,
        .x = task->scratch,
        .xt = task->scratch + values,
        .gram = task->scratch + 2 * values,
        .keep = 1.0f - task->lr * task->group->weight_decay,
        .rate = (float)(task->lr * sqrt(shape > 1.0 ? shape : 1.0)),
    };
    w.poly = w.gram + batch * w.m * w.m;
    w.update = p->rows > p->cols ? w.xt : w.x;
    for (w.first = 0; w.first < p->count; w.first += batch) {
        w.count = p->count - w.first < batch ? p->count - w.first : batch;
        step_batch(&w);
    }
}

const jt_optim_rule jt_optim_muon = {
    .states = {{"muon.m", JT_OPTIM_PER_VALUE}},
    .scratch = scratch_of,
    .step = step_muon,
};
