#include "learn/output_loss.h"

#include "tensor/loss.h"
#include "tensor/tape.h"

/* ---- how many tokens the model found likeliest ---- */

typedef struct hits {
    const jt_tensor *logits;
    const int32_t *targets;
    uint8_t *hit; /* [rows] */
} hits;

static void hit_row(void *arg, size_t t)
{
    const hits *h = arg;
    const float *row = jt_row(h->logits, t);
    int32_t target = h->targets[t];
    h->hit[t] = target >= 0;
    for (size_t i = 0; i < jt_cols(h->logits) && h->hit[t]; i++)
        h->hit[t] = row[i] <= row[target];
}

static size_t count_hits(jt_context *ctx, const jt_tensor *logits,
                         const int32_t *targets)
{
    size_t rows = jt_rows(logits), count = 0;
    hits h = {logits, targets, jt_scratch(ctx, rows, sizeof *h.hit)};
    if (jt_failed(ctx))
        return 0;
    jt_for_rows(ctx, rows, rows * jt_cols(logits), hit_row, &h);
    for (size_t t = 0; t < rows; t++)
        count += h.hit[t];
    return count;
}

/* ---- some tokens at a time ---- */

/* The tokens that count: where they are, and their targets. */
typedef struct counting {
    int32_t *row, *target;
    size_t count;
} counting;

static counting find(jt_context *ctx, const int32_t *targets, size_t tokens)
{
    counting c = {.row = jt_scratch(ctx, tokens, sizeof *c.row),
                  .target = jt_scratch(ctx, tokens, sizeof *c.target)};
    for (size_t t = 0; t < tokens && !jt_failed(ctx); t++) {
        if (targets[t] < 0)
            continue;
        c.row[c.count] = (int32_t)t;
        c.target[c.count++] = targets[t];
    }
    return c;
}

/* Mean loss of some tokens. With a tape, `scale` times its gradient goes into `hidden`
 * and the head at once. */
static double run_slice(jt_context *ctx, const jt_model *model, const jt_tensor *hidden,
                        const int32_t *row, const int32_t *target, size_t count,
                        float scale, jt_output_seen *seen)
{
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    jt_tape *outer = ctx->tape, inner = {0};
    ctx->tape = outer ? &inner : NULL;
    jt_tensor some = jt_embed(ctx, hidden, row, count);
    jt_tensor logits = jt_transformer_head(ctx, model, &some);
    double loss = jt_cross_entropy(ctx, &logits, target, scale, NULL);
    if (seen)
        seen->hits += count_hits(ctx, &logits, target);
    if (outer && !jt_failed(ctx))
        jt_tape_backward(ctx);
    ctx->tape = outer;
    jt_arena_rewind(&ctx->scratch, mark);
    return loss;
}

double jt_output_loss(jt_context *ctx, const jt_model *model, const jt_tensor *hidden,
                      const int32_t *targets, float scale, size_t most,
                      jt_output_seen *seen)
{
    if (!most) {
        jt_tensor logits = jt_transformer_head(ctx, model, hidden);
        if (seen)
            seen->hits = count_hits(ctx, &logits, targets);
        return jt_cross_entropy(ctx, &logits, targets, scale,
                                seen ? &seen->counted : NULL);
    }
    size_t rows = most / jt_rows(&model->output);
    counting c = find(ctx, targets, jt_failed(ctx) ? 0 : jt_rows(hidden));
    rows = rows ? rows : 1;
    size_t slices = (c.count + rows - 1) / rows;
    size_t per = slices ? (c.count + slices - 1) / slices : 0;
    double sum = 0.0;
    for (size_t at = 0; at < c.count && !jt_failed(ctx); at += per) {
        size_t n = c.count - at < per ? c.count - at : per;
        double share = (double)n / (double)c.count;
        sum += share * run_slice(ctx, model, hidden, c.row + at, c.target + at, n,
                                 (float)(share * scale), seen);
    }
    if (seen)
        seen->counted = c.count;
    return sum;
}
