/* The parameters, gradients and settings of optim.gguf (see make_optim.py), and
 * training with them. What goes wrong fails the test. */
#ifndef OPTIM_FIXTURE_H
#define OPTIM_FIXTURE_H

#include "junto/gguf.h"
#include "learn/optim.h"

enum { PARAMS = 6, MAX_CASES = 16 };

/* The file, two pools and the best kernels, for all tests of a program. */
typedef struct fixture {
    jt_gguf *file;
    jt_pool *one, *two; /* of one thread and of two */
    const jt_kernels *kernels;
    const float *lr; /* [steps] */
    size_t steps;
    float grad_scale;
    char cases[MAX_CASES][32];
    size_t n_cases;
} fixture;

int fixture_setup(void **state);
int fixture_teardown(void **state);
/* Values of the tensor "PREFIX/NAME". */
const float *fixture_find(const fixture *f, const char *prefix, const char *name);
/* The settings of a case, for all parameters. */
jt_optim_group fixture_group(const fixture *f, const char *name);

/* Parameters with memory of their own. */
typedef struct model {
    jt_param params[PARAMS];
    size_t n;
} model;

static inline size_t values(const jt_param *p)
{
    return p->count * p->rows * p->cols;
}

jt_optim *fixture_optim(const fixture *f, const model *m, const jt_optim_group *groups,
                        size_t n_groups);

/* The parameters of the file (values not yet set): each matrix repeated `times` down
 * and across, each vector as often altogether. */
model model_load(const fixture *f, size_t times);
void model_unload(model *m);
/* Fill `to`, shaped like `p`, from values of the shape in the file. */
void model_repeat(float *to, const float *from, const jt_param *p, size_t times);
/* The values with which the file starts. */
void model_start(const fixture *f, model *m, size_t times);
/* Steps first .. last - 1 of the file, its rates times lr_scale. */
void model_train(const fixture *f, model *m, size_t times, jt_optim *optim,
                 jt_pool *pool, size_t first, size_t last, float lr_scale);

#endif
