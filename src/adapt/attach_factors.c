/* Factors of an attachment, in the order in which a pass reads them: of the weights of
 * a layer that work together first all A, then all B. Memory is read faster so. */
#include <stdlib.h>
#include <string.h>

#include "adapt/attach.h"
#include "base/memory.h"
#include "model/bind.h"

typedef struct entry {
    size_t slot;
    int turn; /* of weights that work together the same */
} entry;

/* q, k and v; what attention gives; gate and up; down. */
static int turn_of(const char *target)
{
    int layer = strncmp(target, "blk.", 4) ? 0 : atoi(target + 4);
    if (strstr(target, "_output"))
        return 4 * layer + 1;
    if (strstr(target, "_down"))
        return 4 * layer + 3;
    return 4 * layer + (strstr(target, "ffn_") ? 2 : 0);
}

static int by_turn(const void *x, const void *y)
{
    const entry *a = x, *b = y;
    if (a->turn != b->turn)
        return a->turn < b->turn ? -1 : 1;
    return (a->slot > b->slot) - (a->slot < b->slot);
}

static jt_factor *factor_of(const jt_attachment *at, size_t slot, int part)
{
    jt_factors *f = &at->factors[slot];
    return part == JT_LOW_A ? &f->a : &f->b;
}

static void fill(jt_attachment *at, const entry *list, size_t count,
                 const jt_kernels *k)
{
    char *memory = at->factor_memory;
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i; end < count && list[end].turn == list[i].turn;)
            end++;
        for (int part = JT_LOW_A; part <= JT_LOW_B; part++) {
            for (size_t j = i; j < end; j++)
                memory = jt_factor_fill(factor_of(at, list[j].slot, part),
                                        &at->adapter->slot[list[j].slot].part[part],
                                        memory, k);
        }
    }
}

static jt_dtype weight_type(const jt_gguf *file, const jt_adapter_slot *s)
{
    const jt_gguf_tensor *t = jt_gguf_find(file, s->target);
    return t ? t->dtype : JT_F32;
}

/* Those that weights use. */
static size_t list_slots(jt_attachment *at, entry *list, const jt_context *ctx,
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
        list[count++] = (entry){slot, turn_of(s->target)};
        *f =
            (jt_factors){.rows = s->rows, .rank = (uint32_t)s->rank, .scale = s->scale};
        at->factor_bytes +=
            jt_factor_plan(&f->a, &s->part[JT_LOW_A], JT_FACTOR_A, rounded, k);
        at->factor_bytes +=
            jt_factor_plan(&f->b, &s->part[JT_LOW_B], JT_FACTOR_B, rounded, k);
    }
    qsort(list, count, sizeof *list, by_turn);
    return count;
}

jt_status jt_attachment_factors(jt_attachment *at, const jt_context *ctx,
                                const jt_gguf *file, jt_err *err)
{
    entry *list = jt_alloc(at->adapter->count, sizeof *list);
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
