/* The kernel table: everything that the processor does in an inner loop.
 *
 * One table per level (scalar; avx2, avx512; neon, dotprod). A level starts as a copy
 * of the one below and overrides what it does better, so every entry of every table can
 * be called. The scalar table is the truth; tests/kernels/ holds each entry that a
 * level changed against it. Kernels start no thread, allocate nothing, need no
 * alignment, and read and write only inside the sizes they are given.
 *
 * Order of sums: within a level, a value depends only on its own row, its own
 * activations and n: never on how many rows or tokens were asked for in the same call.
 * So the same text comes out whatever the batch or the split over threads. Decoding,
 * packing, elementwise functions and the products of quantised weights are the same
 * bits at every level; sums of floats and exponentials differ in their last bits.
 */
#ifndef JT_KERNELS_H
#define JT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/dtype.h"

/* Forms in which a matmul takes its activations. A row of n floats is packed once and
 * then used by every weight that multiplies it.
 *   F32     float x[n]
 *   BF16X2  x as the sum of two bfloat16: uint16 hi[n], then uint16 lo[n], each part
 *           padded to a multiple of 64 bytes. hi = bf16(x), lo = bf16(x - hi): 16 bits
 *           of mantissa, enough for F32-like results from BF16 dot products.
 *   Q8      n must be a multiple of 32. int8 q[n]; float d[n/32]; int16 sum[n/16]: each
 *           of the three parts padded to a multiple of 64 bytes with zeros.
 *           x[i] ~ d[i/32] * q[i], d = max|x| / 127 of the 32, q = x * (127 / max|x|)
 *           rounded to nearest even; all zero when max|x| < 2^-120; a group with an
 *           infinity or a NaN has d = NaN, which the product then shows;
 *           sum[j] = q[16j] + .. + q[16j+15], for formats with a minimum or an offset.
 */
typedef enum jt_act { JT_ACT_F32, JT_ACT_BF16X2, JT_ACT_Q8, JT_ACT_COUNT } jt_act;

/* Round up to the 64 bytes to which parts and rows of activations are padded. */
static inline size_t jt_pad64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

/* Bytes of one packed row of n activations: a multiple of 64. */
static inline size_t jt_act_bytes(jt_act act, size_t n)
{
    switch (act) {
    case JT_ACT_BF16X2:
        return 2 * jt_pad64(2 * n);
    case JT_ACT_Q8:
        return jt_pad64(n) + jt_pad64(n / 32 * 4) + jt_pad64(n / 16 * 2);
    default:
        return jt_pad64(4 * n);
    }
}

/* Memory that is read once a product is done: `bytes` from `at` bytes into the first
 * piece on, across pieces. Asked for while the product runs. All 0: nothing. */
typedef struct jt_piece {
    const void *data;
    size_t bytes;
} jt_piece;

typedef struct jt_later {
    const jt_piece *piece;
    size_t at, bytes;
} jt_later;

/* Matrix product of weight rows with packed activations.
 *   y[t * ldy + r] = sum_i W[r, i] * X[index ? index[t] : t, i]
 * for r < rows, t < tokens. Row r of W starts at w + r * row_bytes; row j of X at
 * x + j * x_bytes. One function for one token (decoding) and for many (prefill).
 * Rows are worked on JT_MATMUL_ROWS at a time: threads should share them in multiples
 * of it (for speed only; the values are the same). */
#define JT_MATMUL_ROWS 32
typedef struct jt_matmul_args {
    float *y;
    size_t ldy;
    const void *w;
    size_t row_bytes, rows;
    const void *x; /* of the form that the function takes */
    size_t x_bytes;
    const int32_t *index; /* [tokens] or NULL */
    size_t tokens, n;
    jt_later later;
} jt_matmul_args;
typedef void jt_matmul_fn(const jt_matmul_args *m);

typedef struct jt_matmul {
    jt_act act; /* what x must be */
    jt_matmul_fn *fn;
    jt_matmul_fn *tiled;  /* the same, bit for bit, where w points to tiles (tile.h) of
                             rows without gaps; NULL: this level has no use for them */
    jt_matmul_fn *halves; /* of F32: the same, bit for bit, where w points to tiles of
                             bfloat16 that say each value exactly; NULL: not here */
} jt_matmul;

