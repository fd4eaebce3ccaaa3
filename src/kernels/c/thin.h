/* The scalar thin products. */
#ifndef JT_SCALAR_THIN_H
#define JT_SCALAR_THIN_H

#include "kernels/kernels.h"

void jt_scalar_thin(jt_kernels *table);

#endif
