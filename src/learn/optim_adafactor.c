#include <math.h>

#include "learn/optim_rules.h"

typedef struct adafactor {
    const jt_optim_task *task;
    float beta;                     /* weight of the past in the running means */
    float keep;                     /* of the parameter, after weight decay */
    float rate;                     /* lr, after clipping; set once rms(u) is known */
    float *row_factor, *col_factor; /* of a matrix: u = g * row_factor * col_factor */
} adafactor;

static adafactor prepare(const jt_optim_task *task)
{
    return (adafactor){
        .task = task,
        .beta = (float)(1.0 - pow((double)task->step, -0.8)),
        .keep = 1.0f - task->lr * task->group->weight_decay,
    };
}

/* Clip the update to rms 1, given the sums of the squares of its pieces. */
static void clip(adafactor *a, size_t n_parts)
{
    double squares = jt_optim_total(a->task->parts, n_parts);
    double rms = sqrt(squares / (double)a->task->n);
    a->rate = (float)(a->task->lr / (rms > 1.0 ? rms : 1.0));
}

/* ---- vectors ------------------------------------------------------------------------
 */

static void mean_of_values(void *arg, size_t piece, size_t first, size_t count)
{
    const adafactor *a = arg;
    const float *restrict grad = a->task->param->grad + first;
    float *restrict v = a->task->state[0] + first;
    float scale = a->task->grad_scale, eps = a->task->group->eps, beta = a->beta;
    double squares = 0.0;
    for (size_t i = 0; i < count; i++) {
        float g = grad[i] * scale;
        v[i] = beta * v[i] + (1.0f - beta) * (g * g + eps);
        squares += (double)g * g / v[i];
    }
    a->task->parts[piece] = squares;
}

static void update_values(void *arg, size_t piece, size_t first, size_t count)
{
    const adafactor *a = arg;
    const float *restrict grad = a->task->param->grad + first;
    const float *restrict v = a->task->state[0] + first;
    float *restrict p = a->task->param->value + first;
    float scale = a->task->grad_scale, keep = a->keep, rate = a->rate;
    (void)piece;
    for (size_t i = 0; i < count; i++)
        p[i] = keep * p[i] - rate * (grad[i] * scale / sqrtf(v[i]));
}

static void step_vector(const jt_optim_task *task)
{
    adafactor a = prepare(task);
    clip(&a, jt_optim_for(task->pool, task->n, JT_OPTIM_CHUNK, mean_of_values, &a));
    jt_optim_for(task->pool, task->n, JT_OPTIM_CHUNK, update_values, &a);
}

/* ---- matrices -----------------------------------------------------------------------
 * Rows are counted through all matrices of a stack: row i belongs to matrix i / rows.
 */

static void mean_of_rows(void *arg, size_t piece, size_t first, size_t count)
{
    const adafactor *a = arg;
    const jt_optim_task *task = a->task;
    double squared = (double)task->grad_scale * task->grad_scale;
    size_t cols = task->param->cols;
    (void)piece;
    for (size_t i = first; i < first + count; i++) {
        double squares = jt_optim_squares(task->param->grad + i * cols, cols);
        float mean = (float)(squared * squares / (double)cols) + task->group->eps;
        task->state[0][i] = a->beta * task->state[0][i] + (1.0f - a->beta) * mean;
    }
}

enum { COLS = 256 }; /* of one matrix, an item for the means over columns */

static size_t col_items(const jt_param *p)
{
    return (p->cols + COLS - 1) / COLS;
}

static void mean_of_cols(void *arg, size_t item)
{
    const adafactor *a = arg;
    const jt_param *p = a->task->param;
    size_t matrix = item / col_items(p), first = item % col_items(p) * COLS;
    size_t count = p->cols - first < COLS ? p->cols - first : COLS;
    const float *grad = p->grad + matrix * p->rows * p->cols + first;
    float *col = a->task->state[1] + matrix * p->cols + first;
    double squared = (double)a->task->grad_scale * a->task->grad_scale;
    double sum[COLS] = {0.0};
    for (size_t i = 0; i < p->rows; i++) {
        for (size_t j = 0; j < count; j++)
            sum[j] += (double)grad[i * p->cols + j] * grad[i * p->cols + j];
    }
    for (size_t j = 0; j < count; j++) {
        float mean = (float)(squared * sum[j] / (double)p->rows) + a->task->group->eps;
        col[j] = a->beta * col[j] + (1.0f - a->beta) * mean;
    }
}

static void factors_of_matrix(void *arg, size_t matrix)
{
    const adafactor *a = arg;
    size_t rows = a->task->param->rows, cols = a->task->param->cols;
    const float *row = a->task->state[0] + matrix * rows;
    const float *col = a->task->state[1] + matrix * cols;
    float *row_factor = a->row_factor + matrix * rows;
    float *col_factor = a->col_factor + matrix * cols;
    double mean = 0.0;
    for (size_t i = 0; i < rows; i++)
        mean += row[i];
    mean /= (double)rows;
    for (size_t i = 0; i < rows; i++)
        row_factor[i] = (float)sqrt(mean / row[i]);
    for (size_t j = 0; j < cols; j++)
        col_factor[j] = 1.0f / sqrtf(col[j]);
}

static void squares_of_rows(void *arg, size_t piece, size_t first, size_t count)
{
    const adafactor *a = arg;
    const jt_param *p = a->task->param;
    (void)piece;
    for (size_t i = first; i < first + count; i++) {
        const float *col_factor = a->col_factor + i / p->rows * p->cols;
        double scale = (double)a->task->grad_scale * a->row_factor[i];
        a->task->parts[i] =
            scale * scale *
            jt_optim_squares_times(p->grad + i * p->cols, col_factor, p->cols);
    }
}

static void update_rows(void *arg, size_t piece, size_t first, size_t count)
{
    const adafactor *a = arg;
    const jt_param *p = a->task->param;
    (void)piece;
    for (size_t i = first; i < first + count; i++) {
        const float *restrict grad = p->grad + i * p->cols;
        const float *restrict factor = a->col_factor + i / p->rows * p->cols;
        float *restrict value = p->value + i * p->cols;
        float rate = a->rate * a->task->grad_scale * a->row_factor[i], keep = a->keep;
        for (size_t j = 0; j < p->cols; j++)
            value[j] = keep * value[j] - rate * (grad[j] * factor[j]);
    }
}

static void step_matrix(const jt_optim_task *task)
{
    const jt_param *p = task->param;
    size_t rows = p->count * p->rows, chunk = jt_optim_rows(p->cols);
    adafactor a = prepare(task);
    a.row_factor = task->scratch;
    a.col_factor = task->scratch + rows;
    jt_optim_for(task->pool, rows, chunk, mean_of_rows, &a);
    jt_pool_run(task->pool, mean_of_cols, &a, p->count * col_items(p));
    jt_pool_run(task->pool, factors_of_matrix, &a, p->count);
    jt_optim_for(task->pool, rows, chunk, squares_of_rows, &a);
    clip(&a, rows);
    jt_optim_for(task->pool, rows, chunk, update_rows, &a);
}

static size_t matrix_scratch(const jt_param *p)
{
    return p->count * (p->rows + p->cols);
}

const jt_optim_rule jt_optim_adafactor_vector = {
    .states = {{"adafactor.v", JT_OPTIM_PER_VALUE}},
    .step = step_vector,
};

const jt_optim_rule jt_optim_adafactor_matrix = {
    .states = {{"adafactor.row", JT_OPTIM_PER_ROW},
               {"adafactor.col", JT_OPTIM_PER_COL}},
    .scratch = matrix_scratch,
    .step = step_matrix,
};