/* Thin products: of factors of adapters, with few rows or rows of a few values, for few
 * tokens. A weight goes from memory to its sum in one step, and memory is what there is
 * to wait for; so `next`, which is read after it (or NULL), is asked for in time. */

/* y[t * y_stride + r] = sum_i W[row + r, i] X[index ? index[t] : t, i] for r < rows, as
 * in jt_matmul_fn. W has rows one after the other, or panels where it has 8 bits. */
typedef struct jt_thin {
    float *y;
    size_t y_stride;
    const void *w; /* F32, F16, BF16; Q8_0: 8 bits, as below */
    size_t row, rows, n;
    const void *x; /* JT_ACT_F32 */
    size_t x_bytes;
    const int32_t *index;
    size_t tokens;
    const void *next;
} jt_thin;

/* y[(index ? index[t] : t) * y_stride + r]
 *     += factor(t) sum_k B[row + r, k] low[t * low_stride + k]
 * for r < rows, t < tokens, where factor(t) = weight[t] scale. B has rows of a few
 * values, side by side in panels of JT_PANEL_ROWS: a row that a last panel does not
 * have is there all the same, and finite. */
#define JT_PANEL_ROWS 16
typedef struct jt_thin_up {
    float *y;
    size_t y_stride;
    const int32_t *index; /* [tokens], all different; or NULL */
    const void *b;        /* as w of jt_thin */
    size_t row, rows, rank;
    const float *low;
    size_t low_stride, tokens;
    const float *weight; /* NULL: all 1 */
    float scale;
    const void *next;
} jt_thin_up;

/* Which value of panels B[row, k] is. */
static inline size_t jt_panel_at(size_t row, size_t k, size_t rank)
{
    return (row / JT_PANEL_ROWS * rank + k) * JT_PANEL_ROWS + row % JT_PANEL_ROWS;
}

/* Values of the panels of `rows` rows. */
static inline size_t jt_panel_values(size_t rows, size_t rank)
{
    return (rows + JT_PANEL_ROWS - 1) / JT_PANEL_ROWS * JT_PANEL_ROWS * rank;
}

/* In panels of 8 bits, JT_PANEL_BLOCK values of each row (or what is left of them) have
 * a scale: blocks of JT_PANEL_ROWS scales in F32, and then the codes, signed, where
 * jt_panel_at would have the values. W[r, k] = scale * code. */
#define JT_PANEL_BLOCK 32

/* Of panels of `rows` rows of `n` values. */
static inline size_t jt_panel8_bytes(size_t rows, size_t n)
{
    size_t panels = (rows + JT_PANEL_ROWS - 1) / JT_PANEL_ROWS;
    size_t blocks = (n + JT_PANEL_BLOCK - 1) / JT_PANEL_BLOCK;
    return panels * JT_PANEL_ROWS * (n + blocks * sizeof(float));
}

/* Where the block of row `row` and value `k` begins. */
static inline size_t jt_panel8_at(size_t row, size_t k, size_t n)
{
    return jt_panel8_bytes(row / JT_PANEL_ROWS * JT_PANEL_ROWS, n) +
           k / JT_PANEL_BLOCK * jt_panel8_bytes(1, JT_PANEL_BLOCK);
}

/* One tile of attention: n_q queries that read the same keys and values (the heads of a
 * group, and several tokens of a chunk), softmax on line, values summed in F32.
 *   out[j] = softmax(cap(scale * q[j] . K[from[j] .. to[j])) and sink[j]) V
 * where cap(s) = softcap * tanh(s / softcap), or s for a softcap of 0 (Gemma 2), and a
 * sink is one more score that has no value (gpt-oss).
 *
 * Keys and values are rows of k_dim / v_dim values, strides in values too; position p
 * lies in row p % rows. F16 keys may lie in tiles instead, of JT_ATTN_KEYS rows side by
 * side, so that a vector of scores takes a vector of keys as it is (jt_attn_key).
 * Positions are visited in blocks of JT_ATTN_BLOCK that start at multiples of
 * JT_ATTN_BLOCK, whatever the tile, which keeps the order of sums fixed; so where rows
 * are fewer than the positions, they are a multiple of JT_ATTN_BLOCK. A query with from
 * >= to gives zeros. Values at positions that some query of the tile sees must be
 * finite. */
