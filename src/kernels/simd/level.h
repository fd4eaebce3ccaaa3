/* Everything in simd/, as one level: included by each after the words that it is to be
 * written in. */
#ifndef JT_SIMD_LEVEL_H
#define JT_SIMD_LEVEL_H

#include "kernels/c/loops.h"
#include "kernels/simd/attention.h"
#include "kernels/simd/attention_back.h"
#include "kernels/simd/backward.h"
#include "kernels/simd/few.h"
#include "kernels/simd/gemm.h"
#include "kernels/simd/glu.h"
#include "kernels/simd/recur.h"
#include "kernels/simd/recur_back.h"
#include "kernels/simd/spin.h"
#include "kernels/simd/thin.h"
#include "kernels/simd/vector.h"

static void set_level(jt_kernels *table, const char *name)
{
    table->name = name;
    set_loops(table);
    set_matmuls(table);
    set_few(table);
    set_thin(table);
    set_vectors(table);
    table->attention = attention;
    table->gemm = gemm;
    set_backward(table);
    set_glu(table);
    table->attention_back = attention_back;
    set_recur(table);
    table->recur_back = recur_back;
    set_spin(table);
}

#endif
