#include "adapt/blend_make.h"

#include <string.h>

#include "adapt/pattern.h"

static jt_status check(const jt_adapter *a, jt_err *err)
{
    if (a->blend || !a->kind->low_rank || a->kind->by_token || a->kind->magnitude)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "'%s' is no LoRA: only such adapters can be mixed", a->path);
    for (size_t i = 0; i < a->count; i++) {
        if (a->slot[i].count != 1)
            return jt_fail(
                err, JT_E_UNSUPPORTED,
                "'%s' changes a stack of experts, '%s': such adapters cannot "
                "be mixed",
                a->path, a->slot[i].target);
    }
    return JT_OK;
}

static jt_str name_of(const jt_adapter_slot *s)
{
    return (jt_str){s->target, strlen(s->target)};
}

/* The largest rank that an adapter has for the target of `s`; JT_E_FORMAT where shapes
 * differ. */
static jt_status find_rank(const jt_adapter *const *adapters, size_t n,
                           const jt_adapter_slot *s, size_t *rank, jt_err *err)
{
    *rank = 0;
    for (size_t i = 0; i < n; i++) {
        const jt_adapter_slot *other = jt_adapter_find(adapters[i], name_of(s));
        if (!other)
            continue;
        if (other->rows != s->rows || other->cols != s->cols)
            return jt_fail(err, JT_E_FORMAT, "'%s' is not the same weight in '%s'",
                           s->target, adapters[i]->path);
        *rank = other->rank > *rank ? other->rank : *rank;
    }
    return JT_OK;
}

/* Adapter e of a bank. */
static void copy(jt_adapter_bank *bank, size_t e, const jt_adapter_slot *s)
{
    jt_tensor a = jt_slice(&bank->a, e), b = jt_slice(&bank->b, e);
    memcpy(a.data, s->part[JT_LOW_A].data, s->rank * s->cols * sizeof(float));
    for (size_t r = 0; r < s->rows; r++) {
        for (size_t k = 0; k < s->rank; k++)
            jt_row(&b, r)[k] = s->scale * jt_row(&s->part[JT_LOW_B], r)[k];
    }
}

static jt_status take_target(jt_blend *blend, const jt_adapter *const *adapters,
                             const jt_adapter_slot *s, jt_err *err)
{
    jt_adapter_bank *bank;
    size_t rank;
    JT_TRY(find_rank(adapters, blend->n, s, &rank, err));
    JT_TRY(jt_blend_add(blend, &bank, name_of(s), s->rows, s->cols, rank, err));
    for (size_t e = 0; e < blend->n; e++) {
        const jt_adapter_slot *own = jt_adapter_find(adapters[e], name_of(s));
        if (own)
            copy(bank, e, own);
    }
    return JT_OK;
}

static jt_status take_all(jt_blend *blend, const jt_adapter *const *adapters,
                          const jt_pattern *pattern, jt_err *err)
{
    for (size_t i = 0; i < blend->n; i++) {
        JT_TRY(check(adapters[i], err));
        for (size_t j = 0; j < adapters[i]->count; j++) {
            const jt_adapter_slot *s = &adapters[i]->slot[j];
            bool wanted = !pattern || jt_pattern_matches(pattern, s->target, false);
            if (wanted && strcmp(s->target, "token_embd.weight") != 0 &&
                !jt_blend_find(blend, name_of(s)))
                JT_TRY(take_target(blend, adapters, s, err));
        }
    }
    if (blend->n_banks)
        return JT_OK;
    return jt_fail(err, JT_E_ARG,
                   "these adapters change no weight in common with the "
                   "targets");
}

jt_status jt_blend_take(jt_blend *blend, const jt_adapter *const *adapters,
                        const char *pattern, jt_err *err)
{
    jt_pattern *compiled = NULL;
    if (pattern)
        JT_TRY(jt_pattern_new(&compiled, pattern, err));
    jt_status status = take_all(blend, adapters, compiled, err);
    if (compiled)
        jt_pattern_free(compiled);
    return status;
}
