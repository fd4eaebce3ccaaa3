/* Gradients of attention, block by block of positions like the forward pass. With the
 * scores s and dp = dout . values of a block, both products of the tile:
 *     p = exp(scale s - lse),  ds = scale p (dp - dout . out),
 *     dv += p^T dout,  dk += ds^T q,  dq += ds k.
 * A softcap c makes c tanh(scale s / c) of a score, and 1 - tanh^2 is a factor of ds.
 */
#ifndef JT_SIMD_ATTENTION_BACK_H
#define JT_SIMD_ATTENTION_BACK_H

#include "kernels/simd/backward.h"
#include "kernels/simd/gemm.h"
#include "kernels/simd/glu.h"

typedef struct attn_back_state {
    const jt_attn_back *b;
    float p[JT_ATTN_MAX_Q][JT_ATTN_BLOCK];  /* scores, then weights, of one block */
    float ds[JT_ATTN_MAX_Q][JT_ATTN_BLOCK]; /* dp, then the gradient of the scores */
    float mean[JT_ATTN_MAX_Q];              /* dout . out */
} attn_back_state;

/* c = rows of x . rows of y: [n_q, count], over dim values. */
static void attn_back_dots(const attn_back_state *s, float *c, const float *x,
                           size_t x_stride, const float *y, size_t y_stride,
                           size_t count, int dim)
{
    gemm(&(jt_gemm){
        .c = c,
        .ldc = JT_ATTN_BLOCK,
        .a = x,
        .a_row = x_stride,
        .a_col = 1,
        .b = y,
        .b_row = 1,
        .b_col = y_stride,
        .m = (size_t)s->b->fwd.n_q,
        .n = count,
        .k = (size_t)dim,
        .scratch = s->b->scratch,
    });
}

/* y[position] += sum over queries of weight[query, position] * x[query] */
static void attn_back_to_positions(const attn_back_state *s, float *y, size_t y_stride,
                                   const float *weight, const float *x, size_t x_stride,
                                   size_t count, int dim)
{
    gemm(&(jt_gemm){
        .c = y,
        .ldc = y_stride,
        .a = weight,
        .a_row = 1,
        .a_col = JT_ATTN_BLOCK,
        .b = x,
        .b_row = x_stride,
        .b_col = 1,
        .m = count,
        .n = (size_t)dim,
        .k = (size_t)s->b->fwd.n_q,
        .accumulate = true,
        .scratch = s->b->scratch,
    });
}

/* dq[query] += sum over positions of ds[query, position] * k[position] */
static void attn_back_to_queries(const attn_back_state *s, const float *k, size_t count)
{
    const jt_attn *a = &s->b->fwd;
    gemm(&(jt_gemm){
        .c = s->b->dq,
        .ldc = a->q_stride,
        .a = s->ds[0],
        .a_row = JT_ATTN_BLOCK,
        .a_col = 1,
        .b = k,
        .b_row = a->k_stride,
        .b_col = 1,
        .m = (size_t)a->n_q,
        .n = (size_t)a->k_dim,
        .k = count,
        .accumulate = true,
        .scratch = s->b->scratch,
    });
}

/* Scores and dp of query j to weights and gradients; 0 where it does not see. */
static void attn_back_weights(attn_back_state *s, int j, int base, size_t count)
{
    const jt_attn *a = &s->b->fwd;
    const vf lse = vf_set1(a->lse[j]), mean = vf_set1(s->mean[j]);
    const vf inverse = vf_set1(a->softcap > 0 ? 1 / a->softcap : 0);
    float *p = s->p[j], *ds = s->ds[j];
    scale(p, a->scale, p, count);
    if (a->softcap > 0)
        softcap(p, p, a->softcap, count);
    for (size_t i = 0; i < count; i += LANES) {
        vf score = vf_load_n(p + i, count - i), dp = vf_load_n(ds + i, count - i);
        vf e = vf_exp(vf_sub(score, lse)), tanh = vf_mul(score, inverse);
        vf slope = vf_fnma(tanh, tanh, vf_set1(1));
        vf_store_n(p + i, e, count - i);
        vf change = vf_mul(vf_mul(vf_set1(a->scale), e), vf_sub(dp, mean));
        vf_store_n(ds + i, vf_mul(change, slope), count - i);
    }
    for (int i = 0; i < (int)count; i++)
        if (base + i < a->from[j] || base + i >= a->to[j])
            p[i] = ds[i] = 0;
}

/* `count` positions from `base` on. */
static void attn_back_block(attn_back_state *s, int base, size_t count)
{
    const jt_attn *a = &s->b->fwd;
    const size_t k_at = (size_t)base * a->k_stride, v_at = (size_t)base * a->v_stride;
    const float *k = (const float *)a->k + k_at, *v = (const float *)a->v + v_at;
    attn_back_dots(s, s->p[0], a->q, a->q_stride, k, a->k_stride, count, a->k_dim);
    attn_back_dots(s, s->ds[0], s->b->dout, a->out_stride, v, a->v_stride, count,
                   a->v_dim);
    for (int j = 0; j < a->n_q; j++)
        attn_back_weights(s, j, base, count);
    attn_back_to_positions(s, s->b->dv + v_at, a->v_stride, s->p[0], s->b->dout,
                           a->out_stride, count, a->v_dim);
    attn_back_to_positions(s, s->b->dk + k_at, a->k_stride, s->ds[0], a->q, a->q_stride,
                           count, a->k_dim);
    attn_back_to_queries(s, k, count);
}

static void attention_back(const jt_attn_back *b)
{
    const jt_attn *a = &b->fwd;
    attn_back_state s;
    int from = INT32_MAX, to = 0;
    s.b = b;
    for (int j = 0; j < a->n_q; j++) {
        size_t row = (size_t)j * a->out_stride;
        s.mean[j] = dot(b->dout + row, a->out + row, (size_t)a->v_dim);
        if (a->from[j] >= a->to[j])
            continue;
        from = a->from[j] < from ? a->from[j] : from;
        to = a->to[j] > to ? a->to[j] : to;
    }
    while (from < to) {
        int next = (from / JT_ATTN_BLOCK + 1) * JT_ATTN_BLOCK;
        next = next < to ? next : to;
        attn_back_block(&s, from, (size_t)(next - from));
        from = next;
    }
}

#endif
