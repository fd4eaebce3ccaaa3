/* The NEON level: any AArch64. */
#include "kernels/arm/level.h"
#include "kernels/arm/simd_neon.h"
#include "kernels/simd/level.h"

void jt_arm_set_neon(jt_kernels *table)
{
    set_level(table, "neon");
}
