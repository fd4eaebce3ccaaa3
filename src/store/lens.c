#include "store/lens.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

static const float step = 0.1f, shift_rate = 1.0f / 64.0f;

size_t jt_lens_bytes(size_t n)
{
    return (n + 1) * n * sizeof(float);
}

jt_status jt_lens_init(jt_lens *out, size_t n, jt_err *err)
{
    *out = (jt_lens){.n = n, .matrix = jt_calloc((n + 1) * n, sizeof *out->matrix)};
    if (!out->matrix)
        return jt_fail_memory(err, "starting a cache");
    out->shift = out->matrix + n * n;
    return JT_OK;
}

void jt_lens_free(jt_lens *lens)
{
    free(lens->matrix);
    *lens = (jt_lens){0};
}

void jt_lens_look(const jt_lens *lens, const jt_kernels *kernels, const float *x,
                  float *y)
{
    size_t n = lens->n;
    for (size_t e = 0; e < n; e++)
        y[e] = x[e] + kernels->dot(lens->matrix + e * n, x, n) + lens->shift[e];
}

void jt_lens_learn(jt_lens *lens, const jt_kernels *kernels, const float *x,
                   float *truth)
{
    size_t n = lens->n;
    float power = kernels->dot(x, x, n);
    if (!(power > 0.0f))
        return;
    for (size_t e = 0; e < n; e++) {
        float *row = lens->matrix + e * n;
        float missing = truth[e] - x[e] - kernels->dot(row, x, n) - lens->shift[e];
        lens->shift[e] += shift_rate * missing;
        kernels->axpy(row, step * missing / power, x, n);
    }
}

bool jt_lens_centre(float *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    if (!isfinite(sum))
        return false;
    for (size_t i = 0; i < n; i++)
        x[i] -= (float)(sum / (double)n);
    return true;
}
