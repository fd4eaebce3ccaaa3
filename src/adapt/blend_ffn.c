/* The expert of MixLoRA (Li et al. 2024, "MixLoRA: enhancing large language models
 * fine-tuning with LoRA-based mixture of experts", section 3): the frozen FFN with
 * adapters of its own on gate, up and down,
 *   y_e = W_d a + s B_de A_de a,   a = f(W_g x + s B_ge A_ge x) * (W_u x + s B_ue A_ue
 * x) W_g x and W_u x are computed once for all experts of a token (their section 3.4).
 */
#include <string.h>

#include "adapt/blended.h"
#include "tensor/tape.h"

/* ---- rows of a plan ---- */

typedef struct spread {
    const jt_kernels *kernels;
    jt_plan plan;
    jt_tensor y, x;
} spread;

static void spread_row(void *arg, size_t r)
{
    const spread *s = arg;
    memcpy(jt_row(&s->y, r), jt_row(&s->x, (size_t)s->plan.token[r]),
           jt_cols(&s->x) * sizeof(float));
}

static void gather_token(void *arg, size_t t)
{
    const spread *s = arg;
    size_t k = (size_t)s->plan.k;
    for (size_t slot = t * k; slot < (t + 1) * k; slot++) {
        int32_t row = s->plan.row[slot];
        if (row >= 0)
            s->kernels->add(jt_grad_row(&s->x, t), jt_grad_row(&s->y, (size_t)row),
                            jt_cols(&s->x));
    }
}

static void spread_backward(jt_context *ctx, void *saved)
{
    const spread *s = saved;
    size_t tokens = jt_rows(&s->x);
    jt_for_rows(ctx, tokens, tokens * (size_t)s->plan.k * jt_cols(&s->x), gather_token,
                saved);
}

/* What was computed for tokens, for each of their experts: [plan rows, cols]. */
static jt_tensor spread_rows(jt_context *ctx, const jt_plan *plan, const jt_tensor *x)
{
    size_t rows = (size_t)plan->n_rows;
    spread s = {ctx->kernels, *plan, jt_new(ctx, rows, jt_cols(x)), *x};
    if (jt_failed(ctx))
        return s.y;
    jt_for_rows(ctx, rows, rows * jt_cols(x), spread_row, &s);
    jt_tape_push(ctx, spread_backward, &s, sizeof s);
    return s.y;
}

/* ---- one weight and its adapters ---- */

typedef struct side {
    jt_tensor y;  /* of the weight itself */
    jt_input low; /* [plan rows, rank] of the adapters */
    jt_tensor high;
    const jt_adapter_bank *bank; /* or NULL */
} side;

typedef struct job {
    jt_context *ctx;
    const jt_lora_ffn *ffn;
    const jt_plan *plan;
    jt_product *list;
    size_t n;
} job;

/* A product for each adapter of `w` [n, ..] that has rows. */
static void list_adapters(job *j, const jt_tensor *y, const jt_tensor *w, jt_input *x,
                          const jt_gathering *via)
{
    for (int e = 0; e < j->plan->n_experts && !jt_failed(j->ctx); e++) {
        size_t first = (size_t)j->plan->start[e];
        size_t rows = (size_t)j->plan->start[e + 1] - first;
        jt_tensor one = jt_slice(w, (size_t)e);
        if (!rows)
            continue;
        j->list[j->n] = jt_product_rows(y, &one, x, first, rows);
        j->list[j->n++].via = via;
    }
}

/* The products of part `part` over all rows of x, and A x of its adapters over those of
 * the plan. */
static void begin_side(job *j, side *s, int part, jt_input *x, const jt_gathering *via)
{
    const jt_tensor *base = &j->ffn->base->part[part];
    *s = (side){.bank = j->ffn->part[part]};
    if (!jt_has(base))
        return;
    jt_tensor w = jt_slice(base, 0);
    size_t rows = jt_rows(&x->x);
    s->y = jt_new(j->ctx, rows, jt_rows(&w));
    if (jt_failed(j->ctx))
        return;
    j->list[j->n] = jt_product_rows(&s->y, &w, x, 0, rows);
    j->list[j->n++].token = via ? NULL : j->plan->token;
    if (!s->bank)
        return;
    s->low = jt_input_of(jt_new(j->ctx, (size_t)j->plan->n_rows, s->bank->rank));
    list_adapters(j, &s->low.x, &s->bank->a, x, via);
}

static void run(job *j)
{
    if (!jt_failed(j->ctx))
        jt_products(j->ctx, j->list, j->n);
    j->n = 0;
}

static void list_high(job *j, side *s)
{
    if (!s->bank || !jt_has(&s->y))
        return;
    jt_scale(j->ctx, &s->low.x, j->ffn->scale);
    s->high = jt_new(j->ctx, (size_t)j->plan->n_rows, s->bank->rows);
    list_adapters(j, &s->high, &s->bank->b, &s->low, NULL);
}

/* y + s B A x, for the rows of the plan; y is spread over them where it is of tokens.
 */
static jt_tensor end_side(job *j, side *s, bool spreads)
{
    jt_tensor y = spreads && jt_has(&s->y) ? spread_rows(j->ctx, j->plan, &s->y) : s->y;
    if (s->bank && jt_has(&s->y) && !jt_failed(j->ctx))
        jt_add_to(j->ctx, &y, &s->high);
    return y;
}

/* ---- the expert ---- */

static jt_tensor hidden_of(job *j, jt_input *x, const jt_gathering *via)
{
    const jt_bank *base = j->ffn->base;
    side gate, up;
    begin_side(j, &gate, JT_PART_GATE, x, via);
    begin_side(j, &up, JT_PART_UP, x, via);
    run(j);
    list_high(j, &gate);
    list_high(j, &up);
    run(j);
    jt_tensor g = end_side(j, &gate, true), u = end_side(j, &up, true);
    if (jt_failed(j->ctx))
        return g;
    if (base->fused)
        return jt_glu_halves(j->ctx, base->activation, &g);
    if (!jt_has(&g)) /* f(up) */
        return jt_glu(j->ctx, base->activation, &u, &g);
    return jt_glu(j->ctx, base->activation, &g, &u);
}

/* Weights of dense FFNs are always at hand, so there is nothing to lease. */
static jt_tensor apply_lora_ffn(jt_context *ctx, const jt_bank *bank,
                                const jt_lease *lease, const jt_plan *plan, jt_input *x)
{
    const jt_lora_ffn *ffn =
        (const jt_lora_ffn *)(const void *)((const char *)bank -
                                            offsetof(jt_lora_ffn, mixture.experts));
    jt_gathering *via = jt_scratch(ctx, 1, sizeof *via);
    job j = {ctx, ffn, plan, NULL, 0};
    side down;
    (void)lease;
    j.list = jt_scratch(ctx, 2 * (size_t)plan->n_experts + 2, sizeof *j.list);
    if (jt_failed(ctx))
        return (jt_tensor){0};
    *via =
        (jt_gathering){plan->token, plan->row, (size_t)plan->n_rows, (size_t)plan->k};
    jt_tensor a = hidden_of(&j, x, via);
    if (!jt_failed(ctx) && a.grad_fresh) /* several products will read parts of it */
        a = jt_copy(ctx, &a);
    jt_input hidden = jt_input_of(a);
    begin_side(&j, &down, JT_PART_DOWN, &hidden, NULL);
    run(&j);
    list_high(&j, &down);
    run(&j);
    return end_side(&j, &down, false);
}

const jt_expert_kind jt_expert_lora_ffn = {"lora_ffn", apply_lora_ffn};
