/* Experts at work, in as many waves as the store takes to bring them. A value depends
 * on its own expert and token only, so the waves do not show in the result. */
#include <string.h>

#include "moe/experts.h"
#include "moe/plan.h"
#include "tensor/tape.h"

static bool lease_init(jt_context *ctx, jt_lease *lease, const jt_bank *bank,
                       const jt_plan *plan)
{
    size_t experts = (size_t)bank->n_experts, parts = experts * JT_PARTS;
    *lease = (jt_lease){.part = jt_scratch(ctx, parts, sizeof *lease->part),
                        .expert = jt_scratch(ctx, experts, sizeof *lease->expert),
                        .whole = ctx->tape != NULL,
                        .plan = plan};
    return !jt_failed(ctx);
}

/* The forms of x that the products of a wave will want are made once for all waves. */
static void pack_for(jt_context *ctx, const jt_tensor *part, jt_input *x)
{
    for (size_t e = 0; part->types && e < part->shape[0]; e++)
        jt_input_pack(ctx, x, part->types[e]);
    if (jt_has(part))
        jt_input_pack(ctx, x, part->dtype);
}

/* The experts of a wave: their rows, computed one after the other, go to their places
 * in y. */
static void apply_wave(jt_context *ctx, const jt_bank *bank, const jt_lease *lease,
                       jt_input *x, jt_tensor *y)
{
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    const jt_plan *all = lease->plan;
    jt_plan wave = jt_plan_of_experts(ctx, all, lease->expert, lease->n_wave);
    jt_tensor rows = bank->kind->apply(ctx, bank, lease, &wave, x);
    for (int i = 0; i < lease->n_wave && !jt_failed(ctx); i++) {
        int e = lease->expert[i];
        size_t count = (size_t)(all->start[e + 1] - all->start[e]);
        memcpy(jt_row(y, (size_t)all->start[e]), jt_row(&rows, (size_t)wave.start[e]),
               count * jt_cols(y) * sizeof(float));
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

static jt_tensor apply_waves(jt_context *ctx, const jt_bank *bank,
                             const jt_store *store, jt_lease *lease, jt_input *x)
{
    pack_for(ctx, &bank->part[JT_PART_UP], x);
    pack_for(ctx, &bank->part[JT_PART_GATE], x);
    jt_tensor y = jt_new(ctx, (size_t)lease->plan->n_rows, bank->d);
    for (;;) {
        apply_wave(ctx, bank, lease, x, &y);
        jt_lap(ctx, JT_STAGE_APPLY);
        if (!lease->more || jt_failed(ctx))
            return y;
        store->advance(store->self, bank, lease, &ctx->err);
        jt_lap(ctx, JT_STAGE_DISPATCH);
    }
}

/* ---- gradients ---- */

/* A lease that is there again while gradients pass its experts. */
typedef struct loan {
    const jt_bank *bank;
    const jt_store *store;
    jt_plan plan;
    jt_lease lease;
} loan;

/* Acquire; what reads a part later asks the lease where it lies. */
static jt_status lend(jt_context *ctx, const jt_bank *bank, const jt_store *store,
                      jt_lease *lease)
{
    JT_TRY(store->acquire(store->self, bank, lease, &ctx->err));
    for (int i = 0; lease->whole && i < lease->n_wave * JT_PARTS; i++) {
        jt_tensor *part =
            &lease->part[lease->expert[i / JT_PARTS] * JT_PARTS + i % JT_PARTS];
        part->lent = part;
    }
    return JT_OK;
}

static void lend_again(jt_context *ctx, void *saved)
{
    loan *l = *(loan **)saved;
    l->lease.n_wave = 0;
    lend(ctx, l->bank, l->store, &l->lease);
}

static void take_back(jt_context *ctx, void *saved)
{
    loan *l = *(loan **)saved;
    (void)ctx;
    l->store->release(l->store->self, l->bank, &l->lease);
}

/* One wave, with what its gradients need between two steps of the tape. */
static jt_tensor apply_recorded(jt_context *ctx, const jt_bank *bank,
                                const jt_store *store, const jt_lease *lease,
                                jt_input *x)
{
    loan *l = jt_scratch(ctx, 1, sizeof *l);
    if (!l)
        return (jt_tensor){0};
    *l = (loan){bank, store, *lease->plan, *lease};
    l->lease.plan = &l->plan;
    jt_tape_push(ctx, take_back, &l, sizeof l);
    jt_tensor y = bank->kind->apply(ctx, bank, lease, lease->plan, x);
    jt_tape_push(ctx, lend_again, &l, sizeof l);
    return y;
}

jt_tensor jt_bank_apply(jt_context *ctx, const jt_bank *bank, const jt_store *store,
                        const jt_plan *plan, jt_input *x)
{
    jt_lease lease;
    if (!lease_init(ctx, &lease, bank, plan) || lend(ctx, bank, store, &lease) != JT_OK)
        return (jt_tensor){0};
    jt_lap(ctx, JT_STAGE_DISPATCH);
    jt_tensor y = lease.more  ? apply_waves(ctx, bank, store, &lease, x)
                  : ctx->tape ? apply_recorded(ctx, bank, store, &lease, x)
                              : bank->kind->apply(ctx, bank, &lease, plan, x);
    store->release(store->self, bank, &lease);
    return y;
}
