/* The AVX-512 level: everything in simd/, compiled over simd_avx512.h. */
#include "kernels/x86/level.h"
#include "kernels/x86/simd_avx512.h"
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
#include "kernels/x86/avx512_bf16.h"

void jt_x86_set_avx512(jt_kernels *table, bool bf16)
{
    table->name = "avx512";
    set_loops(table);
    set_matmuls(table);
    if (bf16)
        set_bf16(table);
    set_vectors(table);
    table->attention = attention;
    table->gemm = gemm;
    set_backward(table);
    set_glu(table);
    table->attention_back = attention_back;
    set_recur(table);
    set_spin(table);
}
