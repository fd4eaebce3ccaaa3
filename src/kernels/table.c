/* The tables of all levels, built once; which one is used is the caller's choice. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

static jt_kernels tables[JT_CPU_COUNT];
static const jt_kernels *levels[JT_CPU_COUNT];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Names also of the levels that this processor lacks. */
static const char *const names[JT_CPU_COUNT] = {"scalar", "avx2", "avx512", "neon",
                                                "dotprod"};
static bool (*const init[JT_CPU_COUNT])(jt_kernels *table) = {
    NULL, jt_kernels_init_avx2, jt_kernels_init_avx512, jt_kernels_init_neon,
    jt_kernels_init_dotprod};

/* Each level begins as the best one below it that this processor runs. */
static void build(void)
{
    int best = JT_CPU_SCALAR;
    jt_kernels_init_scalar(&tables[best]);
    levels[best] = &tables[best];
    for (int i = best + 1; i < JT_CPU_COUNT; i++) {
        tables[i] = tables[best];
        if (!init[i](&tables[i]))
            continue;
        levels[i] = &tables[i];
        best = i;
    }
}

const jt_kernels *jt_kernels_level(jt_cpu_level level)
{
    pthread_once(&once, build);
    return levels[level];
}

static jt_status choose_named(const jt_kernels **out, const char *name, jt_err *err)
{
    for (int i = 0; i < JT_CPU_COUNT; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        const jt_kernels *found = jt_kernels_level((jt_cpu_level)i);
        if (!found)
            return jt_fail(err, JT_E_UNSUPPORTED,
                           "this processor cannot run the '%s' kernels", name);
        *out = found;
        return JT_OK;
    }
    return jt_fail(err, JT_E_ARG,
                   "unknown kernels '%s' (JUNTO_CPU), expected scalar, avx2, avx512, "
                   "neon or dotprod",
                   name);
}

jt_status jt_kernels_choose(const jt_kernels **out, const char *name, jt_err *err)
{
    if (!name)
        name = getenv("JUNTO_CPU");
    if (name && *name)
        return choose_named(out, name, err);
    for (int i = 0; i < JT_CPU_COUNT; i++)
        if (jt_kernels_level((jt_cpu_level)i))
            *out = jt_kernels_level((jt_cpu_level)i);
    return JT_OK;
}
