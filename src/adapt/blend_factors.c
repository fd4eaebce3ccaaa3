/* Factors of a blend, in the order in which a pass reads them: all gates, and then of
 * each bank its adapters. */
#include <stdlib.h>

#include "adapt/blended.h"
#include "adapt/turns.h"
#include "base/memory.h"

/* A gate [n, cols] as a stack of one. */
static jt_tensor gate_of(const jt_adapter_bank *bank)
{
    return (jt_tensor){.data = bank->gate.data,
                       .dtype = JT_F32,
                       .n_dims = 3,
                       .shape = {1, jt_rows(&bank->gate), bank->cols}};
}

/* Gates stay what they are: a token near the border would go elsewhere. */
static void plan_bank(jt_blended *m, size_t i, const jt_context *ctx)
{
    const jt_adapter_bank *bank = &m->blend->bank[i];
    jt_bank_factors *f = &m->factors[i];
    jt_tensor gate = gate_of(bank);
    const jt_kernels *k = ctx->kernels;
    const jt_gguf_tensor *t = jt_gguf_find(m->model->file, bank->target);
    bool rounded = jt_factors_rounded(ctx->factors, t ? t->dtype : JT_F32);
    m->factor_bytes += jt_factor_plan(&f->a, &bank->a, JT_FACTOR_A, rounded, k);
    m->factor_bytes += jt_factor_plan(&f->b, &bank->b, JT_FACTOR_B, rounded, k);
    if (gate.data)
        m->factor_bytes += jt_factor_plan(&f->gate, &gate, JT_FACTOR_A, false, k);
}

/* Fill in the gates of a turn; one of the turn before asks for them. Where they end. */
static char *fill_gates(jt_blended *m, const jt_turn *list, size_t first, size_t end,
                        char *memory, const jt_kernels *k)
{
    char *start = memory;
    for (size_t i = first; i < end; i++) {
        jt_tensor gate = gate_of(&m->blend->bank[list[i].i]);
        if (gate.data)
            memory = jt_factor_fill(&m->factors[list[i].i].gate, &gate, memory, k);
    }
    if (first)
        m->factors[list[first - 1].i].then =
            (jt_piece){start, (size_t)(memory - start)};
    return memory;
}

static void fill(jt_blended *m, const jt_turn *list, size_t n, const jt_kernels *k)
{
    char *memory = m->factor_memory;
    for (size_t i = 0, end; i < n; i = end) {
        end = jt_turn_end(list, n, i);
        memory = fill_gates(m, list, i, end, memory, k);
    }
    for (size_t i = 0; i < n; i++) {
        const jt_adapter_bank *bank = &m->blend->bank[list[i].i];
        jt_bank_factors *f = &m->factors[list[i].i];
        memory = jt_factor_fill(&f->a, &bank->a, memory, k);
        memory = jt_factor_fill(&f->b, &bank->b, memory, k);
    }
}

jt_status jt_blended_factors(jt_blended *m, const jt_context *ctx, jt_err *err)
{
    size_t n = m->blend->n_banks;
    jt_turn *list = jt_alloc(n, sizeof *list);
    m->factors = list ? jt_calloc(n, sizeof *m->factors) : NULL;
    if (!m->factors) {
        free(list);
        return jt_fail_memory(err, "attaching an adapter");
    }
    for (size_t i = 0; i < n; i++) {
        list[i] = (jt_turn){i, jt_turn_of(m->blend->bank[i].target)};
        plan_bank(m, i, ctx);
    }
    jt_turns_sort(list, n);
    m->factor_memory = jt_factors_room(m->factor_bytes);
    if (m->factor_memory)
        fill(m, list, n, ctx->kernels);
    free(list);
    return m->factor_memory ? JT_OK : jt_fail_memory(err, "attaching an adapter");
}
