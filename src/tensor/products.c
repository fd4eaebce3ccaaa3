#include "tensor/ops.h"

#include "tensor/back.h"
#include "tensor/deal.h"
#include "tensor/tiles.h"

/* How a list of products is cut into items for the pool.
 *
 * An item is some rows of W times some tokens of one product, or some products that are
 * thin, one after the other. Cost is counted in bytes of weights times tokens, and
 * items are cut to about the same cost, several per thread, so that one large expert
 * among small ones does not leave threads waiting. */
enum {
    ITEMS_PER_THREAD = 8,
    MIN_ROWS = JT_MATMUL_ROWS,
    MAX_TOKENS = 128, /* packed activations of an item stay in the L2 cache */
    THIN_COST = 4     /* of a byte, where nothing is shared */
};

typedef struct work {
    const jt_kernels *kernels;
    const jt_tender *tender;
    const jt_product *products;
    const jt_cut *cuts;
    size_t count;
    jt_deal deal;
} work;

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t product_cost(const jt_product *p)
{
    if (p->thin)
        return p->thin * p->tokens * THIN_COST;
    return jt_rows(&p->w) * jt_dtype_row_bytes(p->w.dtype, jt_cols(&p->w)) * p->tokens;
}

/* Fill in `cuts`; the number of items. */
static size_t cut_products(const jt_product *products, const jt_reading *weights,
                           jt_cut *cuts, size_t count, int threads)
{
    size_t cost = 0, items = 0, open = SIZE_MAX; /* cost of an item that may grow */
    for (size_t i = 0; i < count; i++)
        cost += product_cost(&products[i]);
    size_t share = cost / ((size_t)threads * ITEMS_PER_THREAD) + 1;
    for (size_t i = 0; i < count; i++) {
        const jt_product *p = &products[i];
        size_t rows = jt_rows(&p->w);
        size_t bytes = weights[i].row_bytes;
        size_t tokens = p->tokens < MAX_TOKENS ? p->tokens : MAX_TOKENS;
        size_t tile = tokens && bytes ? share / (bytes * tokens) : rows;
        tile = tile < MIN_ROWS ? MIN_ROWS : ceil_div(tile, MIN_ROWS) * MIN_ROWS;
        size_t parts = ceil_div(rows, tile) * ceil_div(p->tokens, MAX_TOKENS);
        bool joins = p->thin && parts == 1 && open <= share;
        cuts[i] = (jt_cut){items, tile, ceil_div(rows, tile), weights[i], joins};
        items += joins ? 0 : parts;
        open = !p->thin || parts != 1 ? SIZE_MAX : product_cost(p) + (joins ? open : 0);
    }
    return items;
}

/* The product that item `item` belongs to: the last that starts at or before it and is
 * not empty. */
