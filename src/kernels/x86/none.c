/* The x86 levels of a build for another processor. */
#include "kernels/kernels.h"

bool jt_kernels_init_avx2(jt_kernels *table)
{
    (void)table;
    return false;
}

bool jt_kernels_init_avx512(jt_kernels *table)
{
    (void)table;
    return false;
}
