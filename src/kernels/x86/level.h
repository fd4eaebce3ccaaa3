/* What each x86 level puts in its table, when detect.c has found that the processor
 * runs it. */
#ifndef JT_X86_LEVEL_H
#define JT_X86_LEVEL_H

#include "kernels/kernels.h"

void jt_x86_set_avx2(jt_kernels *table);
void jt_x86_set_avx512(jt_kernels *table, bool bf16); /* bf16: has vdpbf16ps */
void jt_x86_set_avx512bf16(jt_kernels *table);        /* after it, if it has */

#endif