static size_t find_product(const work *w, size_t item)
{
    size_t low = 0, high = w->count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (w->cuts[middle].first_item <= item)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static void scale_tile(float *y, size_t ldy, size_t rows, size_t tokens, float factor)
{
    for (size_t t = 0; t < tokens; t++) {
        for (size_t r = 0; r < rows; r++)
            y[t * ldy + r] *= factor;
    }
}

/* The form in which it takes its input. */
static jt_act act_of(const jt_kernels *kernels, const jt_product *p)
{
    return p->thin ? JT_ACT_F32 : kernels->matmul[p->w.dtype].act;
}

static const char *input_rows(const jt_product *p, jt_act act, size_t token)
{
    size_t row = p->via ? 0 : p->first + token;
    return (const char *)p->x->packed[act].data + row * p->x->packed[act].row_bytes;
}

/* Rows row .. row + rows of a product that is thin, and where this thread goes on. */
static void run_thin(const jt_kernels *kernels, const jt_product *p, size_t row,
                     size_t rows, size_t token, size_t tokens, const void *next)
{
    kernels->thin[p->w.dtype](
        &(jt_thin){.y = p->y + token * p->ldy + row,
                   .y_stride = p->ldy,
                   .w = p->w.data,
                   .row = row,
                   .rows = rows,
                   .n = jt_cols(&p->w),
                   .x = input_rows(p, JT_ACT_F32, token),
                   .x_bytes = p->x->packed[JT_ACT_F32].row_bytes,
                   .index = p->via ? p->via->token + p->first + token : NULL,
                   .tokens = tokens,
                   .next = next});
}

/* Part `local` of the parts of product i. */
static void run_part(const work *w, size_t i, size_t local)
{
    const jt_product *p = &w->products[i];
    const jt_cut *c = &w->cuts[i];
    size_t row = local % c->row_tiles * c->tile_rows;
    size_t token = local / c->row_tiles * MAX_TOKENS;
    size_t rows = jt_rows(&p->w) - row, tokens = p->tokens - token;
    if (rows > c->tile_rows)
        rows = c->tile_rows;
    if (tokens > MAX_TOKENS)
        tokens = MAX_TOKENS;
    if (p->thin) {
        bool more = i + 1 < w->count && w->cuts[i + 1].joined;
        run_thin(w->kernels, p, row, rows, token, tokens, more ? p[1].w.data : NULL);
        return;
    }
    jt_act act = w->kernels->matmul[p->w.dtype].act;
    size_t row_bytes = c->weight.row_bytes;
    jt_matmul_args m = {.y = p->y + token * p->ldy + row,
                        .ldy = p->ldy,
                        .w = c->weight.data + row * row_bytes,
                        .row_bytes = row_bytes,
                        .rows = rows,
                        .x = input_rows(p, act, token),
                        .x_bytes = p->x->packed[act].row_bytes,
                        .index = p->via ? p->via->token + p->first + token : NULL,
                        .tokens = tokens,
                        .n = jt_cols(&p->w),
                        .later = jt_deal_later(&w->deal, c->first_item + local)};
    c->weight.fn(&m);
    if (p->w.factor)
        scale_tile(m.y, m.ldy, rows, tokens, *p->w.factor);
}

static void run_item(void *arg, size_t item)
{
    const work *w = arg;
    if (jt_pool_self() == 0) /* a list may take longer than what is under way */
        jt_tend(w->tender);
    item = jt_deal_item(&w->deal, item);
    size_t i = find_product(w, item);
    run_part(w, i, item - w->cuts[i].first_item);
    while (++i < w->count && w->cuts[i].joined)
        run_part(w, i, 0);
}

typedef struct pack_rows {
    const jt_kernels *kernels;
    jt_act act;
    const jt_tensor *x;
    char *data;
    size_t row_bytes;
} pack_rows;

static void pack_row(void *arg, size_t i)
{
    const pack_rows *p = arg;
    p->kernels->pack[p->act](p->data + i * p->row_bytes, jt_row(p->x, i),
                             jt_cols(p->x));
}

/* Make the form `act` of an input, unless it is there. */
static void pack_input(jt_context *ctx, jt_input *in, jt_act act)
{
    if (in->packed[act].data || jt_failed(ctx))
        return;
    size_t n = jt_cols(&in->x), rows = jt_rows(&in->x);
    if (act == JT_ACT_F32) { /* as it lies */
        in->packed[act].data = in->x.data;
        in->packed[act].row_bytes = n * sizeof(float);
        return;
    }
    pack_rows job = {ctx->kernels, act, &in->x, NULL, jt_act_bytes(act, n)};
    job.data = jt_scratch(ctx, rows, job.row_bytes);
    if (!job.data)
        return;
    jt_for_rows(ctx, rows, rows * n, pack_row, &job);
    in->packed[act].data = job.data;
    in->packed[act].row_bytes = job.row_bytes;
}

void jt_input_pack(jt_context *ctx, jt_input *in, jt_dtype w)
{
    pack_input(ctx, in, ctx->kernels->matmul[w].act);
}

jt_product jt_product_rows(const jt_tensor *y, const jt_tensor *w, jt_input *x,
                           size_t first, size_t tokens)
{
    return (jt_product){
        .y = y->data ? jt_row(y, first) : NULL,
        .y_grad = jt_grad_row(y, first),
        .ldy = jt_cols(y),
        .w = *w,
        .x = x,
        .first = first,
        .tokens = tokens,
    };
}

jt_input jt_input_of(jt_tensor x)
{
    return (jt_input){.x = x};
}

void jt_products_run(jt_context *ctx, const jt_product *products, size_t count)
{
    jt_tend(&ctx->tender);
    for (size_t i = 0; i < count; i++)
        pack_input(ctx, products[i].x, act_of(ctx->kernels, &products[i]));
    jt_cut *cuts = jt_scratch(ctx, count, sizeof *cuts);
    jt_reading *weights = jt_scratch(ctx, count, sizeof *weights);
    if (jt_failed(ctx) || count == 0)
        return;
    jt_tiles_find(ctx, products, count, weights);
    size_t items =
        cut_products(products, weights, cuts, count, jt_pool_threads(ctx->pool));
    work w = {.kernels = ctx->kernels,
              .tender = &ctx->tender,
              .products = products,
              .cuts = cuts,
              .count = count,
              .deal = jt_deal_out(ctx, products, cuts, count, items)};
    jt_pool_run(ctx->pool, run_item, &w, items);
}

static void run_products(jt_context *ctx, jt_product *products, size_t count)
{
    if (ctx->tape) {
        jt_products_train(ctx, products, count);
        return;
    }
    if (ctx->watch.on_products && !jt_failed(ctx))
        ctx->watch.on_products(ctx->watch.self, ctx, products, count);
    jt_products_run(ctx, products, count);
}

void jt_products(jt_context *ctx, jt_product *products, size_t count)
{
    const jt_product_change *change = &ctx->change;
    void *begun = NULL;
    if (change->before && !jt_failed(ctx))
        begun = change->before(change->self, ctx, &products, &count);
    run_products(ctx, products, count);
    if (begun && !jt_failed(ctx))
        change->after(change->self, ctx, begun);
}
