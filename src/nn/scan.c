#include "nn/scan.h"

#include <math.h>
#include <string.h>

#include "nn/scan_pass.h"
#include "tensor/tape.h"

size_t jt_scan_key(const jt_scan *s, size_t head)
{
    return s->tiled ? head % s->k_heads : head / (s->heads / s->k_heads);
}

jt_scan_item jt_scan_item_of(const jt_scan_pass *p, size_t i)
{
    size_t head = i / p->runs, first = i % p->runs * JT_SCAN_RUN;
    size_t rest = p->s.rows - first;
    return (jt_scan_item){.head = head,
                          .k_head = jt_scan_key(&p->s, head),
                          .row = head * p->s.rows + first,
                          .rows = rest < JT_SCAN_RUN ? rest : JT_SCAN_RUN};
}

jt_recur jt_scan_call(const jt_scan_pass *p, const jt_scan_item *item,
                      const jt_scan_piece *piece, float *h)
{
    const jt_scan *s = &p->s;
    size_t t = piece->first;
    jt_recur r = {
        .h = h,
        .y = jt_row(&p->y, t) + item->row,
        .k = jt_columns_row(&s->k, t) + item->k_head * s->n,
        .q = jt_columns_row(&s->q, t) + item->k_head * s->n,
        .v = jt_columns_row(&s->v, t) + item->row,
        .y_stride = jt_cols(&p->y),
        .k_stride = jt_cols(&s->k.of),
        .q_stride = jt_cols(&s->q.of),
        .v_stride = jt_cols(&s->v.of),
        .gate_stride = s->heads,
        .step_stride = jt_cols(&s->step),
        .rows = item->rows,
        .n = s->n,
        .tokens = piece->count,
    };
    if (s->by_value) {
        r.rate = (const float *)s->rate.data + item->row * s->n;
        r.step = jt_row(&s->step, t) + item->row;
        return r;
    }
    if (s->by_key) {
        r.fade = p->decay + (t * s->heads + item->head) * s->n;
        r.fade_stride = s->heads * s->n;
    } else {
        r.decay = p->decay + t * s->heads + item->head;
    }
    if (jt_has(&s->beta))
        r.beta = jt_row(&s->beta, t) + item->head;
    else if (jt_has(&s->step))
        r.step = jt_row(&s->step, t) + item->head;
    return r;
}

static void scan_item(void *arg, size_t i)
{
    const jt_scan_pass *p = arg;
    jt_scan_item item = jt_scan_item_of(p, i);
    size_t at = item.row * p->s.n, bytes = item.rows * p->s.n * sizeof(float);
    for (size_t j = 0; j < p->n_pieces; j++) {
        const jt_scan_piece *piece = &p->piece[j];
        if (piece->fresh)
            memset(p->state + at, 0, bytes);
        if (piece->state)
            memcpy(piece->state + at, p->state + at, bytes);
        jt_recur call = jt_scan_call(p, &item, piece, p->state + at);
        p->kernels->recur(&call);
    }
}

static void decay_token(void *arg, size_t t)
{
    const jt_scan_pass *p = arg;
    const float *step = jt_has(&p->s.step) ? jt_row(&p->s.step, t) : NULL;
    const float *rate = p->s.rate.data;
    size_t each = p->s.by_key ? p->s.n : 1, count = p->s.heads * each;
    for (size_t i = 0; i < count; i++)
        p->decay[t * count + i] = expf((step ? step[i] : 1) * rate[i / each]);
}

/* Pieces end with their documents; those that will run again are short, too. */
static size_t piece_end(const jt_scan_pass *p, const jt_places *places, size_t first,
                        size_t longest)
{
    size_t t = first + 1;
    while (t < p->tokens && t < first + longest && !jt_places_fresh(places, t))
        t++;
    return t;
}

