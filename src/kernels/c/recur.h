/* The scalar linear recurrence and what its gates need. */
#ifndef JT_SCALAR_RECUR_H
#define JT_SCALAR_RECUR_H

#include "kernels/kernels.h"

void jt_scalar_recur(jt_kernels *table);

#endif
