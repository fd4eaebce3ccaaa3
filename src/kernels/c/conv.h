/* The causal depthwise convolution: a plain loop, compiled for each level. Widths that
 * models have are constants, so that the compiler can take weights of neighbouring
 * channels apart in registers. */
#ifndef JT_CONV_H
#define JT_CONV_H

#include <stddef.h>

static inline __attribute__((always_inline)) void
conv_width(float *y, const float *const *x, const float *w, const float *bias,
           const size_t width, size_t n)
{
    for (size_t c = 0; c < n; c++) {
        float sum = bias ? bias[c] : 0;
        for (size_t j = 0; j < width; j++)
            sum += w[c * width + j] * x[j][c];
        y[c] = sum;
    }
}

static void conv(float *y, const float *const *x, const float *w, const float *bias,
                 size_t width, size_t n)
{
    if (width == 4 && bias)
        conv_width(y, x, w, bias, 4, n);
    else if (width == 4)
        conv_width(y, x, w, NULL, 4, n);
    else if (width == 3)
        conv_width(y, x, w, bias, 3, n);
    else
        conv_width(y, x, w, bias, width, n);
}

#endif