#define JT_ATTN_BLOCK 64
#define JT_ATTN_KEYS  32
#define JT_ATTN_MAX_Q 64
typedef struct jt_attn {
    float *out; /* [n_q] rows, out_stride floats apart, v_dim used */
    float *lse; /* [n_q] log of the sum of the exponentials of the scores, or NULL */
    const float *q; /* [n_q] rows, q_stride floats apart, k_dim used */
    const void *k, *v;
    jt_dtype k_type, v_type;  /* JT_F32, JT_F16, JT_Q8_0 or JT_Q4_0 */
    const int32_t *from, *to; /* [n_q] */
    const float *sink;        /* [n_q], or NULL */
    float *scratch; /* JT_ATTN_BLOCK * (k_dim + v_dim) floats of this call alone,
                       where a type is neither F32 nor F16 */
    size_t out_stride, q_stride, k_stride, v_stride, rows;
    bool k_tiled; /* keys: rows are a multiple of JT_ATTN_BLOCK, k_stride is k_dim */
    int n_q;      /* 1 .. JT_ATTN_MAX_Q */
    int k_dim, v_dim;
    float scale, softcap;
} jt_attn;

/* Where value i of row `row` is in keys in tiles, in values. */
static inline size_t jt_attn_key(size_t row, size_t i, size_t dim)
{
    return (row / JT_ATTN_KEYS * dim + i) * JT_ATTN_KEYS + row % JT_ATTN_KEYS;
}

/* How precise the products of training are. BF16: both factors are rounded to bfloat16
 * (nearest even) and the products of those summed as floats; a processor may take
 * values below 2^-126 for zero. */
typedef enum jt_precision { JT_PRECISION_F32, JT_PRECISION_BF16 } jt_precision;

/* Matrix product of floats with any strides, for training.
 *   C[i, j] (+)= sum over k of A[i, k] B[k, j]    i < m, j < n
 *   A[i, k] = a[a_index[i] * a_row + k * a_col]    an index that is NULL
 *   B[k, j] = b[b_index[k] * b_row + j * b_col]    counts up
 *   C[i, j] = c[i * ldc + j]                                added to with `accumulate`
 * a_index ([m]) gathers the rows of A: the tokens of an expert; b_index ([k]) those of
 * B: the same tokens, for the gradient of its weight. C overlaps nothing else.
 *
 * Order of sums: the products of each JT_GEMM_K values of k (from 0, JT_GEMM_K, ..; of
 * twice as many where the processor multiplies pairs of bfloat16) are summed in order
 * with fma, and these sums are added to C in order; the scalar level sums straight on.
 * So a value does not depend on m, n or its place, and threads may share rows or
 * columns as they like: best in multiples of JT_GEMM_TILE, and rows (columns) where A
 * (B) is the larger side, as each call copies both. */
#define JT_GEMM_TILE 48 /* a multiple of every level's tile, in both directions */
#define JT_GEMM_M    96 /* rows, columns and k that are copied at a time */
#define JT_GEMM_N    480
#define JT_GEMM_K    384
typedef struct jt_gemm {
    float *c;
    const float *a, *b;
    const int32_t *a_index, *b_index; /* or NULL */
    size_t ldc, a_row, a_col, b_row, b_col;
    size_t m, n, k;
    bool accumulate;
    jt_precision precision;
    float *scratch; /* jt_gemm_scratch() bytes, of this call alone */
} jt_gemm;

static inline size_t jt_gemm_scratch(void)
{
    return (JT_GEMM_M + JT_GEMM_N) * JT_GEMM_K * sizeof(float) + 64;
}

/* The gradients of one tile of attention, from those of what it gave out. dq, dk and dv
 * lie like q, k and v, dout like out; they are added to, and overlap nothing. Tiles
 * that read the same keys and values add to the same dk and dv: one after the other,
 * best in the order of the positions. dq of a query does not depend on the others of
 * the tile; dk and dv get one sum per tile. */
typedef struct jt_attn_back {
    jt_attn fwd; /* the forward call, with its results in out and lse; keys and values
                    are F32, rows as many as positions */
    const float *dout;
    float *dq, *dk, *dv;
    float *scratch; /* jt_gemm_scratch() bytes, of this call alone */
} jt_attn_back;

