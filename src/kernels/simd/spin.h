/* The multipliers at work, waiting for nothing: what the speed of products is measured
 * by. Written over the words of simd_avx512.h and its like. */
#ifndef JT_SPIN_H
#define JT_SPIN_H

#include "kernels/kernels.h"

/* Chains side by side, each waiting for itself: more than the units need to be always
 * busy, and few enough for the registers. */
#define CHAINS 12

static double spin_f32(long steps)
{
    vf x[CHAINS], a = vf_set1(0.999f);
    for (int i = 0; i < CHAINS; i++)
        x[i] = vf_set1((float)i);
    for (long s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            x[i] = vf_fma(a, x[i], a);
    vf sum = x[0];
    for (int i = 1; i < CHAINS; i++)
        sum = vf_add(sum, x[i]);
    return isfinite(vf_sum(sum)) ? 2.0 * LANES * CHAINS * (double)steps : 0;
}

static double spin_int8(long steps)
{
    vi x[CHAINS], a = vi_set1(0x01020304);
    for (int i = 0; i < CHAINS; i++)
        x[i] = vi_set1(i);
    for (long s = 0; s < steps; s++)
        for (int i = 0; i < CHAINS; i++)
            x[i] = vi_dot(x[i], x[i], a);
    vi sum = x[0];
    for (int i = 1; i < CHAINS; i++)
        sum = vi_or(sum, x[i]);
    /* never true, which the compiler does not know */
    return vf_sum(vf_from_vi(sum)) == 0.5f ? 0 : 8.0 * LANES * CHAINS * (double)steps;
}

static void set_spin(jt_kernels *table)
{
    table->spin[JT_SPIN_F32] = spin_f32;
    table->spin[JT_SPIN_INT8] = spin_int8;
}

#undef CHAINS

#endif
