/* The expanded form: a head at a time, keys and values of all positions are made from
 * the rows of the cache, and then it is usual attention. */
#include <string.h>

#include "nn/latent_pass.h"
#include "tensor/tape.h"

enum { ROWS = 256 }; /* of the cache, decoded at a time */

/* Of one thread, for one head; all floats. */
typedef struct head_room {
    float *k, *v;     /* [positions, nope + rope], [positions, v_dim] */
    float *k_b, *v_b; /* [nope, rank] or [rank, nope], [v_dim, rank] */
    float *rows;      /* [ROWS, rank + rope] of the cache */
    float *gemm;
} head_room;

/* Lay the room out from `base` on; returns the bytes (with a base of NULL, only those).
 */
static size_t lay_out(const jt_expanded *e, char *base, head_room *room)
{
    const jt_latent *l = e->p->l;
    size_t nope = (size_t)l->nope, rope = (size_t)l->rope, rank = (size_t)l->rank;
    size_t v_dim = (size_t)l->v_dim, used = 0;
    float **part[] = {&room->k,   &room->v,    &room->k_b,
                      &room->v_b, &room->rows, &room->gemm};
    const size_t values[] = {e->positions * (nope + rope),
                             e->positions * v_dim,
                             nope * rank,
                             v_dim * rank,
                             ROWS * (rank + rope),
                             jt_gemm_scratch() / sizeof(float)};
    for (int i = 0; i < 6; i++) {
        *part[i] = base ? (float *)(void *)(base + used) : NULL;
        used += jt_pad64(values[i] * sizeof(float));
    }
    return used;
}

static void decode(const jt_kernels *kernels, float *to, const jt_tensor *w)
{
    size_t cols = jt_cols(w), bytes = jt_dtype_row_bytes(w->dtype, cols);
    for (size_t i = 0; i < jt_rows(w); i++)
        kernels->dequant[w->dtype](to + i * cols, (char *)w->data + i * bytes, cols);
}

/* y = rows w^T; w [n, rank], or turned. */
static void make(const jt_expanded *e, const head_room *room, float *y, size_t ldy,
                 const float *w, bool turned, size_t n, size_t count)
{
    size_t rank = (size_t)e->p->l->rank, wide = rank + (size_t)e->p->l->rope;
    e->p->kernels->gemm(&(jt_gemm){.c = y,
                                   .ldc = ldy,
                                   .a = room->rows,
                                   .a_row = wide,
                                   .a_col = 1,
                                   .b = w,
                                   .b_row = turned ? n : 1,
                                   .b_col = turned ? 1 : rank,
                                   .m = count,
                                   .n = n,
                                   .k = rank,
                                   .precision = e->precision,
                                   .scratch = room->gemm});
}

/* Keys and values of the positions of the context. */
static void fill_head(const jt_expanded *e, const head_room *room, size_t head)
{
    const jt_latent_pass *p = e->p;
    const jt_latent *l = p->l;
    size_t nope = (size_t)l->nope, rope = (size_t)l->rope, rank = (size_t)l->rank;
    size_t v_dim = (size_t)l->v_dim, wide = rank + rope;
    size_t bytes = jt_dtype_row_bytes(p->at.kv.k_type, wide);
    bool turned = !jt_has(&l->kv_b);
    jt_tensor k_b = jt_latent_keys(l, head), v_b = jt_latent_values(l, head);
    decode(p->kernels, room->k_b, &k_b);
    decode(p->kernels, room->v_b, &v_b);
    for (size_t first = 0, n; first < e->positions; first += n) {
        n = e->positions - first < ROWS ? e->positions - first : ROWS;
        for (size_t i = 0; i < n; i++) {
            float *row = room->rows + i * wide,
                  *k = room->k + (first + i) * (nope + rope);
            p->kernels->dequant[p->at.kv.k_type](
                row, (char *)p->at.kv.k + (first + i) % p->at.kv.rows * bytes, wide);
            memcpy(k + nope, row + rank, rope * sizeof *k);
        }
        make(e, room, room->k + first * (nope + rope), nope + rope, room->k_b, turned,
             nope, n);
        make(e, room, room->v + first * v_dim, v_dim, room->v_b, false, v_dim, n);
    }
}

jt_expanded jt_expanded_begin(jt_context *ctx, const jt_latent_pass *p)
{
    jt_expanded e = {.p = p,
                     .one = p->l->attention,
                     .positions = p->at.start + p->tokens,
                     .precision = ctx->tape ? ctx->precision : JT_PRECISION_F32};
    head_room none;
    e.one.n_heads = 1;
    e.one.k_dim = p->l->nope + p->l->rope;
    e.one.v_dim = p->l->v_dim;
    e.room_bytes = lay_out(&e, NULL, &none);
    e.room = jt_scratch(ctx, (size_t)jt_pool_threads(ctx->pool), e.room_bytes);
    return e;
}

jt_attention_pass jt_expanded_head(const jt_expanded *e, size_t head)
{
    const jt_latent_pass *p = e->p;
    size_t k_dim = (size_t)e->one.k_dim, v_dim = (size_t)e->one.v_dim;
    head_room room;
    lay_out(e, e->room + (size_t)jt_pool_self() * e->room_bytes, &room);
    fill_head(e, &room, head);
    jt_attention_pass pass = {
        .kernels = p->kernels,
        .a = &e->one,
        .at = p->at,
        .tokens = p->tokens,
        .group = 1,
        .q_stride = jt_cols(&p->q),
        .out_stride = jt_cols(&p->joined),
        .v_stride = v_dim,
        .grouped = jt_row(&p->q, 0) + head * k_dim,
        .out = jt_row(&p->joined, 0) + head * v_dim,
        .lse = p->lse ? p->lse + head * p->tokens : NULL,
        .tile = JT_ATTN_MAX_Q,
        .n_tiles = (p->tokens + JT_ATTN_MAX_Q - 1) / JT_ATTN_MAX_Q,
    };
    pass.at.kv = (jt_kv_layer){room.k, room.v, JT_F32, JT_F32, e->positions, false};
    return pass;
}

static void attend(const jt_attention_pass *p, const jt_attn *call, void *user,
                   size_t kv_head, size_t row)
{
    (void)user;
    (void)kv_head;
    (void)row;
    p->kernels->attention(call);
}

static void run_head(void *arg, size_t head)
{
    jt_attention_pass pass = jt_expanded_head(arg, head);
    for (size_t i = 0; i < pass.n_tiles; i++)
        jt_attention_tile(&pass, 0, i, attend, NULL);
}

void jt_latent_expanded(jt_context *ctx, jt_latent_pass *p)
{
    if (jt_tape_keeps(ctx))
        p->lse = jt_scratch(ctx, p->heads * p->tokens, sizeof *p->lse);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_expanded e = jt_expanded_begin(ctx, p);
    if (!jt_failed(ctx))
        jt_pool_run(ctx->pool, run_head, &e, p->heads);
    jt_arena_rewind(&ctx->scratch, mark);
    jt_latent_record(ctx, p);
}
