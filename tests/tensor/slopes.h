/* Gradients against central differences. The loss is a fixed random sum of the output's
 * values; each input is moved along random directions. */
#ifndef SLOPES_H
#define SLOPES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "tensor/ops.h"

enum { MAX_INPUTS = 16 };

/* A parameter with a gradient, outside the scratch: normal values with a deviation of
 * 0.5. */
jt_tensor parameter(jt_rng *rng, size_t rows, size_t cols, float mean);

typedef struct setting {
    jt_tensor input[MAX_INPUTS]; /* parameters, freed by the check */
    int n_inputs;
    const void *user;
    jt_tensor (*forward)(jt_context *ctx, struct setting *s);
} setting;

/* At every kernel level: the slopes of all inputs, and the same bits with one and more
 * threads. */
void check_setting(setting *s);

#endif
