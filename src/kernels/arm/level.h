/* What each AArch64 level puts in its table, when detect.c has found that the processor
 * runs it. */
#ifndef JT_ARM_LEVEL_H
#define JT_ARM_LEVEL_H

#include "kernels/kernels.h"

void jt_arm_set_neon(jt_kernels *table);
void jt_arm_set_dotprod(jt_kernels *table);

#endif
