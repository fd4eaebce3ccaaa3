/* Gradients of an attention pass: from those of the joined outputs to those of q, k and
 * v. */
#include <math.h>
#include <string.h>

#include "nn/attention_pass.h"
#include "tensor/tape.h"

typedef struct back {
    jt_attention_pass p;
    float *dout;    /* [kv_heads, tokens, group, v_dim] */
    float *dq;      /* [kv_heads, tokens, group, k_dim] */
    float *dk, *dv; /* [kv_heads, tokens, dim] */
    char *scratch;  /* jt_gemm_scratch() bytes for each thread */
    size_t *bound;  /* [spans + 1] tiles, falling: a span is bound[i + 1] .. bound[i] */
    size_t n_spans;
} back;

/* Through y = sigmoid(gate) out: dgate += dy y (1 - s), and dy becomes dout = dy s. */
static void back_gate(const jt_attention_pass *p, size_t t, size_t at, float *dy,
                      size_t n)
{
    const float *gate = jt_row(&p->gate, t) + at, *y = jt_row(&p->joined, t) + at;
    float *dgate = jt_grad_row(&p->gate, t) + at;
    for (size_t i = 0; i < n; i++) {
        float s = 1.0f / (1.0f + expf(-gate[i]));
        dgate[i] += dy[i] * y[i] * (1.0f - s);
        dy[i] *= s;
    }
}

static void split_token(void *arg, size_t t)
{
    const back *b = arg;
    const jt_attention_pass *p = &b->p;
    size_t v_dim = (size_t)p->a->v_dim;
    for (size_t head = 0; head < (size_t)p->a->n_heads; head++) {
        size_t kv_head = head / p->group, member = head % p->group;
        float *to = b->dout + ((kv_head * p->tokens + t) * p->group + member) * v_dim;
        float *dy = jt_grad_row(&p->joined, t) + head * v_dim;
        if (jt_has(&p->gate))
            back_gate(p, t, head * v_dim, dy, v_dim);
        memcpy(to, dy, v_dim * sizeof(float));
    }
}

static void back_tile(const jt_attention_pass *p, const jt_attn *call, void *user,
                      size_t kv_head, size_t row)
{
    const back *b = user;
    (void)p;
    size_t k_dim = (size_t)call->k_dim, v_dim = (size_t)call->v_dim;
    b->p.kernels->attention_back(&(jt_attn_back){
        .fwd = *call,
        .dout = b->dout + row * v_dim,
        .dq = b->dq + row * k_dim,
        .dk = b->dk + kv_head * b->p.tokens * k_dim,
        .dv = b->dv + kv_head * b->p.tokens * v_dim,
        .scratch = (float *)(b->scratch + (size_t)jt_pool_self() * jt_gemm_scratch()),
    });
}

/* Cut the tiles into spans of which none sees keys of another: where a document begins
 * with a tile. */
static void find_spans(back *b)
{
    const jt_attention_pass *p = &b->p;
    size_t lowest = p->tokens; /* key that the tokens from here on see */
    b->bound[0] = p->n_tiles;
    for (size_t i = p->n_tiles; i-- > 0;) {
        size_t row = i * p->tile, end = row + p->tile;
        for (size_t t = row / p->group; t * p->group < end && t < p->tokens; t++) {
            size_t first = p->at.first ? (size_t)p->at.first[t] : 0;
            lowest = first < lowest ? first : lowest;
        }
        if (row % p->group == 0 && lowest >= row / p->group)
            b->bound[++b->n_spans] = i;
    }
}

/* Tiles of a span add to the same keys and values: one after the other. */
static void back_span(void *arg, size_t i)
{
    const back *b = arg;
    const size_t *bound = b->bound + i % b->n_spans;
    for (size_t tile = bound[1]; tile < bound[0]; tile++)
        jt_attention_tile(&b->p, i / b->n_spans, tile, back_tile, arg);
}

