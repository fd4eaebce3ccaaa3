/* Gradients of a scan, piece by piece from the last to the first. In a piece all items
 * run at once, each with sums of its own for what several of them add to (keys, queries
 * and the gates of heads); these are then added in the order of the items. */
#include <string.h>

#include "nn/scan_pass.h"
#include "tensor/tape.h"

/* What an item sums up for the tokens of a piece. */
typedef struct sums {
    float *dk, *dq;       /* [PIECE, n] */
    float *dlog;          /* [PIECE], by key [PIECE, n] */
    float *dbeta, *dstep; /* [PIECE] */
} sums;

typedef struct back {
    const jt_scan_pass *p;
    const jt_scan_piece *piece;
    bool last;     /* no token comes after the piece in its document */
    float *h, *dh; /* [heads, rows, n]: where a piece begins; gradient of the state */
    float *drate;  /* [heads, rows, n] by value; of a rate that is not trained, room */
    float *sums;   /* [items, sums_size] */
    char *scratch; /* of the kernel, scratch_bytes for each thread */
    size_t scratch_bytes;
} back;

/* Decays of a head and token. */
static size_t decays(const jt_scan *s)
{
    return s->by_key ? s->n : 1;
}

static size_t sums_size(const jt_scan *s)
{
    return (size_t)JT_SCAN_PIECE * (2 * s->n + decays(s) + 2);
}

static sums sums_of(const back *b, size_t item)
{
    size_t values = (size_t)JT_SCAN_PIECE * b->p->s.n;
    float *x = b->sums + item * sums_size(&b->p->s);
    float *dlog = x + 2 * values;
    float *gates = dlog + JT_SCAN_PIECE * decays(&b->p->s);
    return (sums){x, x + values, dlog, gates, gates + JT_SCAN_PIECE};
}

static void back_item(void *arg, size_t i)
{
    const back *b = arg;
    const jt_scan_pass *p = b->p;
    const jt_scan *s = &p->s;
    jt_scan_item item = jt_scan_item_of(p, i);
    size_t at = item.row * s->n, bytes = item.rows * s->n * sizeof(float);
    size_t t = b->piece->first;
    sums own = sums_of(b, i);
    memset(own.dk, 0, sums_size(s) * sizeof(float));
    if (b->last)
        memset(b->dh + at, 0, bytes);
    if (b->piece->fresh)
        memset(b->h + at, 0, bytes);
    else
        memcpy(b->h + at, b->piece->state + at, bytes);
    jt_recur_back call = {
        .fwd = jt_scan_call(p, &item, b->piece, b->h + at),
        .dy = jt_grad_row(&p->y, t) + item.row,
        .dh = b->dh + at,
        .dk = own.dk,
        .dq = own.dq,
        .dv = jt_columns_grad_row(&s->v, t) + item.row,
        .dlog = own.dlog,
        .dbeta = own.dbeta,
        .dstep = s->by_value ? jt_grad_row(&s->step, t) + item.row : own.dstep,
        .drate = s->by_value ? b->drate + at : NULL,
        .scratch = (float *)(b->scratch + (size_t)jt_pool_self() * b->scratch_bytes),
    };
    p->kernels->recur_back(&call);
}

/* What the items say of token `i` of the piece. decay = exp(step rate). */
static void sum_token(void *arg, size_t i)
{
    const back *b = arg;
    const jt_scan *s = &b->p->s;
    const float *rate = s->rate.data;
    size_t t = b->piece->first + i, n = s->n, runs = b->p->runs, each = decays(s);
    for (size_t item = 0; item < s->heads * runs; item++) {
        size_t head = item / runs, key = jt_scan_key(s, head) * n;
        sums own = sums_of(b, item);
        b->p->kernels->add(jt_columns_grad_row(&s->k, t) + key, own.dk + i * n, n);
        b->p->kernels->add(jt_columns_grad_row(&s->q, t) + key, own.dq + i * n, n);
        if (s->by_value || !jt_has(&s->step))
            continue;
        float *dstep = jt_grad_row(&s->step, t) + head * each;
        for (size_t j = 0; j < each; j++)
            dstep[j] += own.dlog[i * each + j] * rate[head];
        if (!jt_has(&s->beta))
            dstep[0] += own.dstep[i];
        else
            jt_grad_row(&s->beta, t)[head] += own.dbeta[i];
    }
}

/* The rate of a head, in the order of items and tokens. */
static void sum_rates(const back *b)
{
    const jt_scan *s = &b->p->s;
    size_t runs = b->p->runs, each = decays(s);
    for (size_t item = 0; item < s->heads * runs; item++) {
        size_t head = item / runs;
        sums own = sums_of(b, item);
        for (size_t i = 0; i < b->piece->count; i++) {
            const float *step = jt_row(&s->step, b->piece->first + i) + head * each;
            for (size_t j = 0; j < each; j++)
                s->rate.grad[head] += own.dlog[i * each + j] * step[j];
        }
    }
}

static void back_piece(jt_context *ctx, back *b)
{
    const jt_scan_pass *p = b->p;
    size_t items = p->s.heads * p->runs, tokens = b->piece->count;
    size_t work = 4 * tokens * p->s.heads * p->s.rows * p->s.n;
    jt_for_rows(ctx, items, work, back_item, b);
    jt_for_rows(ctx, tokens, 2 * tokens * items * p->s.n, sum_token, b);
    if (!p->s.by_value && jt_has(&p->s.step) && p->s.rate.grad)
        sum_rates(b);
}

static void scan_backward(jt_context *ctx, void *saved)
{
    const jt_scan_pass *p = saved;
    size_t values = p->s.heads * p->s.rows * p->s.n, items = p->s.heads * p->runs;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    back b = {.p = p,
              .h = jt_scratch(ctx, values, sizeof(float)),
              .dh = jt_scratch(ctx, values, sizeof(float)),
              .drate = p->s.rate.grad,
              .sums = jt_scratch(ctx, items, sums_size(&p->s) * sizeof(float)),
              .scratch_bytes = jt_pad64(jt_recur_back_scratch(p->s.n, JT_SCAN_PIECE))};
    b.scratch = jt_scratch(ctx, (size_t)jt_pool_threads(ctx->pool), b.scratch_bytes);
    if (p->s.by_value && !b.drate) {
        b.drate = jt_scratch(ctx, values, sizeof(float));
        jt_zero(ctx, b.drate, values);
    }
    for (size_t i = p->n_pieces; i-- > 0 && !jt_failed(ctx);) {
        b.piece = &p->piece[i];
        b.last = i + 1 == p->n_pieces || p->piece[i + 1].fresh;
        back_piece(ctx, &b);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}

void jt_scan_record(jt_context *ctx, const jt_scan_pass *pass)
{
    jt_tape_push(ctx, scan_backward, pass, sizeof *pass);
}
