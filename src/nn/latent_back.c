/* Gradients of the expanded form. Head by head, keys and values are made once more, and
 * attention goes back through them; then products over all heads take the gradients of
 * keys and values to the rows that they were made from, and to k_b and v_b. */
#include "nn/latent_pass.h"
#include "tensor/back.h"
#include "tensor/gemms.h"
#include "tensor/tape.h"

typedef struct back {
    const jt_latent_pass *p;
    jt_expanded e;
    size_t k_dim, v_dim, nope;
    float *dk, *dv; /* [heads, tokens, k_dim], [heads, tokens, v_dim] */
    char *scratch;  /* jt_gemm_scratch() bytes for each thread */
    size_t head;    /* of the tiles that run */
} back;

/* Queries and outputs lie as in the forward pass, and their gradients so, too. */
static void back_tile(const jt_attention_pass *pass, const jt_attn *call, void *user,
                      size_t kv_head, size_t row)
{
    const back *b = user;
    const jt_latent_pass *p = b->p;
    size_t keys = b->head * p->tokens;
    (void)kv_head;
    pass->kernels->attention_back(&(jt_attn_back){
        .fwd = *call,
        .dout = jt_grad_row(&p->joined, row) + b->head * b->v_dim,
        .dq = jt_grad_row(&p->q, row) + b->head * b->k_dim,
        .dk = b->dk + keys * b->k_dim,
        .dv = b->dv + keys * b->v_dim,
        .scratch = (float *)(b->scratch + (size_t)jt_pool_self() * jt_gemm_scratch()),
    });
}

static void back_head(void *arg, size_t head)
{
    back b = *(const back *)arg;
    jt_attention_pass pass = jt_expanded_head(&b.e, head);
    b.head = head;
    for (size_t i = 0; i < pass.n_tiles; i++)
        jt_attention_tile(&pass, 0, i, back_tile, &b);
}

/* dk' of a token: all heads read the same rotated values. */
static void sum_rotated(void *arg, size_t t)
{
    const back *b = arg;
    const jt_latent_pass *p = b->p;
    for (size_t head = 0; head < p->heads; head++)
        p->kernels->add(jt_grad_row(&p->k, t),
                        b->dk + (head * p->tokens + t) * b->k_dim + b->nope,
                        b->k_dim - b->nope);
}

/* C += A B for matrices that lie as their strides say. */
typedef struct strided {
    float *x;
    size_t row, col;
} strided;

static jt_gemm product(float *c, size_t m, size_t n, size_t k, strided a, strided b)
{
    return (jt_gemm){.c = c,
                     .ldc = n,
                     .a = a.x,
                     .a_row = a.row,
                     .a_col = a.col,
                     .b = b.x,
                     .b_row = b.row,
                     .b_col = b.col,
                     .m = m,
                     .n = n,
                     .k = k,
                     .accumulate = true};
}

static strided turned(strided x)
{
    return (strided){x.x, x.col, x.row};
}

/* Of one head: dc += dk k_b + dv v_b in list[0, 1]; w_k and w_v as floats. */
static void list_inputs(const back *b, size_t head, const jt_tensor *w_k,
                        const jt_tensor *w_v, jt_gemm *list)
{
    const jt_latent_pass *p = b->p;
    size_t rank = jt_cols(&p->c), tokens = p->tokens, keys = head * tokens;
    bool lies_turned = !jt_has(&p->l->kv_b);
    strided v_b = {w_v->data, rank, 1};
    strided dk = {b->dk + keys * b->k_dim, b->k_dim, 1};
    strided dv = {b->dv + keys * b->v_dim, b->v_dim, 1};
    strided k_b = {w_k->data, lies_turned ? 1 : rank, lies_turned ? b->nope : 1};
    list[0] = product(p->c.grad, tokens, rank, b->nope, dk, k_b);
    list[1] = product(p->c.grad, tokens, rank, b->v_dim, dv, v_b);
}

