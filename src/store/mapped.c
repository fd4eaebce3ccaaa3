#include "store/mapped.h"

static jt_status acquire(void *self, const jt_bank *bank, const jt_plan *plan,
                         jt_lease *lease, jt_err *err)
{
    (void)self;
    (void)err;
    for (int e = 0; e < bank->n_experts; e++) {
        if (plan->start[e] == plan->start[e + 1])
            continue;
        for (int p = 0; p < JT_PARTS; p++) {
            if (jt_has(&bank->part[p]))
                lease->part[e * JT_PARTS + p] = jt_slice(&bank->part[p], (size_t)e);
        }
    }
    return JT_OK;
}

static void release(void *self, jt_lease *lease)
{
    (void)self;
    (void)lease;
}

const jt_store jt_store_mapped = {
    .name = "mapped",
    .acquire = acquire,
    .release = release,
};
