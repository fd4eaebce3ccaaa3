/* Attention proper: tiles of queries over the cache. */
#include <string.h>

#include "nn/attention_pass.h"

/* Row `row` of keys or values, of n values each. */
static void *kv_row(void *kv, jt_dtype type, size_t row, size_t n)
{
    return (char *)kv + row * jt_dtype_row_bytes(type, n);
}

void jt_attention_keep(const jt_kernels *kernels, void *kv, jt_dtype type, size_t row,
                       const float *x, size_t n)
{
    void *to = kv_row(kv, type, row, n);
    if (type == JT_F32)
        memcpy(to, x, n * sizeof *x);
    else if (type == JT_F16)
        kernels->f32_to_f16(to, x, n);
    else
        jt_quantize(type, to, x, n);
}

/* As many whole tokens as a call takes; of a group that is wider, a part. A tile of
 * many queries reads keys and values less often, but leaves fewer tiles to share. */
static size_t tile_of(const jt_context *ctx, const jt_attention *a, size_t tokens)
{
    enum { FEW = 16 };
    size_t group = (size_t)(a->n_heads / a->n_kv_heads), tile = group;
    if (group <= JT_ATTN_MAX_Q)
        return JT_ATTN_MAX_Q / group * group;
    while (tile > JT_ATTN_MAX_Q || group % tile)
        tile--;
    size_t threads = (size_t)jt_pool_threads(ctx->pool);
    while ((size_t)a->n_kv_heads * tokens * group / tile < threads && tile > FEW &&
           tile % 2 == 0)
        tile /= 2;
    return tile;
}

jt_attention_pass jt_attention_begin(jt_context *ctx, const jt_attention *a,
                                     const jt_places *places)
{
    size_t heads = (size_t)a->n_heads, dims = (size_t)a->k_dim + (size_t)a->v_dim;
    size_t tokens = places->count;
    jt_attention_pass p = {.kernels = ctx->kernels,
                           .a = a,
                           .at = *places,
                           .tokens = tokens,
                           .group = heads / (size_t)a->n_kv_heads,
                           .q_stride = (size_t)a->k_dim,
                           .out_stride = (size_t)a->v_dim,
                           .v_stride = (size_t)a->v_dim};
    p.tile = tile_of(ctx, a, tokens);
    p.n_tiles = (tokens * p.group + p.tile - 1) / p.tile;
    p.grouped = jt_scratch(ctx, tokens * heads, (size_t)a->k_dim * sizeof(float));
    p.out = jt_scratch(ctx, tokens * heads, (size_t)a->v_dim * sizeof(float));
    if (ctx->tape)
        p.lse = jt_scratch(ctx, tokens * heads, sizeof(float));
    if (jt_dtype_block_values(places->kv.k_type) > 1 ||
        jt_dtype_block_values(places->kv.v_type) > 1) {
        p.scratch_bytes = JT_ATTN_BLOCK * dims * sizeof(float);
        p.scratch =
            jt_scratch(ctx, (size_t)jt_pool_threads(ctx->pool), p.scratch_bytes);
    }
    return p;
}

/* The first place in the cache that token t sees. */
static int32_t first_seen(const jt_attention_pass *p, size_t t)
{
    int32_t first = p->at.first ? p->at.first[t] : 0, window = p->a->window;
    int32_t place = (int32_t)(p->at.start + t);
    if (window == 0)
        return first;
    int32_t back = p->a->chunked ? p->at.positions[t] % window : window - 1;
    return place - first < back ? first : place - back;
}

void jt_attention_tile(const jt_attention_pass *p, size_t kv_head, size_t i,
                       jt_attention_tile_fn *fn, void *user)
{
    const jt_attention *a = p->a;
    const jt_kv_layer *kv = &p->at.kv;
    size_t k_dim = (size_t)a->k_dim;
    size_t first = i * p->tile, rest = p->tokens * p->group - first;
    size_t row = kv_head * p->tokens * p->group + first;
    size_t n = rest < p->tile ? rest : p->tile;
    int32_t from[JT_ATTN_MAX_Q], to[JT_ATTN_MAX_Q];
    float sink[JT_ATTN_MAX_Q];
    for (size_t q = 0; q < n; q++) {
        size_t t = (first + q) / p->group, member = (first + q) % p->group;
        from[q] = first_seen(p, t);
        to[q] = (int32_t)(p->at.start + t + 1);
        if (jt_has(&a->sinks))
            sink[q] = jt_row(&a->sinks, 0)[kv_head * p->group + member];
    }
    jt_attn call = {
        .out = p->out + row * p->out_stride,
        .lse = p->lse ? p->lse + row : NULL,
        .q = p->grouped + row * p->q_stride,
        .k = kv_row(kv->k, kv->k_type, kv_head * kv->rows, k_dim),
        .v = kv_row(kv->v, kv->v_type, kv_head * kv->rows, p->v_stride),
        .k_type = kv->k_type,
        .v_type = kv->v_type,
        .from = from,
        .to = to,
        .sink = jt_has(&a->sinks) ? sink : NULL,
        .out_stride = p->out_stride,
        .q_stride = p->q_stride,
        .k_stride = k_dim,
        .v_stride = p->v_stride,
        .rows = kv->rows,
        .k_tiled = kv->k_tiled,
        .n_q = (int)n,
        .k_dim = a->k_dim,
        .v_dim = a->v_dim,
        .scale = a->scale,
        .softcap = a->softcap,
    };
    if (p->scratch)
        call.scratch =
            (float *)(p->scratch + (size_t)jt_pool_self() * p->scratch_bytes);
    fn(p, &call, user, kv_head, row);
}

static void attend(const jt_attention_pass *p, const jt_attn *call, void *user,
                   size_t kv_head, size_t row)
{
    (void)user;
    (void)kv_head;
    (void)row;
    p->kernels->attention(call);
}

static size_t tiles_of(const jt_attention_pass *p)
{
    return (size_t)p->a->n_kv_heads * p->n_tiles;
}

static void attend_tile(void *arg, size_t i)
{
    const jt_attention_pass *p = arg;
    for (; i >= tiles_of(p); p++)
        i -= tiles_of(p);
    jt_attention_tile(p, i / p->n_tiles, i % p->n_tiles, attend, NULL);
}

void jt_attention_attend(jt_context *ctx, const jt_attention_pass *pass, size_t n)
{
    size_t tiles = 0;
    if (jt_failed(ctx))
        return;
    for (size_t i = 0; i < n; i++)
        tiles += tiles_of(&pass[i]);
    jt_pool_run(ctx->pool, attend_tile, (void *)pass, tiles);
}
