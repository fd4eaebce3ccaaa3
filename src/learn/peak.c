#include "learn/peak.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"

enum { SIDE = JT_PEAK_SIDE, MATRIX = SIDE * SIDE, VALUES = 3 * MATRIX };

jt_status jt_peak_init(jt_peak *peak, const jt_kernels *kernels, jt_err *err)
{
    jt_rng rng = {.seed = 1};
    *peak =
        (jt_peak){kernels, jt_alloc((size_t)JT_PEAK_PRODUCTS * VALUES, sizeof(float)),
                  jt_alloc(JT_PEAK_PRODUCTS, jt_gemm_scratch())};
    if (!peak->matrices || !peak->scratch) {
        jt_peak_free(peak);
        return jt_fail_memory(err, "measuring the machine");
    }
    jt_rng_normals(&rng, peak->matrices, (size_t)JT_PEAK_PRODUCTS * VALUES);
    return JT_OK;
}

void jt_peak_free(jt_peak *peak)
{
    free(peak->matrices);
    free(peak->scratch);
    *peak = (jt_peak){0};
}

static void multiply(void *arg, size_t i)
{
    const jt_peak *p = arg;
    float *c = p->matrices + i * VALUES;
    p->kernels->gemm(&(jt_gemm){
        .c = c,
        .a = c + MATRIX,
        .b = c + 2 * MATRIX,
        .ldc = SIDE,
        .a_row = SIDE,
        .a_col = 1,
        .b_row = SIDE,
        .b_col = 1,
        .m = SIDE,
        .n = SIDE,
        .k = SIDE,
        .scratch = (float *)(p->scratch + i * jt_gemm_scratch()),
    });
}

double jt_peak_run(const jt_peak *peak, jt_pool *pool)
{
    jt_pool_run(pool, multiply, (void *)(uintptr_t)peak, JT_PEAK_PRODUCTS);
    return 2.0 * MATRIX * SIDE * JT_PEAK_PRODUCTS;
}