static void cut(jt_context *ctx, jt_scan_pass *p, const jt_places *places)
{
    bool again = jt_tape_keeps(ctx);
    size_t longest = again ? JT_SCAN_PIECE : p->tokens, count = 0;
    size_t values = p->s.heads * p->s.rows * p->s.n;
    for (size_t t = 0; t < p->tokens; t = piece_end(p, places, t, longest))
        count++;
    p->piece = jt_scratch(ctx, count, sizeof *p->piece);
    for (size_t t = 0, end; t < p->tokens && !jt_failed(ctx); t = end) {
        jt_scan_piece *piece = &p->piece[p->n_pieces++];
        end = piece_end(p, places, t, longest);
        *piece = (jt_scan_piece){t, end - t, jt_places_fresh(places, t), NULL};
        if (again && !piece->fresh)
            piece->state = jt_scratch(ctx, values, sizeof(float));
    }
}

jt_tensor jt_scan_forward(jt_context *ctx, const jt_scan *scan, const jt_places *places,
                          float *state)
{
    size_t tokens = jt_rows(&scan->v.of), values = scan->heads * scan->rows;
    jt_scan_pass p = {.kernels = ctx->kernels,
                      .s = *scan,
                      .state = state,
                      .y = jt_new(ctx, tokens, values),
                      .tokens = tokens,
                      .runs = (scan->rows + JT_SCAN_RUN - 1) / JT_SCAN_RUN};
    jt_places_check(ctx, places, 1);
    cut(ctx, &p, places);
    size_t decays = tokens * scan->heads * (scan->by_key ? scan->n : 1);
    if (!scan->by_value)
        p.decay = jt_scratch(ctx, decays, sizeof *p.decay);
    if (jt_failed(ctx))
        return p.y;
    if (p.decay)
        jt_for_rows(ctx, tokens, 8 * decays, decay_token, &p);
    jt_for_rows(ctx, scan->heads * p.runs, tokens * values * scan->n, scan_item, &p);
    jt_scan_record(ctx, &p);
    return p.y;
}

/* ---- y += d v: dv += d dy, dd += dy v ---- */

typedef struct skip_pass {
    jt_tensor y, d;
    jt_columns v;
    size_t rows; /* of a head */
} skip_pass;

static void skip_token(void *arg, size_t t)
{
    const skip_pass *p = arg;
    const float *d = p->d.data, *v = jt_columns_row(&p->v, t);
    float *y = jt_row(&p->y, t);
    for (size_t head = 0; head * p->rows < p->v.n; head++)
        for (size_t i = head * p->rows; i < (head + 1) * p->rows; i++)
            y[i] += d[head] * v[i];
}

/* Some heads, in the order of the tokens. */
static void skip_back_run(void *arg, size_t run)
{
    const skip_pass *p = arg;
    const float *d = p->d.data;
    size_t heads = p->v.n / p->rows, end = (run + 1) * JT_SCAN_RUN;
    for (size_t t = 0; t < jt_rows(&p->y); t++) {
        const float *v = jt_columns_row(&p->v, t), *dy = jt_grad_row(&p->y, t);
        float *dv = jt_columns_grad_row(&p->v, t);
        for (size_t head = run * JT_SCAN_RUN; head < end && head < heads; head++)
            for (size_t i = head * p->rows; i < (head + 1) * p->rows; i++) {
                dv[i] += d[head] * dy[i];
                if (p->d.grad)
                    p->d.grad[head] += dy[i] * v[i];
            }
    }
}

static void skip_backward(jt_context *ctx, void *saved)
{
    const skip_pass *p = saved;
    size_t heads = p->v.n / p->rows;
    jt_for_rows(ctx, (heads + JT_SCAN_RUN - 1) / JT_SCAN_RUN,
                4 * jt_rows(&p->y) * p->v.n, skip_back_run, saved);
}

void jt_scan_skip(jt_context *ctx, jt_tensor *y, const jt_tensor *d,
                  const jt_columns *v)
{
    skip_pass p = {*y, *d, *v, v->n / (jt_rows(d) * jt_cols(d))};
    if (jt_failed(ctx))
        return;
    jt_for_rows(ctx, jt_rows(y), jt_rows(y) * v->n, skip_token, &p);
    jt_tape_push(ctx, skip_backward, &p, sizeof p);
}
