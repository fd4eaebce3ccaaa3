/* Which levels this processor runs. */
#include "kernels/arm/level.h"

#ifdef __linux__
#include <asm/hwcap.h>
#include <sys/auxv.h>

static bool has_dotprod(void)
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
}
#elif defined(__APPLE__) /* every one that Apple made has them */
static bool has_dotprod(void)
{
    return true;
}
#else
static bool has_dotprod(void)
{
    return false;
}
#endif

bool jt_kernels_init_neon(jt_kernels *table)
{
    jt_arm_set_neon(table);
    return true;
}

bool jt_kernels_init_dotprod(jt_kernels *table)
{
    if (!has_dotprod())
        return false;
    jt_arm_set_dotprod(table);
    return true;
}