/* What an FFN does inside: f(gate) * up, or f(gate) alone.
 *   SILU        v / (1 + exp(-v))
 *   GELU        v / (1 + exp(-2 sqrt(2 / pi) (v + 0.044715 v^3))), which is the form
 *               with a tanh (Hendrycks & Gimpel 2016)
 *   GELU_ERF    v (1 + erf(v / sqrt 2)) / 2
 *   RELU2       max(v, 0)^2
 *   SWIGLU_OAI  v / (1 + exp(-1.702 v)) with v = min(gate, 7), times up + 1 with up
 *               clamped to +-7 (gpt-oss)
 */
typedef enum jt_activation {
    JT_SILU,
    JT_GELU,
    JT_GELU_ERF,
    JT_RELU2,
    JT_SWIGLU_OAI,
    JT_ACTIVATION_COUNT
} jt_activation;

/* A linear recurrence over tokens: what state space models and linear attention
 * remember. Row r of the state h takes the tokens in order; of each token all rows
 * share the key k and the query q [n], and each has a value v:
 *     h = a h                forget
 *     u = step v             or, with beta, the delta rule: u = beta (v - h . k)
 *     h = h + u k
 *     y = h . q
 * The factor a and the step are numbers for the token (decay, step); a may also be one
 * for each value of its key (fade). With `rate` each row has a step of its own, and a
 * is exp(step rate), another one for each value of the state. Rows are independent:
 * threads may share them, and any cut of the tokens gives the same bits. */
typedef struct jt_recur {
    float *h;                  /* [rows, n], changed */
    float *y;                  /* [tokens] rows, y_stride floats apart, `rows` used */
    const float *k, *q;        /* [tokens] rows, k_stride (q_stride) apart, n used */
    const float *v;            /* [tokens] rows, v_stride apart, `rows` used */
    const float *decay, *beta; /* [tokens], gate_stride apart; beta or NULL */
    const float *fade;         /* instead of decay, with beta: [tokens] rows,
                                  fade_stride apart, n used; or NULL */
    const float *rate;         /* [rows, n], or NULL */
    const float *step; /* without rate or beta: [tokens], gate_stride apart; with rate
                          [tokens] rows, step_stride apart; with beta NULL */
    size_t y_stride, k_stride, q_stride, v_stride, gate_stride, step_stride;
    size_t fade_stride;
    size_t rows, n, tokens;
} jt_recur;

/* What the multipliers of a level do at best: float multiply-adds, and products of
 * bytes that are summed in 32 bits. */
typedef enum jt_spin { JT_SPIN_F32, JT_SPIN_INT8, JT_SPIN_COUNT } jt_spin;

/* The gradients of a piece of a recurrence from those of y. What is [tokens] lies
 * without gaps. All but dh is added to: dk, dq and what belongs to tokens are sums over
 * the rows of this call. */
typedef struct jt_recur_back {
    jt_recur fwd;    /* the forward call; h as it was before, which is lost; y is not
                        looked at */
    const float *dy; /* like y */
    float *dh;       /* [rows, n]: goes from the state after the last token to that
                        before the first */
    float *dk, *dq;  /* [tokens, n] */
    float *dv;       /* like v */
    float *dlog;     /* [tokens] by the logarithm of decay, [tokens, n] by that of fade;
                        not with rate */
    float *dbeta;    /* [tokens], with beta */
    float *dstep;    /* [tokens], where there is a step; with rate like step */
    float *drate;    /* [rows, n], with rate */
    float *scratch;  /* jt_recur_back_scratch(n, tokens) bytes, of this call alone */
} jt_recur_back;

#define JT_RECUR_ROWS 4 /* that go through the tokens together */
static inline size_t jt_recur_back_scratch(size_t n, size_t tokens)
{
    return JT_RECUR_ROWS * tokens * (n + 1) * sizeof(float);
}

