/* MoS (Wang et al. 2024, "MoS: unleashing parameter efficiency of low-rank adaptation
 * with mixture of shards"): A and B of all matrices of a type (attn_q of every layer,
 * expert by expert) are put together from two pools of shards, the pieces of vectors
 * that are divided into `shards` each. Tables that never change say which:
 *
 *   row j of A  = shards table_a[j, 0 .. l) of pool_a, joined; columns of B likewise
 *
 * With L matrices, rank r, budget e, own rank p and l shards a pool has L e l shards:
 * L (e - p) l that all may use, of which a matrix has (r - p) l, chosen at random and
 * none twice; and p l that are the matrix's own, for its last p ranks. A and B are
 * chosen apart ("pair dissociation"). p = e = r is LoRA. */
#include <stdlib.h>
#include <string.h>

#include "adapt/made.h"
#include "base/memory.h"
#include "base/random.h"

enum { POOL_A, POOL_B, TABLE_A, TABLE_B };

static const char pool_a[] = "mos_pool_a", pool_b[] = "mos_pool_b";
static const char table_a[] = "mos_table_a", table_b[] = "mos_table_b";

/* What all matrices of a type have in common: the name without the layer. */
static jt_str type_of(const char *target)
{
    const char *at = target;
    if (strncmp(target, "blk.", 4) == 0) {
        at += 4;
        at += strspn(at, "0123456789");
        at = *at == '.' ? at + 1 : target;
    }
    return (jt_str){at, strlen(at)};
}

static bool same_pool(const jt_adapter_slot *a, const jt_adapter_slot *b)
{
    jt_str x = type_of(a->target), y = type_of(b->target);
    return x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
}

/* ---- putting together ----
 * A shard of A is a piece of a row; one of B a piece of a column, of every rank-th
 * value. Both ways are one walk: `add` is 0 to make parts, 1 to spread gradients. */

static void walk_shard(float *part, size_t step, float *shard, size_t n, bool spread)
{
    for (size_t i = 0; i < n; i++) {
        if (spread)
            shard[i] += part[i * step];
        else
            part[i * step] = shard[i];
    }
}

static void walk_slot(const jt_adapter *a, const jt_adapter_slot *s, bool spread)
{
    const jt_tensor *pool[2] = {jt_slot_source(a, s, POOL_A),
                                jt_slot_source(a, s, POOL_B)};
    const int32_t *table[2] = {jt_slot_source(a, s, TABLE_A)->data,
                               jt_slot_source(a, s, TABLE_B)->data};
    size_t shards = s->cols / jt_cols(pool[0]);
    for (size_t i = 0; i < s->count * s->rank * shards; i++) {
        size_t e = i / (s->rank * shards), j = i / shards % s->rank, l = i % shards;
        for (int k = 0; k < 2; k++) {
            const jt_tensor *part = &s->part[k];
            size_t n = jt_cols(pool[k]), row = (size_t)table[k][i];
            size_t at = k ? (e * s->rows + l * n) * s->rank + j
                          : (e * s->rank + j) * s->cols + l * n;
            float *to = spread ? part->grad : part->data;
            walk_shard(to + at, k ? s->rank : 1,
                       spread ? jt_grad_row(pool[k], row) : jt_row(pool[k], row), n,
                       spread);
        }
    }
}

static void make(const jt_adapter *a)
{
    for (size_t i = 0; i < a->count; i++)
        walk_slot(a, &a->slot[i], false);
}

static void spread(const jt_adapter *a)
{
    for (size_t i = 0; i < a->count; i++)
        walk_slot(a, &a->slot[i], true);
}

/* ---- a fresh one ---- */

typedef struct start {
    jt_adapter *a;
    const jt_adapter_options *o;
    size_t matrices; /* of the type at hand */
    uint64_t stream;
    jt_err *err;
} start;

