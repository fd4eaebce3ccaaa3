/* The AVX2 level: everything in simd/, compiled over simd_avx2.h. */
#include "kernels/x86/level.h"
#include "kernels/x86/simd_avx2.h"
#include "kernels/c/loops.h"
#include "kernels/simd/attention.h"
#include "kernels/simd/attention_back.h"
#include "kernels/simd/backward.h"
#include "kernels/simd/gemm.h"
#include "kernels/simd/glu.h"
#include "kernels/simd/matmul.h"
#include "kernels/simd/recur.h"
#include "kernels/simd/spin.h"
#include "kernels/simd/vector.h"

void jt_x86_set_avx2(jt_kernels *table)
{
    table->name = "avx2";
    set_loops(table);
    set_matmuls(table);
    set_vectors(table);
    table->attention = attention;
    table->gemm = gemm;
    set_backward(table);
    set_glu(table);
    table->attention_back = attention_back;
    set_recur(table);
    set_spin(table);
}
