/* NEON with the dot products of bytes of Armv8.2. */
#include "kernels/arm/level.h"
#include "kernels/arm/simd_neon.h"
#include "kernels/simd/level.h"

void jt_arm_set_dotprod(jt_kernels *table)
{
    set_level(table, "dotprod");
}