static jt_status check(const start *w, const jt_adapter_slot *s)
{
    const jt_adapter_options *o = w->o;
    if (s->rows % o->shards || s->cols % o->shards)
        return jt_fail(w->err, JT_E_ARG,
                       "adapter.shards: %zu do not divide '%s', which is %zu x %zu",
                       o->shards, s->target, s->rows, s->cols);
    if (o->own > o->budget || o->budget > o->rank)
        return jt_fail(w->err, JT_E_ARG,
                       "adapter.own: %zu, adapter.budget: %zu and adapter.rank: %zu "
                       "must rise",
                       o->own, o->budget, o->rank);
    if (o->rank - o->own > w->matrices * (o->budget - o->own))
        return jt_fail(w->err, JT_E_ARG,
                       "adapter.budget: the pool of '%s' has %zu ranks for all, "
                       "fewer than the %zu that each needs",
                       s->target, w->matrices * (o->budget - o->own), o->rank - o->own);
    return JT_OK;
}

static jt_status add_pools(start *w, const jt_adapter_slot *s, size_t at[4])
{
    jt_str type = type_of(s->target);
    const size_t shards = w->matrices * w->o->budget * w->o->shards;
    const size_t a[] = {shards, s->cols / w->o->shards};
    const size_t b[] = {shards, s->rows / w->o->shards};
    JT_TRY(
        jt_adapter_add_source(w->a, &at[POOL_A], type, pool_a, JT_F32, 2, a, w->err));
    JT_TRY(
        jt_adapter_add_source(w->a, &at[POOL_B], type, pool_b, JT_F32, 2, b, w->err));
    w->a->source[at[POOL_A]].trained = w->a->source[at[POOL_B]].trained = true;
    jt_low_rank_start_a(w->a->source[at[POOL_A]].t.data, a[0] * a[1], s->cols,
                        w->o->seed, w->stream++);
    return JT_OK;
}

/* The table of one matrix: number `own` of the type. */
static void fill_table(const start *w, int32_t *table, size_t own, int32_t *order,
                       uint64_t stream)
{
    const jt_adapter_options *o = w->o;
    size_t common = w->matrices * (o->budget - o->own) * o->shards;
    size_t mine = (o->rank - o->own) * o->shards, n = o->own * o->shards;
    bool same = strcmp(o->tables, "same") == 0;
    jt_rng rng = {o->seed, stream, 0};
    for (size_t i = 0; i < common; i++)
        order[i] = (int32_t)i;
    for (size_t i = 0; i < mine; i++) {
        size_t j = same ? i : i + jt_rng_below(&rng, (uint32_t)(common - i));
        table[i] = order[j];
        order[j] = order[i];
    }
    for (size_t i = 0; i < n; i++)
        table[mine + i] = (int32_t)(common + own * n + i);
}

static jt_status add_tables(start *w, jt_adapter_slot *s, size_t *own)
{
    const jt_adapter_options *o = w->o;
    const size_t shape[] = {s->count, o->rank, o->shards};
    size_t common = w->matrices * (o->budget - o->own) * o->shards;
    jt_str target = {s->target, strlen(s->target)};
    JT_TRY(jt_adapter_add_source(w->a, &s->source[TABLE_A], target, table_a, JT_I32, 3,
                                 shape, w->err));
    JT_TRY(jt_adapter_add_source(w->a, &s->source[TABLE_B], target, table_b, JT_I32, 3,
                                 shape, w->err));
    int32_t *order = jt_alloc(common, sizeof *order);
    if (!order)
        return jt_fail_memory(w->err, "starting an adapter");
    bool apart = strcmp(o->tables, "apart") == 0;
    for (size_t e = 0; e < s->count; e++, ++*own) {
        size_t at = e * o->rank * o->shards;
        for (int k = TABLE_A; k <= TABLE_B; k++)
            fill_table(w, (int32_t *)jt_slot_source(w->a, s, k)->data + at, *own, order,
                       w->stream + (apart && k == TABLE_B));
        w->stream += 2;
    }
    free(order);
    return JT_OK;
}

/* The type whose first slot is `first`. */
static jt_status start_type(start *w, size_t first)
{
    jt_adapter_slot *slot = w->a->slot;
    size_t pools[4], own = 0;
    w->matrices = 0;
    for (size_t i = first; i < w->a->count; i++) {
        if (!same_pool(&slot[i], &slot[first]))
            continue;
        if (slot[i].rows != slot[first].rows || slot[i].cols != slot[first].cols)
            return jt_fail(w->err, JT_E_ARG,
                           "'%s' and '%s' have different shapes: they cannot share "
                           "shards",
                           slot[first].target, slot[i].target);
        w->matrices += slot[i].count;
    }
    JT_TRY(check(w, &slot[first]));
    JT_TRY(add_pools(w, &slot[first], pools));
    for (size_t i = first; i < w->a->count; i++) {
        if (!same_pool(&slot[i], &slot[first]))
            continue;
        memcpy(slot[i].source, pools, sizeof pools);
        JT_TRY(add_tables(w, &slot[i], &own));
    }
    return JT_OK;
}

