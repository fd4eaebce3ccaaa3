/* Scalar matrix products. */
#ifndef JT_C_MATMUL_H
#define JT_C_MATMUL_H

#include "kernels/kernels.h"

/* Every matmul of the scalar table. */
void jt_scalar_matmuls(jt_matmul matmul[JT_DTYPE_COUNT]);

#endif
