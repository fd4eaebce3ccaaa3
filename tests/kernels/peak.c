#include "peak.h"

#ifdef __x86_64__
#include <immintrin.h>

/* 12 chains of fma: more than the units need to be always busy. */
#define PEAK(name, flags, vec, set1, fma, lanes)                                     \
    __attribute__((target(flags))) static double peak_##name(void)                   \
    {                                                                                \
        const long steps = 2000000;                                                  \
        vec x[12], a = set1(0.999f);                                                 \
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) x[i] = set1((float)i); \
        for (long s = 0; s < steps; s++)                                             \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++)                    \
            {                                                                        \
                x[i] = fma(a, x[i], a);                                              \
                __asm__ volatile("" : "+v"(x[i]));                                   \
            }                                                                        \
        return 2.0 * lanes * 12 * (double)steps;                                     \
    }
PEAK(avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, 8)
PEAK(avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, 16)
#undef PEAK

double peak_work(jt_cpu_level level)
{
    return level == JT_CPU_AVX2     ? peak_avx2()
           : level == JT_CPU_AVX512 ? peak_avx512()
                                    : 0;
}
#else
double peak_work(jt_cpu_level level)
{
    (void)level;
    return 0;
}
#endif
