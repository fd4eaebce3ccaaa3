/* MoRA, a mixture of self-activated ranks (Lu et al. 2025, "Little by little: continual
 * learning via self-activated sparse mixture-of-rank adaptive learning"; formulas as in
 * the authors' code, MoRAM): every rank of a LoRA is an expert, and what it makes of a
 * token says how much it is wanted.
 *
 *   z = A x,  u = z / |z|,  w = softmax(u / temperature) over the `active` largest u
 *   y = W x + B (w z)
 *
 * Outside of training, ranks with u below `threshold` are left out. A new task adds
 * ranks of its own to those of the tasks before, which stay as they are but take part.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapt/made.h"
#include "base/memory.h"
#include "tensor/tape.h"

enum { ACTIVE, TEMPERATURE, THRESHOLD };

/* Ranks of one use: [tokens, rank] each, and |z| of each token. */
typedef struct ranks {
    const jt_adapter_slot *slot;
    jt_tensor z, y;
    float *w, *norm;
    bool trains;
} ranks;

/* ---- forward ---- */

/* Mark the `active` largest u, the first of equal ones. */
static void choose(const float *z, float *w, size_t rank, size_t active)
{
    for (size_t i = 0; i < rank; i++)
        w[i] = -1.0f;
    for (size_t n = 0; n < active && n < rank; n++) {
        size_t best = rank;
        for (size_t i = 0; i < rank; i++) {
            if (w[i] < 0.0f && (best == rank || z[i] > z[best]))
                best = i;
        }
        w[best] = 0.0f;
    }
}

static void weigh_token(void *arg, size_t t)
{
    const ranks *r = arg;
    const jt_adapter_slot *s = r->slot;
    size_t rank = s->rank;
    const float *z = jt_row(&r->z, t);
    float *w = r->w + t * rank, *y = jt_row(&r->y, t), sum = 0.0f, most = -1.0f;
    double square = 0.0;
    for (size_t i = 0; i < rank; i++)
        square += (double)z[i] * (double)z[i];
    float norm = r->norm[t] = square > 0.0 ? (float)sqrt(square) : 1.0f;
    choose(z, w, rank, (size_t)s->setting[ACTIVE]);
    for (size_t i = 0; i < rank; i++)
        most = w[i] == 0.0f ? fmaxf(most, z[i] / norm) : most;
    for (size_t i = 0; i < rank; i++) {
        w[i] =
            w[i] < 0.0f ? 0.0f : expf((z[i] / norm - most) / s->setting[TEMPERATURE]);
        sum += w[i];
    }
    for (size_t i = 0; i < rank; i++) {
        bool out = !r->trains && z[i] / norm < s->setting[THRESHOLD];
        w[i] = out ? 0.0f : w[i] / sum;
        y[i] = w[i] * z[i];
    }
}

/* ---- back ---- */

/* dw = dy z;  d(u) = w (dw - sum w dw) / temperature;  dz = dy w + (du - u sum u du) /
 * |z| */
static void weigh_token_back(void *arg, size_t t)
{
    const ranks *r = arg;
    size_t rank = r->slot->rank;
    const float *z = jt_row(&r->z, t), *w = r->w + t * rank,
                *dy = jt_grad_row(&r->y, t);
    float *dz = jt_grad_row(&r->z, t), norm = r->norm[t], mean = 0.0f, along = 0.0f;
    float heat = r->slot->setting[TEMPERATURE];
    for (size_t i = 0; i < rank; i++)
        mean += w[i] * dy[i] * z[i];
    for (size_t i = 0; i < rank; i++)
        along += z[i] / norm * w[i] * (dy[i] * z[i] - mean) / heat;
    for (size_t i = 0; i < rank; i++) {
        float du = w[i] * (dy[i] * z[i] - mean) / heat;
        dz[i] += dy[i] * w[i] + (du - z[i] / norm * along) / norm;
    }
}

static void weigh_backward(jt_context *ctx, void *saved)
{
    const ranks *r = saved;
    size_t values = jt_rows(&r->z) * jt_cols(&r->z);
    jt_for_rows(ctx, jt_rows(&r->z), 8 * values, weigh_token_back, saved);
}

static void change(jt_context *ctx, jt_use *uses, size_t count)
{
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        jt_use *u = &uses[i];
        size_t tokens = u->p.tokens, rank = u->slot->rank;
        ranks r = {.slot = u->slot,
                   .z = u->low.x,
                   .y = jt_new(ctx, tokens, rank),
                   .w = jt_scratch(ctx, tokens * rank, sizeof(float)),
                   .norm = jt_scratch(ctx, tokens, sizeof(float)),
                   .trains = ctx->tape != NULL};
        if (jt_failed(ctx))
            return;
        jt_for_rows(ctx, tokens, 8 * tokens * rank, weigh_token, &r);
        jt_tape_push(ctx, weigh_backward, &r, sizeof r);
        u->low = jt_input_of(r.y);
    }
    jt_low_rank_change(ctx, uses, count);
}