typedef struct jt_kernels {
    const char *name; /* "avx512" */

    /* Weights. matmul: F32 and F16 take F32; BF16 takes F32, or BF16X2 where the
     * processor multiplies bfloat16 (see .act); quantised types take Q8. F64 and the
     * integers have no matmul (fn NULL). */
    jt_matmul matmul[JT_DTYPE_COUNT];
    void (*thin[JT_DTYPE_COUNT])(const jt_thin *p); /* F32, F16, BF16, Q8_0 */
    void (*thin_up[JT_DTYPE_COUNT])(const jt_thin_up *u);
    void (*dequant[JT_DTYPE_COUNT])(float *dst, const void *src, size_t n);
    void (*pack[JT_ACT_COUNT])(void *dst, const float *x, size_t n);

    void (*gemm)(const jt_gemm *g);

    /* Vectors of n floats; y may be x. */
    void (*f32_to_f16)(uint16_t *y, const float *x, size_t n);
    void (*add)(float *y, const float *x, size_t n);            /* y += x */
    void (*axpy)(float *y, float a, const float *x, size_t n);  /* y += a x */
    void (*scale)(float *y, float a, const float *x, size_t n); /* y = a x */
    /* y = x / sqrt(mean(x^2) + eps) * w; w may be NULL (all ones) */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* up NULL: f(gate) */
    void (*glu)(jt_activation f, float *y, const float *gate, const float *up,
                size_t n);
    void (*softcap)(float *y, const float *x, float cap,
                    size_t n); /* cap tanh(x/cap) */
    /* y = exp(x - max) / sum; -inf gives 0, but all -inf gives NaN */
    void (*softmax)(float *y, const float *x, size_t n);
    /* Rotate the first 2 * pairs values of x by the angles of (cos, sin)[pairs]. neox:
     * value i with i + pairs (halves); otherwise 2i with 2i + 1 (interleaved). */
    void (*rope)(float *x, const float *cos, const float *sin, size_t pairs, bool neox);
    void (*attention)(const jt_attn *a);
    float (*dot)(const float *x, const float *y, size_t n); /* sum of x[i] y[i] */
    void (*softplus)(float *y, const float *x, size_t n);   /* y = log(1 + exp(x)) */

    /* One token of a causal depthwise convolution over n channels:
     *     y[c] = bias[c] + sum over j of w[c * width + j] x[j][c]
     * x: the inputs of `width` tokens, this one last. bias may be NULL. */
    void (*conv)(float *y, const float *const *x, const float *w, const float *bias,
                 size_t width, size_t n);
    void (*recur)(const jt_recur *r);

    /* Gradients: d<name> is that of the loss by <name>, dy by what came out.
     * dx +=, dw += dy x / rms; w may be NULL (all ones), dw may be NULL (not wanted) */
    void (*rms_norm_back)(float *dx, float *dw, const float *dy, const float *x,
                          const float *w, size_t n, float eps);
    /* dgate =, dup =; these may be dy, gate or up themselves. up and dup may be NULL */
    void (*glu_back)(jt_activation f, float *dgate, float *dup, const float *dy,
                     const float *gate, const float *up, size_t n);
    /* dx += y (dy - dy . y), y being what softmax gave */
    void (*softmax_back)(float *dx, const float *dy, const float *y, size_t n);
    void (*attention_back)(const jt_attn_back *b);
    void (*recur_back)(const jt_recur_back *b);

    /* Multiply in registers for some steps, of a few cycles each; the operations that
     * this was (a multiply-add is two). The roof of all products: divide by the time.
     */
    double (*spin[JT_SPIN_COUNT])(long steps);
} jt_kernels;

/* The tables. A level that the build or this processor lacks is NULL. */
typedef enum jt_cpu_level {
    JT_CPU_SCALAR,
    JT_CPU_AVX2,
    JT_CPU_AVX512,
    JT_CPU_NEON,
    JT_CPU_DOTPROD, /* NEON with dot products of bytes */
    JT_CPU_COUNT
} jt_cpu_level;
const jt_kernels *jt_kernels_level(jt_cpu_level level);

/* The table for `name` ("scalar", "avx2", "avx512", "neon", "dotprod"), or for NULL the
 * best one here, or the one that the environment variable JUNTO_CPU names. JT_E_ARG:
 * unknown name; JT_E_UNSUPPORTED: this processor cannot run it. */
jt_status jt_kernels_choose(const jt_kernels **out, const char *name, jt_err *err);

/* Filled in by the level files; each gets the table of the level below to override. */
void jt_kernels_init_scalar(jt_kernels *table);
bool jt_kernels_init_avx2(jt_kernels *table); /* false: not in this build or CPU */
bool jt_kernels_init_avx512(jt_kernels *table);
bool jt_kernels_init_neon(jt_kernels *table);
bool jt_kernels_init_dotprod(jt_kernels *table);

#endif
