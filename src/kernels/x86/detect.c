/* Which levels this processor runs. Compiled without flags for any of them. */
#include "kernels/x86/level.h"

#include <cpuid.h>

/* A name that __builtin_cpu_supports of clang 14 does not know. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

bool jt_kernels_init_avx2(jt_kernels *table)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !has_f16c())
        return false;
    jt_x86_set_avx2(table);
    return true;
}

bool jt_kernels_init_avx512(jt_kernels *table)
{
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512vnni"))
        return false;
    bool bf16 = __builtin_cpu_supports("avx512bf16");
    jt_x86_set_avx512(table, bf16);
    if (bf16)
        jt_x86_set_avx512bf16(table);
    return true;
}
