/* The recurrent layers once more: whole sequences, token by token and value by value,
 * in double, straight from the formulas in src/nn. x is [tokens, d], y [tokens, d]. */
#ifndef NAIVE_H
#define NAIVE_H

#include "nn/delta_net.h"
#include "nn/kimi_delta.h"
#include "nn/lightning.h"
#include "nn/mamba.h"
#include "nn/mamba2.h"
#include "nn/short_conv.h"

void naive_short_conv(const jt_short_conv *m, const double *x, size_t tokens,
                      double *y);
void naive_mamba(const jt_mamba *m, const double *x, size_t tokens, double *y);
void naive_mamba2(const jt_mamba2 *m, const double *x, size_t tokens, double *y);
void naive_delta_net(const jt_delta_net *m, const double *x, size_t tokens, double *y);
void naive_kimi_delta(const jt_kimi_delta *m, const double *x, size_t tokens,
                      double *y);
void naive_lightning(const jt_lightning *m, const double *x, size_t tokens, double *y);

#endif