static jt_status begin(jt_adapter *a, const jt_adapter_options *o, jt_err *err)
{
    start w = {.a = a, .o = o, .stream = UINT64_C(1) << 32, .err = err};
    for (size_t i = 0; i < a->count; i++) {
        bool first = true;
        for (size_t j = 0; j < i && first; j++)
            first = !same_pool(&a->slot[i], &a->slot[j]);
        if (first)
            JT_TRY(start_type(&w, i));
    }
    make(a);
    return JT_OK;
}

/* ---- from a file ---- */

static jt_status check_table(const jt_adapter *a, size_t table, size_t pool,
                             jt_err *err)
{
    const jt_tensor *t = &a->source[table].t;
    const int32_t *at = t->data;
    size_t shards = a->source[pool].t.shape[0];
    for (size_t i = 0; i < jt_rows(t) * jt_cols(t); i++) {
        if (at[i] < 0 || (size_t)at[i] >= shards)
            return jt_fail(err, JT_E_FORMAT,
                           "tensor '%s' names shard %ld of a pool of %zu",
                           a->source[table].name, (long)at[i], shards);
    }
    return JT_OK;
}

static jt_status bind_slot(jt_adapter *a, size_t at, jt_str target, float alpha,
                           jt_err *err)
{
    char name[160];
    size_t source[4] = {[TABLE_A] = at}, shape[3];
    jt_adapter_slot *s;
    if (target.len >= sizeof name || a->source[at].t.n_dims != 3 ||
        a->source[at].t.dtype != JT_I32)
        return jt_adapter_fail_source(a, at, err);
    memcpy(name, target.data, target.len);
    name[target.len] = '\0';
    jt_str type = type_of(name);
    JT_TRY(
        jt_adapter_need_source(a, target, table_b, JT_I32, 3, &source[TABLE_B], err));
    JT_TRY(jt_adapter_need_source(a, type, pool_a, JT_F32, 2, &source[POOL_A], err));
    JT_TRY(jt_adapter_need_source(a, type, pool_b, JT_F32, 2, &source[POOL_B], err));
    const jt_tensor *table = &a->source[at].t;
    if (memcmp(table->shape, a->source[source[TABLE_B]].t.shape, sizeof table->shape))
        return jt_adapter_fail_source(a, source[TABLE_B], err);
    JT_TRY(check_table(a, at, source[POOL_A], err));
    JT_TRY(check_table(a, source[TABLE_B], source[POOL_B], err));
    shape[0] = table->shape[0];
    if (!jt_mul(jt_cols(&a->source[source[POOL_B]].t), table->shape[2], &shape[1]) ||
        !jt_mul(jt_cols(&a->source[source[POOL_A]].t), table->shape[2], &shape[2]))
        return jt_adapter_fail_source(a, at, err);
    JT_TRY(jt_adapter_add(a, &s, target, shape, table->shape[1], alpha, err));
    memcpy(s->source, source, sizeof source);
    a->source[source[POOL_A]].trained = a->source[source[POOL_B]].trained = true;
    return JT_OK;
}

static jt_status bind(jt_adapter *a, float alpha, jt_err *err)
{
    JT_TRY(jt_adapter_bind_each(a, table_a, bind_slot, alpha, err));
    make(a);
    return JT_OK;
}

static const jt_adapter_making making = {begin, bind, make, spread};

const jt_adapter_kind jt_adapter_mos = {.name = "mos",
                                        .what = "LoRA of shards of shared pools",
                                        .part = {"lora_a", "lora_b"},
                                        .low_rank = true,
                                        .making = &making,
                                        .scale = jt_low_rank_by_rank,
                                        .is_fresh = jt_low_rank_is_fresh,
                                        .merge_row = jt_low_rank_merge_row,
                                        .change = jt_low_rank_change};