/* ---- growing ---- */

/* Rows or columns of the old part in a part of a larger rank. */
static void copy_old(const jt_adapter_slot *from, jt_adapter_slot *to)
{
    for (size_t i = 0; i < from->count * from->rank; i++) {
        size_t e = i / from->rank, k = i % from->rank;
        memcpy(jt_row(&to->part[JT_LOW_A], e * to->rank + k),
               jt_row(&from->part[JT_LOW_A], i), from->cols * sizeof(float));
    }
    for (size_t row = 0; row < from->count * from->rows; row++)
        memcpy(jt_row(&to->part[JT_LOW_B], row), jt_row(&from->part[JT_LOW_B], row),
               from->rank * sizeof(float));
}

static jt_status grow_slot(jt_adapter_slot *s, size_t more, uint64_t seed,
                           uint64_t stream, jt_err *err)
{
    jt_adapter_slot to = *s;
    to.rank = s->rank + more;
    to.part[JT_LOW_A].shape[1] = to.part[JT_LOW_B].shape[2] = to.rank;
    size_t a_values = s->count * to.rank * s->cols;
    float *a = jt_alloc(a_values, sizeof *a);
    float *b = jt_calloc(s->count * s->rows * to.rank, sizeof *b);
    if (!a || !b || to.rank > JT_ADAPTER_MOST_RANK) {
        free(a);
        free(b);
        return jt_fail_memory(err, "starting an adapter");
    }
    to.part[JT_LOW_A].data = a;
    to.part[JT_LOW_B].data = b;
    jt_low_rank_start_a(a, a_values, s->cols, seed, stream);
    copy_old(s, &to);
    free(s->part[JT_LOW_A].data);
    free(s->part[JT_LOW_B].data);
    to.frozen = s->rank;
    *s = to;
    return JT_OK;
}

void jt_mora_set(jt_adapter *a, const jt_adapter_options *o)
{
    a->setting[ACTIVE] = (float)o->active;
    a->setting[TEMPERATURE] = o->heat;
    a->setting[THRESHOLD] = o->threshold;
}

jt_status jt_mora_grow(jt_adapter *a, size_t more, uint64_t seed, jt_err *err)
{
    for (size_t i = 0; i < a->count; i++)
        JT_TRY(grow_slot(&a->slot[i], more, seed, (UINT64_C(4) << 32) + i, err));
    return JT_OK;
}

void jt_ranks_freeze(const jt_adapter *a)
{
    for (size_t i = 0; i < a->count; i++) {
        const jt_adapter_slot *s = &a->slot[i];
        for (size_t e = 0; e < s->count && s->frozen; e++)
            memset(jt_grad_row(&s->part[JT_LOW_A], e * s->rank), 0,
                   s->frozen * s->cols * sizeof(float));
        for (size_t row = 0; row < s->count * s->rows && s->frozen; row++)
            memset(jt_grad_row(&s->part[JT_LOW_B], row), 0, s->frozen * sizeof(float));
    }
}

static jt_status check(const jt_adapter *a, jt_err *err)
{
    float active = a->setting[ACTIVE], heat = a->setting[TEMPERATURE];
    if (active < 1.0f || active > (float)JT_ADAPTER_MOST_RANK ||
        active != truncf(active))
        return jt_fail(err, JT_E_FORMAT,
                       "the metadata 'junto.adapter.active' is %g, no number of ranks",
                       (double)active);
    if (heat < 1e-6f)
        return jt_fail(err, JT_E_FORMAT,
                       "the metadata 'junto.adapter.temperature' is %g", (double)heat);
    return JT_OK;
}

static float one(float alpha, size_t rank)
{
    (void)alpha;
    (void)rank;
    return 1.0f;
}

const jt_adapter_kind jt_adapter_mora = {
    .name = "mora",
    .what = "ranks that choose themselves",
    .part = {"lora_a", "lora_b"},
    .setting = {"active", "temperature", "threshold"},
    .low_rank = true,
    .by_token = true,
    .scale = one,
    .check = check,
    .freeze = jt_ranks_freeze,
    .is_fresh = jt_low_rank_is_fresh,
    .merge_row = jt_low_rank_merge_row,
    .change = change};
