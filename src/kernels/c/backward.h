/* Scalar gradients. */
#ifndef JT_C_BACKWARD_H
#define JT_C_BACKWARD_H

#include "kernels/kernels.h"

/* Every gradient of the scalar table, and dot. */
void jt_scalar_backward(jt_kernels *table);

#endif
