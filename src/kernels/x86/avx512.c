/* The AVX-512 level: everything in simd/, compiled over simd_avx512.h. */
#include "kernels/x86/level.h"
#include "kernels/x86/simd_avx512.h"
#include "kernels/c/loops.h"
#include "kernels/simd/attention.h"
#include "kernels/simd/matmul.h"
#include "kernels/simd/vector.h"

void jt_x86_set_avx512(jt_kernels *table)
{
    table->name = "avx512";
    set_loops(table);
    set_matmuls(table);
    set_vectors(table);
    table->attention = attention;
}
