/* What the AVX-512 level does with vdpbf16ps in training: a unit of its own, for the
 * flag. */
#include "kernels/x86/level.h"
#include "kernels/x86/simd_avx512.h"
#include "kernels/simd/gemm.h"

void jt_x86_set_avx512bf16(jt_kernels *table)
{
    table->gemm = gemm;
}
