#ifndef JT_C_GLU_H
#define JT_C_GLU_H

#include "kernels/kernels.h"

/* As in the kernel table, any activation. */
void jt_plain_glu(jt_activation f, float *y, const float *gate, const float *up,
                  size_t n);
void jt_plain_glu_back(jt_activation f, float *dgate, float *dup, const float *dy,
                       const float *gate, const float *up, size_t n);

#endif
