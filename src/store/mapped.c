#include "store/mapped.h"

/* All experts are at hand: one wave. */
static jt_status acquire(void *self, const jt_bank *bank, jt_lease *lease, jt_err *err)
{
    const jt_plan *plan = lease->plan;
    (void)self;
    (void)err;
    for (int e = 0; e < bank->n_experts; e++) {
        if (plan->start[e] == plan->start[e + 1])
            continue;
        lease->expert[lease->n_wave++] = e;
        for (int p = 0; p < JT_PARTS; p++) {
            if (jt_has(&bank->part[p]))
                lease->part[e * JT_PARTS + p] = jt_slice(&bank->part[p], (size_t)e);
        }
    }
    return JT_OK;
}

static jt_status advance(void *self, const jt_bank *bank, jt_lease *lease, jt_err *err)
{
    (void)self;
    (void)bank;
    (void)lease;
    (void)err;
    return JT_OK;
}

static void release(void *self, const jt_bank *bank, jt_lease *lease)
{
    (void)self;
    (void)bank;
    (void)lease;
}

const jt_store jt_store_mapped = {
    .name = "mapped",
    .acquire = acquire,
    .advance = advance,
    .release = release,
};
