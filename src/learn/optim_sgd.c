#include "learn/optim_rules.h"

static void update_plain(void *arg, size_t piece, size_t first, size_t count)
{
    const jt_optim_task *task = arg;
    const float *restrict grad = task->param->grad + first;
    float *restrict p = task->param->value + first;
    float scale = task->grad_scale, decay = task->group->weight_decay, lr = task->lr;
    (void)piece;
    for (size_t i = 0; i < count; i++)
        p[i] -= lr * (grad[i] * scale + decay * p[i]);
}

static void update_momentum(void *arg, size_t piece, size_t first, size_t count)
{
    const jt_optim_task *task = arg;
    const float *restrict grad = task->param->grad + first;
    float *restrict p = task->param->value + first, *restrict m =
                                                        task->state[0] + first;
    float scale = task->grad_scale, decay = task->group->weight_decay, lr = task->lr;
    float momentum = task->group->momentum;
    /* the step is g * of_g + m * of_m */
    float of_g = task->group->nesterov ? 1.0f : 0.0f;
    float of_m = task->group->nesterov ? momentum : 1.0f;
    (void)piece;
    for (size_t i = 0; i < count; i++) {
        float g = grad[i] * scale + decay * p[i];
        m[i] = momentum * m[i] + g;
        p[i] -= lr * (of_g * g + of_m * m[i]);
    }
}

static void step_plain(const jt_optim_task *task)
{
    jt_optim_for(task->pool, task->n, JT_OPTIM_CHUNK, update_plain, (void *)task);
}

static void step_momentum(const jt_optim_task *task)
{
    jt_optim_for(task->pool, task->n, JT_OPTIM_CHUNK, update_momentum, (void *)task);
}

const jt_optim_rule jt_optim_sgd = {.step = step_plain};

const jt_optim_rule jt_optim_sgd_momentum = {
    .states = {{"sgd.m", JT_OPTIM_PER_VALUE}},
    .step = step_momentum,
};
