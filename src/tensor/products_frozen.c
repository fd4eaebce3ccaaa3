/* Gradients of the inputs through weights that stay as they are, of any type: dx += dy
 * w, w being decoded some rows at a time (Dettmers et al. 2023, "QLoRA", section 3,
 * keep the weights of the model quantised in the same way). */
#include "tensor/back.h"
#include "tensor/gemms.h"

/* Rows of a weight on their way to floats. */
typedef struct piece {
    const jt_tensor *w;
    size_t row, rows;
    float *to;
} piece;

typedef struct batch {
    const jt_kernels *kernels;
    jt_gemm *gemms;
    piece *pieces;
    size_t n_gemms, n_pieces, n_rows;
    float *room;
    size_t used, size;
} batch;

static void decode_row(void *arg, size_t i)
{
    const batch *b = arg;
    const piece *p = b->pieces;
    while (i >= p->rows)
        i -= p++->rows;
    size_t n = jt_cols(p->w);
    float *to = p->to + i * n;
    b->kernels->dequant[p->w->dtype](to, jt_weight_row(p->w, p->row + i), n);
    if (p->w->factor)
        b->kernels->scale(to, *p->w->factor, to, n);
}

static void run(jt_context *ctx, batch *b)
{
    if (b->n_rows)
        jt_for_rows(ctx, b->n_rows, b->used, decode_row, b);
    jt_gemms(ctx, b->gemms, b->n_gemms);
    b->n_gemms = b->n_pieces = b->n_rows = b->used = 0;
}

/* As many rows from `row` on as there is room for; their number. */
static size_t add_rows(batch *b, const jt_gemm *g, const jt_tensor *w, size_t row)
{
    size_t n = jt_cols(w), rows = jt_rows(w) - row, fit = (b->size - b->used) / n;
    rows = rows < fit ? rows : fit;
    if (rows == 0)
        return 0;
    float *to = b->room + b->used;
    jt_gemm *part = &b->gemms[b->n_gemms++];
    *part = *g;
    part->a += row * g->a_col;
    part->b = to;
    part->k = rows;
    part->accumulate = g->accumulate || row > 0;
    b->pieces[b->n_pieces++] = (piece){w, row, rows, to};
    b->n_rows += rows;
    b->used += rows * n;
    return rows;
}

static bool start(jt_context *ctx, batch *b, const jt_product *const *from,
                  size_t count)
{
    *b = (batch){.kernels = ctx->kernels};
    size_t all = 0, widest = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = jt_cols(&from[i]->w);
        all += from[i]->w.dtype == JT_F32 ? 0 : jt_rows(&from[i]->w) * n;
        widest = n > widest ? n : widest;
    }
    b->size = all < JT_DECODED_VALUES ? all : JT_DECODED_VALUES;
    b->size = b->size > widest ? b->size : widest;
    b->room = all ? jt_scratch(ctx, b->size, sizeof *b->room) : NULL;
    b->gemms = jt_scratch(ctx, count, sizeof *b->gemms);
    b->pieces = jt_scratch(ctx, count, sizeof *b->pieces);
    return !jt_failed(ctx);
}

void jt_gemms_decoded(jt_context *ctx, const jt_gemm *list,
                      const jt_product *const *from, size_t count)
{
    batch b;
    jt_arena_mark mark = jt_arena_save(&ctx->scratch);
    if (start(ctx, &b, from, count)) {
        for (size_t i = 0; i < count; i++) {
            const jt_tensor *w = &from[i]->w;
            if (w->dtype == JT_F32) {
                b.gemms[b.n_gemms++] = list[i];
                continue;
            }
            for (size_t row = 0; row < jt_rows(w);) {
                size_t rows = add_rows(&b, &list[i], w, row);
                row += rows;
                if (!rows || row < jt_rows(w))
                    run(ctx, &b);
            }
        }
        run(ctx, &b);
    }
    jt_arena_rewind(&ctx->scratch, mark);
}
