/* The gated FFN expert: y = W_down (silu(W_gate x) * (W_up x)) (Shazeer 2020, "GLU
 * variants improve transformer").
 *
 * One fused grouped operation over the plan. All gate and up products of all experts
 * run in one parallel region, then all activations, then all down products. Rows are
 * sorted by expert; the tokens are gathered by index inside the product, not copied. */
#include <string.h>

#include "moe/experts.h"
#include "moe/plan.h"

/* Products of part `part` for every expert that has rows; their number. */
static size_t list_products(jt_product *list, const jt_bank *bank,
                            const jt_lease *lease, const jt_plan *plan, int part,
                            jt_tensor *y, jt_input *x, const jt_gathering *via)
{
    size_t n = 0;
    for (int e = 0; e < bank->n_experts; e++) {
        size_t first = (size_t)plan->start[e];
        size_t rows = (size_t)plan->start[e + 1] - first;
        if (rows == 0)
            continue;
        const jt_tensor *w = &lease->part[e * JT_PARTS + part];
        list[n] = jt_product_rows(y, w, x, first, rows);
        list[n++].via = via;
    }
    return n;
}

static jt_tensor apply_ffn(jt_context *ctx, const jt_bank *bank, const jt_lease *lease,
                           const jt_plan *plan, jt_input *x)
{
    size_t rows = (size_t)plan->n_rows;
    jt_fresh_begin(ctx, 2 * jt_fresh_values(rows, bank->width) +
                            jt_fresh_values(rows, bank->d));
    jt_tensor gate = jt_new_fresh(ctx, rows, bank->width);
    jt_tensor up = jt_new_fresh(ctx, rows, bank->width);
    jt_tensor y = jt_new_fresh(ctx, rows, bank->d);
    jt_product *list = jt_scratch(ctx, 2 * (size_t)bank->n_experts, sizeof *list);
    jt_gathering *via = jt_plan_is_order(plan) ? NULL : jt_scratch(ctx, 1, sizeof *via);
    if (jt_failed(ctx))
        return y;
    if (via)
        *via = (jt_gathering){plan->token, plan->row, rows, (size_t)plan->k};
    size_t n = list_products(list, bank, lease, plan, JT_PART_GATE, &gate, x, via);
    n += list_products(list + n, bank, lease, plan, JT_PART_UP, &up, x, via);
    jt_products(ctx, list, n);
    jt_input hidden = jt_input_of(jt_silu_mul(ctx, &gate, &up));
    n = list_products(list, bank, lease, plan, JT_PART_DOWN, &y, &hidden, NULL);
    jt_products(ctx, list, n);
    return y;
}

static const jt_expert_kind kinds[] = {
    {"ffn", apply_ffn},
};

const jt_expert_kind *jt_expert_kind_find(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    }
    return NULL;
}

jt_tensor jt_bank_apply(jt_context *ctx, const jt_bank *bank, const jt_store *store,
                        const jt_plan *plan, jt_input *x)
{
    size_t parts = (size_t)bank->n_experts * JT_PARTS;
    jt_lease lease = {.part = jt_scratch(ctx, parts, sizeof(jt_tensor))};
    if (jt_failed(ctx))
        return (jt_tensor){0};
    memset(lease.part, 0, parts * sizeof(jt_tensor));
    if (store->acquire(store->self, bank, plan, &lease, &ctx->err) != JT_OK)
        return (jt_tensor){0};
    jt_lap(ctx, JT_STAGE_DISPATCH);
    jt_tensor y = bank->kind->apply(ctx, bank, &lease, plan, x);
    store->release(store->self, &lease);
    return y;
}
