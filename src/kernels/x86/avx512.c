/* The AVX-512 level. */
#include "kernels/x86/level.h"
#include "kernels/x86/simd_avx512.h"
#include "kernels/simd/level.h"
#include "kernels/x86/avx512_bf16.h"

void jt_x86_set_avx512(jt_kernels *table, bool bf16)
{
    set_level(table, "avx512");
    if (bf16)
        set_bf16(table);
}
