/* The AArch64 levels of a build for another processor. */
#include "kernels/kernels.h"

bool jt_kernels_init_neon(jt_kernels *table)
{
    (void)table;
    return false;
}

bool jt_kernels_init_dotprod(jt_kernels *table)
{
    (void)table;
    return false;
}
