#include <math.h>

#include "learn/optim_rules.h"

typedef struct adamw {
    const jt_optim_task *task;
    float keep; /* of the parameter, after weight decay */
    float rate; /* lr without the bias of m */
    float root; /* 1 / sqrt(bias of v) */
} adamw;

static void update_piece(void *arg, size_t piece, size_t first, size_t count)
{
    const adamw *a = arg;
    const jt_optim_task *task = a->task;
    const float *restrict grad = task->param->grad + first;
    float *restrict p = task->param->value + first;
    float *restrict m = task->state[0] + first, *restrict v = task->state[1] + first;
    float take1 = 1.0f - task->group->beta1, eps = task->group->eps;
    float beta2 = task->group->beta2, take2 = 1.0f - beta2;
    float scale = task->grad_scale, keep = a->keep, rate = a->rate, root = a->root;
    (void)piece;
    for (size_t i = 0; i < count; i++) {
        float g = grad[i] * scale;
        m[i] += take1 * (g - m[i]);
        v[i] = beta2 * v[i] + take2 * g * g;
        p[i] = keep * p[i] - rate * m[i] / (sqrtf(v[i]) * root + eps);
    }
}

static void step_adamw(const jt_optim_task *task)
{
    const jt_optim_group *group = task->group;
    double t = (double)task->step;
    adamw a = {
        .task = task,
        .keep = 1.0f - task->lr * group->weight_decay,
        .rate = (float)(task->lr / (1.0 - pow(group->beta1, t))),
        .root = (float)(1.0 / sqrt(1.0 - pow(group->beta2, t))),
    };
    jt_optim_for(task->pool, task->n, JT_OPTIM_CHUNK, update_piece, &a);
}

const jt_optim_rule jt_optim_adamw = {
    .states = {{"adamw.m", JT_OPTIM_PER_VALUE}, {"adamw.v", JT_OPTIM_PER_VALUE}},
    .step = step_adamw,
};
