/* Inside the optimisers: a rule is one way to update one parameter.
 *
 * Which items a rule gives to the pool, and in which order it adds up their sums, must
 * depend on the shapes alone: then the bits are the same for any number of threads. */
#ifndef JT_OPTIM_RULES_H
#define JT_OPTIM_RULES_H

#include "learn/optim.h"

enum {
    JT_OPTIM_STATES = 2,     /* at most, of a rule */
    JT_OPTIM_CHUNK = 1 << 13 /* values of an item of a parallel loop: 32 KiB */
};

/* What a rule is given for one step of one parameter. */
typedef struct jt_optim_task {
    const jt_param *param;
    size_t n;                    /* values of the parameter */
    const jt_optim_group *group; /* with its defaults filled in */
    float *const *state;         /* arrays in the order in which the rule lists them */
    int64_t step;                /* from 1 */
    float lr;                    /* of this parameter */
    float grad_scale;
    const jt_kernels *kernels;
    jt_pool *pool;
    float *scratch; /* as many as the rule asked for */
    double *parts;  /* [at least the rows of all matrices, or the chunks] */
} jt_optim_task;

/* Length of a state array. */
typedef enum jt_optim_extent {
    JT_OPTIM_PER_VALUE,
    JT_OPTIM_PER_ROW,
    JT_OPTIM_PER_COL
} jt_optim_extent;

typedef struct jt_optim_rule {
    struct {
        const char *name; /* NULL: no such array */
        jt_optim_extent extent;
    } states[JT_OPTIM_STATES];
    size_t (*scratch)(const jt_param *param); /* floats; NULL: none */
    void (*step)(const jt_optim_task *task);
} jt_optim_rule;

extern const jt_optim_rule jt_optim_adamw;
extern const jt_optim_rule jt_optim_sgd, jt_optim_sgd_momentum;
extern const jt_optim_rule jt_optim_adafactor_matrix, jt_optim_adafactor_vector;
extern const jt_optim_rule jt_optim_muon;

/* Call fn(arg, i, first, count) for each piece i of `chunk` items (the last may be
 * shorter) of n, in parallel; returns the number of pieces. */
typedef void jt_optim_piece_fn(void *arg, size_t i, size_t first, size_t count);
size_t jt_optim_for(jt_pool *pool, size_t n, size_t chunk, jt_optim_piece_fn *fn,
                    void *arg);

/* Rows of `cols` values that make a piece of about JT_OPTIM_CHUNK values. */
static inline size_t jt_optim_rows(size_t cols)
{
    return cols < JT_OPTIM_CHUNK ? JT_OPTIM_CHUNK / (cols ? cols : 1) : 1;
}

/* Sums in double: of x^2, of (x factor)^2, and of parts in their order. */
double jt_optim_squares(const float *x, size_t n);
double jt_optim_squares_times(const float *x, const float *factor, size_t n);
double jt_optim_total(const double *parts, size_t n);

#endif
