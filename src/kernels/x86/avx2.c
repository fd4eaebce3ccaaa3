/* The AVX2 level. */
#include "kernels/x86/level.h"
#include "kernels/x86/simd_avx2.h"
#include "kernels/simd/level.h"

void jt_x86_set_avx2(jt_kernels *table)
{
    set_level(table, "avx2");
}
