/* The absorbed form: queries go to where the rows of the cache are. */
#include <string.h>

#include "nn/latent_pass.h"

typedef struct absorbed {
    jt_latent_pass *p;
    jt_attention_pass attend; /* grouped: [tokens, heads, rank + rope] */
    jt_tensor nope;           /* [tokens * heads, nope] of the queries */
    int32_t *index;           /* [heads, tokens] rows of a head in [tokens, heads] */
    jt_product *products;     /* [heads] */
    float *row;               /* [rank] for each thread */
} absorbed;

/* Of the queries of token t, what is not rotated by itself, the rest to its place. */
static void split_token(void *arg, size_t t)
{
    const absorbed *a = arg;
    const jt_latent *l = a->p->l;
    size_t nope = (size_t)l->nope, rope = (size_t)l->rope, rank = (size_t)l->rank;
    const float *q = jt_row(&a->p->q, t);
    for (size_t head = 0; head < a->p->heads; head++, q += nope + rope) {
        size_t row = t * a->p->heads + head;
        memcpy(jt_row(&a->nope, row), q, nope * sizeof *q);
        memcpy(a->attend.grouped + row * (rank + rope) + rank, q + nope,
               rope * sizeof *q);
    }
}

/* y = k_b^T q for all tokens of a head, where k_b lies as [nope, rank]: a sum of its
 * rows. */
static void absorb_head(void *arg, size_t head)
{
    const absorbed *a = arg;
    const jt_latent_pass *p = a->p;
    const jt_kernels *kernels = p->kernels;
    size_t rank = (size_t)p->l->rank, wide = rank + (size_t)p->l->rope;
    jt_tensor w = jt_latent_keys(p->l, head);
    size_t bytes = jt_dtype_row_bytes(w.dtype, rank);
    float *row = a->row + (size_t)jt_pool_self() * rank;
    for (size_t t = 0; t < p->tokens; t++)
        memset(a->attend.grouped + (t * p->heads + head) * wide, 0, rank * sizeof *row);
    for (size_t i = 0; i < (size_t)p->l->nope; i++) {
        kernels->dequant[w.dtype](row, (char *)w.data + i * bytes, rank);
        for (size_t t = 0; t < p->tokens; t++) {
            size_t at = t * p->heads + head;
            kernels->axpy(a->attend.grouped + at * wide, jt_row(&a->nope, at)[i], row,
                          rank);
        }
    }
}

/* One product per head: `ldy` and `apart` floats from a token's row of y to the next,
 * and from a head's to the next. */
static void each_head(jt_context *ctx, absorbed *a, float *y, size_t ldy, size_t apart,
                      jt_tensor (*weight)(const jt_latent *l, size_t head),
                      jt_tensor rows)
{
    jt_latent_pass *p = a->p;
    jt_input x = jt_input_of(rows);
    jt_gathering via = {.token = a->index, .rows = p->heads * p->tokens};
    for (size_t head = 0; head < p->heads; head++)
        a->products[head] = (jt_product){.y = y + head * apart,
                                         .ldy = ldy,
                                         .w = weight(p->l, head),
                                         .x = &x,
                                         .first = head * p->tokens,
                                         .via = &via,
                                         .tokens = p->tokens};
    jt_products(ctx, a->products, p->heads);
}

static void move_queries(jt_context *ctx, absorbed *a)
{
    jt_latent_pass *p = a->p;
    size_t wide = (size_t)p->l->rank + (size_t)p->l->rope;
    jt_for_rows(ctx, p->tokens, p->tokens * jt_cols(&p->q), split_token, a);
    if (jt_has(&p->l->kv_b))
        jt_pool_run(ctx->pool, absorb_head, a, p->heads);
    else
        each_head(ctx, a, a->attend.grouped, p->heads * wide, wide, jt_latent_keys,
                  a->nope);
}

static void run(jt_context *ctx, absorbed *a)
{
    jt_latent_pass *p = a->p;
    size_t v_dim = (size_t)p->l->v_dim, heads = p->heads, rows = heads * p->tokens;
    for (size_t i = 0; i < rows; i++)
        a->index[i] = (int32_t)(i % p->tokens * heads + i / p->tokens);
    move_queries(ctx, a);
    jt_attention_attend(ctx, &a->attend, 1);
    jt_tensor out = {.data = a->attend.out,
                     .dtype = JT_F32,
                     .n_dims = 2,
                     .shape = {rows, (size_t)p->l->rank}};
    each_head(ctx, a, p->joined.data, heads * v_dim, v_dim, jt_latent_values, out);
}

void jt_latent_absorbed(jt_context *ctx, jt_latent_pass *p)
{
    const jt_latent *l = p->l;
    size_t rank = (size_t)l->rank, rows = p->heads * p->tokens;
    size_t threads = (size_t)jt_pool_threads(ctx->pool);
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    absorbed a = {.p = p,
                  .attend = jt_attention_begin(ctx, &l->attention, &p->at),
                  .nope = jt_new(ctx, rows, (size_t)l->nope),
                  .index = jt_scratch(ctx, rows, sizeof *a.index),
                  .products = jt_scratch(ctx, p->heads, sizeof *a.products),
                  .row = jt_scratch(ctx, threads * rank, sizeof *a.row)};
    a.attend.v_stride = rank + (size_t)l->rope;
    if (!jt_failed(ctx))
        run(ctx, &a);
    jt_arena_rewind(&ctx->scratch, mark);
}
