/* Factors of an attachment, in the order in which a pass reads them: of the weights of
 * a layer that work together first all A, then all B. Memory is read faster so. */
#include <stdlib.h>

#include "adapt/attach.h"
#include "adapt/turns.h"
#include "base/memory.h"
#include "model/bind.h"

static jt_factor *factor_of(const jt_attachment *at, size_t slot, int part)
{
    jt_factors *f = &at->factors[slot];
    return part == JT_LOW_A ? &f->a : &f->b;
}

static void fill(jt_attachment *at, const jt_turn *list, size_t count,
                 const jt_kernels *k)
{
    char *memory = at->factor_memory;
    for (size_t i = 0, end; i < count; i = end) {
        end = jt_turn_end(list, count, i);
        for (int part = JT_LOW_A; part <= JT_LOW_B; part++) {
            for (size_t j = i; j < end; j++)
                memory =
                    jt_factor_fill(factor_of(at, list[j].i, part),
                                   &at->adapter->slot[list[j].i].part[part], memory, k);
        }
    }
}

static jt_dtype weight_type(const jt_gguf *file, const jt_adapter_slot *s)
{
    const jt_gguf_tensor *t = jt_gguf_find(file, s->target);
    return t ? t->dtype : JT_F32;
}

/* Those that weights use. */
static size_t list_slots(jt_attachment *at, jt_turn *list, const jt_context *ctx,
                         const jt_gguf *file)
{
    const jt_kernels *k = ctx->kernels;
    size_t count = 0, n_weights = jt_weight_number(file, NULL);
    for (size_t w = 0; w <= n_weights; w++) {
        if (at->slot[w] < 0)
            continue;
        size_t slot = (size_t)at->slot[w];
        const jt_adapter_slot *s = &at->adapter->slot[slot];
        jt_factors *f = &at->factors[slot];
        bool rounded = jt_factors_rounded(ctx->factors, weight_type(file, s));
        list[count++] = (jt_turn){slot, jt_turn_of(s->target)};
        *f =
            (jt_factors){.rows = s->rows, .rank = (uint32_t)s->rank, .scale = s->scale};
        at->factor_bytes +=
            jt_factor_plan(&f->a, &s->part[JT_LOW_A], JT_FACTOR_A, rounded, k);
        at->factor_bytes +=
            jt_factor_plan(&f->b, &s->part[JT_LOW_B], JT_FACTOR_B, rounded, k);
    }
    jt_turns_sort(list, count);
    return count;
}

jt_status jt_attachment_factors(jt_attachment *at, const jt_context *ctx,
                                const jt_gguf *file, jt_err *err)
{
    jt_turn *list = jt_alloc(at->adapter->count, sizeof *list);
    at->factors = jt_calloc(at->adapter->count, sizeof *at->factors);
    size_t count = 0;
    if (list && at->factors) {
        count = list_slots(at, list, ctx, file);
        at->factor_memory = jt_factors_room(at->factor_bytes);
    }
    if (at->factor_memory)
        fill(at, list, count, ctx->kernels);
    free(list);
    return at->factor_memory ? JT_OK : jt_fail_memory(err, "attaching an adapter");
}