/* dsink = -p(sink) dout . out, summed over the tokens in order. */
static void back_sinks(const back *b)
{
    const jt_attention_pass *p = &b->p;
    const jt_tensor *sinks = &p->a->sinks;
    size_t v_dim = (size_t)p->a->v_dim;
    for (size_t head = 0; sinks->grad && head < (size_t)p->a->n_heads; head++) {
        size_t kv_head = head / p->group, member = head % p->group;
        for (size_t t = 0; t < p->tokens; t++) {
            size_t row = (kv_head * p->tokens + t) * p->group + member;
            float along =
                p->kernels->dot(b->dout + row * v_dim, p->out + row * v_dim, v_dim);
            sinks->grad[head] -= expf(jt_row(sinks, 0)[head] - p->lse[row]) * along;
        }
    }
}

/* From the order of the kernel to that of the tokens. */
static void unplace_token(void *arg, size_t t)
{
    const back *b = arg;
    const jt_attention_pass *p = &b->p;
    size_t k_dim = (size_t)p->a->k_dim, v_dim = (size_t)p->a->v_dim;
    for (size_t head = 0; head < (size_t)p->a->n_heads; head++) {
        size_t kv_head = head / p->group, member = head % p->group;
        p->kernels->add(jt_grad_row(&p->q, t) + head * k_dim,
                        b->dq + ((kv_head * p->tokens + t) * p->group + member) * k_dim,
                        k_dim);
    }
    for (size_t head = 0; head < (size_t)p->a->n_kv_heads; head++) {
        size_t row = head * p->tokens + t;
        p->kernels->add(jt_grad_row(&p->k, t) + head * k_dim, b->dk + row * k_dim,
                        k_dim);
        p->kernels->add(jt_grad_row(&p->v, t) + head * v_dim, b->dv + row * v_dim,
                        v_dim);
    }
}

static float *zeros(jt_context *ctx, size_t count, int dim)
{
    float *x = jt_scratch(ctx, count, (size_t)dim * sizeof *x);
    jt_zero(ctx, x, count * (size_t)dim);
    return x;
}

static void attention_backward(jt_context *ctx, void *saved)
{
    back b = {.p = *(const jt_attention_pass *)saved};
    const jt_attention *a = b.p.a;
    size_t queries = b.p.tokens * (size_t)a->n_heads;
    size_t keys = b.p.tokens * (size_t)a->n_kv_heads;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    b.dout = jt_scratch(ctx, queries, (size_t)a->v_dim * sizeof(float));
    b.dq = zeros(ctx, queries, a->k_dim);
    b.dk = zeros(ctx, keys, a->k_dim);
    b.dv = zeros(ctx, keys, a->v_dim);
    b.scratch = jt_scratch(ctx, (size_t)jt_pool_threads(ctx->pool), jt_gemm_scratch());
    b.bound = jt_scratch(ctx, b.p.n_tiles + 1, sizeof *b.bound);
    if (!jt_failed(ctx)) {
        size_t work = queries * (size_t)a->k_dim;
        jt_for_rows(ctx, b.p.tokens, work, split_token, &b);
        find_spans(&b);
        jt_pool_run(ctx->pool, back_span, &b, (size_t)a->n_kv_heads * b.n_spans);
        back_sinks(&b);
        jt_for_rows(ctx, b.p.tokens, work, unplace_token, &b);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_attention_check(jt_context *ctx, const jt_places *places, size_t n)
{
    const jt_kv_layer *kv = &places->kv;
    bool exact = kv->k_type == JT_F32 && kv->v_type == JT_F32;
    jt_places_check(ctx, places, n);
    if (!jt_failed(ctx) && jt_tape_keeps(ctx) && !(exact && kv->rows >= places->count))
        jt_fail(&ctx->err, JT_E_UNSUPPORTED,
                "gradients through a cache of keys and values");
}

void jt_attention_record(jt_context *ctx, const jt_attention_pass *pass, size_t n)
{
    jt_attention_check(ctx, &pass->at, n);
    jt_tape_push(ctx, attention_backward, pass, sizeof *pass);
}
