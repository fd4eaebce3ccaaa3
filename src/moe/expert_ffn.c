/* The FFN expert, gated or not, with or without biases:
 *   y = W_down (f(W_gate x) * (W_up x))     (Shazeer 2020, "GLU variants improve
 *   y = W_down f(W_up x)                     transformer")
 *
 * One fused grouped operation over the plan. All gate and up products of all experts
 * run in one parallel region, then all activations, then all down products. Rows are
 * sorted by expert; the tokens are gathered by index inside the product, not copied. */
#include <string.h>

#include "moe/expert_bias.h"
#include "moe/experts.h"
#include "moe/plan.h"

/* Products of part `part` for every expert that has rows; their number. */
static size_t list_products(jt_product *list, const jt_bank *bank,
                            const jt_lease *lease, const jt_plan *plan, int part,
                            jt_tensor *y, jt_input *x, const jt_gathering *via)
{
    size_t n = 0;
    for (int e = 0; jt_has(&bank->part[part]) && e < bank->n_experts; e++) {
        size_t first = (size_t)plan->start[e];
        size_t rows = (size_t)plan->start[e + 1] - first;
        if (rows == 0)
            continue;
        const jt_tensor *w = &lease->part[e * JT_PARTS + part];
        list[n] = jt_product_rows(y, w, x, first, rows);
        list[n].token = plan->token;
        list[n++].via = via;
    }
    return n;
}

/* Output of part `part`, not yet computed, with a fresh gradient; empty where there is
 * no such part. */
static jt_tensor output_of(jt_context *ctx, const jt_bank *bank, const jt_plan *plan,
                           int part)
{
    const jt_tensor *w = &bank->part[part];
    return jt_has(w) ? jt_new_fresh(ctx, (size_t)plan->n_rows, w->shape[1])
                     : (jt_tensor){0};
}

/* What the fresh gradients of `rows` rows take: those of the parts, and of the hidden
 * values where gate and up are one tensor. */
static size_t fresh_values(const jt_bank *bank, size_t rows)
{
    size_t values = bank->fused ? jt_fresh_values(rows, bank->width) : 0;
    for (int part = 0; part < JT_PARTS; part++) {
        const jt_tensor *w = &bank->part[part];
        values += jt_has(w) ? jt_fresh_values(rows, w->shape[1]) : 0;
    }
    return values;
}

static jt_tensor activate(jt_context *ctx, const jt_bank *bank, const jt_tensor *gate,
                          const jt_tensor *up)
{
    if (bank->fused)
        return jt_glu_halves(ctx, bank->activation, gate);
    if (!jt_has(gate)) /* f(up) */
        return jt_glu(ctx, bank->activation, up, gate);
    return jt_glu(ctx, bank->activation, gate, up);
}

static jt_tensor apply_ffn(jt_context *ctx, const jt_bank *bank, const jt_lease *lease,
                           const jt_plan *plan, jt_input *x)
{
    size_t rows = (size_t)plan->n_rows;
    jt_fresh_begin(ctx, fresh_values(bank, rows));
    jt_tensor gate = output_of(ctx, bank, plan, JT_PART_GATE);
    jt_tensor up = output_of(ctx, bank, plan, JT_PART_UP);
    jt_tensor y = output_of(ctx, bank, plan, JT_PART_DOWN);
    jt_product *list = jt_scratch(ctx, 2 * (size_t)bank->n_experts, sizeof *list);
    jt_gathering *via = plan->in_order ? NULL : jt_scratch(ctx, 1, sizeof *via);
    if (jt_failed(ctx))
        return y;
    if (via)
        *via = (jt_gathering){plan->token, plan->row, rows, (size_t)plan->k};
    size_t n = list_products(list, bank, lease, plan, JT_PART_GATE, &gate, x, via);
    n += list_products(list + n, bank, lease, plan, JT_PART_UP, &up, x, via);
    jt_products(ctx, list, n);
    jt_add_expert_bias(ctx, plan, &gate, &bank->bias[JT_PART_GATE]);
    jt_add_expert_bias(ctx, plan, &up, &bank->bias[JT_PART_UP]);
    jt_input hidden = jt_input_of(activate(ctx, bank, &gate, &up));
    n = list_products(list, bank, lease, plan, JT_PART_DOWN, &y, &hidden, NULL);
    jt_products(ctx, list, n);
    jt_add_expert_bias(ctx, plan, &y, &bank->bias[JT_PART_DOWN]);
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