/* dk_b += dk^T c and dv_b += dv^T c in list[0, 1]. */
static void list_weights(const back *b, size_t head, const jt_tensor *w_k,
                         const jt_tensor *w_v, jt_gemm *list)
{
    const jt_latent_pass *p = b->p;
    size_t rank = jt_cols(&p->c), tokens = p->tokens, keys = head * tokens;
    strided c = {p->c.data, rank, 1};
    strided dk = {b->dk + keys * b->k_dim, b->k_dim, 1};
    strided dv = {b->dv + keys * b->v_dim, b->v_dim, 1};
    list[0] = jt_has(&p->l->kv_b)
                  ? product(w_k->grad, b->nope, rank, tokens, turned(dk), c)
                  : product(w_k->grad, rank, b->nope, tokens, turned(c), dk);
    list[1] = product(w_v->grad, b->v_dim, rank, tokens, turned(dv), c);
}

/* A weight that is not F32 as floats, in scratch. */
static void decode(jt_context *ctx, jt_tensor *w)
{
    size_t rows = jt_rows(w), cols = jt_cols(w);
    if (w->dtype == JT_F32)
        return;
    float *to = jt_scratch(ctx, rows, cols * sizeof *to);
    for (size_t i = 0; i < rows && to; i++)
        ctx->kernels->dequant[w->dtype](to + i * cols, jt_weight_row(w, i), cols);
    w->data = to;
}

/* How many heads go together: all, unless their weights have to be decoded. */
static size_t heads_at_once(const jt_tensor *w_k, const jt_tensor *w_v, size_t heads)
{
    size_t values = jt_rows(w_k) * jt_cols(w_k) + jt_rows(w_v) * jt_cols(w_v);
    size_t fit = JT_DECODED_VALUES / values;
    if (w_k->dtype == JT_F32 && w_v->dtype == JT_F32)
        return heads;
    return fit < 1 ? 1 : fit < heads ? fit : heads;
}

/* The sum over heads is one chain of products; their weights, which have gradients if
 * they are trained, are apart. */
static void back_heads(jt_context *ctx, const back *b, size_t first, size_t count)
{
    jt_gemm *list = jt_scratch(ctx, 4 * count, sizeof *list);
    size_t n = 2 * count;
    for (size_t i = 0; i < count && !jt_failed(ctx); i++) {
        jt_tensor w_k = jt_latent_keys(b->p->l, first + i);
        jt_tensor w_v = jt_latent_values(b->p->l, first + i);
        decode(ctx, &w_k);
        decode(ctx, &w_v);
        list_inputs(b, first + i, &w_k, &w_v, list + 2 * i);
        if (w_k.grad && w_v.grad)
            list_weights(b, first + i, &w_k, &w_v, list + n);
        n += w_k.grad && w_v.grad ? 2 : 0;
    }
    if (!jt_failed(ctx))
        jt_gemms(ctx, list, n);
}

static void back_weights(jt_context *ctx, const back *b)
{
    jt_tensor w_k = jt_latent_keys(b->p->l, 0), w_v = jt_latent_values(b->p->l, 0);
    size_t heads = b->p->heads, most = heads_at_once(&w_k, &w_v, heads);
    for (size_t first = 0; first < heads; first += most) {
        jt_arena_mark mark = jt_arena_save(&ctx->scratch);
        back_heads(ctx, b, first, heads - first < most ? heads - first : most);
        jt_arena_rewind(&ctx->scratch, mark);
    }
}

static float *zeros(jt_context *ctx, size_t count, size_t dim)
{
    float *x = jt_scratch(ctx, count, dim * sizeof *x);
    jt_zero(ctx, x, count * dim);
    return x;
}

static void latent_backward(jt_context *ctx, void *saved)
{
    const jt_latent_pass *p = saved;
    size_t rows = p->heads * p->tokens;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    back b = {.p = p,
              .e = jt_expanded_begin(ctx, p),
              .k_dim = (size_t)p->l->nope + (size_t)p->l->rope,
              .v_dim = (size_t)p->l->v_dim,
              .nope = (size_t)p->l->nope};
    b.dk = zeros(ctx, rows, b.k_dim);
    b.dv = zeros(ctx, rows, b.v_dim);
    b.scratch = jt_scratch(ctx, (size_t)jt_pool_threads(ctx->pool), jt_gemm_scratch());
    if (!jt_failed(ctx)) {
        jt_pool_run(ctx->pool, back_head, &b, p->heads);
        jt_for_rows(ctx, p->tokens, rows * jt_cols(&p->k), sum_rotated, &b);
        back_weights(ctx, &b);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_latent_record(jt_context *ctx, const jt_latent_pass *pass)
{
    jt_tape_push(ctx, latent_backward, pass, sizeof *pass);
}
