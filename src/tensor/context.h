/* The context of a computation: kernels, threads, scratch memory, and its error.
 *
 * Operations take a context first and return tensors. The error is sticky: after the
 * first failure (out of memory, a lease refused) further operations return empty
 * tensors and do nothing, so that model code reads like the formula and is checked
 * once, at the end of a pass. */
#ifndef JT_CONTEXT_H
#define JT_CONTEXT_H

#include "base/memory.h"
#include "base/pool.h"
#include "junto/moe.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

typedef struct jt_tape jt_tape;
typedef struct jt_tiles jt_tiles; /* tensor/tiles.h */
typedef struct jt_context jt_context;
struct jt_product;

/* Sees the lists of matrix products, weights and inputs, before they run; not with a
 * tape. How calibration learns what reaches each matrix. It may change an input of
 * which it knows that nothing else reads it: how an audit silences neurons. */
typedef struct jt_product_watch {
    void *self;
    void (*on_products)(void *self, jt_context *ctx, const struct jt_product *products,
                        size_t count); /* NULL: nobody watches */
} jt_product_watch;

/* Changes what weights give: how adapters work (src/adapt). Functions may be NULL. */
typedef struct jt_product_change {
    void *self;
    /* Before a list of products runs: may put a longer one, in scratch, in its place,
     * which begins with those that it got. Gives what `after` will need; NULL: nothing
     * to do. With a tape, what it records is undone after the products are. */
    void *(*before)(void *self, jt_context *ctx, struct jt_product **products,
                    size_t *count);
    /* After they ran. With a tape, what it records is undone before they are. */
    void (*after)(void *self, jt_context *ctx, void *begun);
    /* Rows `ids` [rows of y] of an embedding table were decoded into y. */
    void (*on_embed)(void *self, jt_context *ctx, const jt_tensor *table,
                     const int32_t *ids, jt_tensor *y);
    /* Which token of the pass is the first of the products that come: not 0 while some
     * of the tokens go their own way. */
    size_t first;
} jt_product_change;

/* Has something under way that goes on by itself for a short time only. */
typedef struct jt_tender {
    void *self;
    /* Called often, by the thread whose context it is, also while the others of its
     * pool work; NULL: nobody. */
    void (*tend)(void *self);
} jt_tender;

static inline void jt_tend(const jt_tender *tender)
{
    if (tender->tend)
        tender->tend(tender->self);
}

/* How factors of adapters are kept (src/adapt/factors.h). */
typedef enum jt_factor_rule {
    JT_FACTORS_AUTO,  /* in 8 bits where the weight is quantised */
    JT_FACTORS_EXACT, /* so that they say every value */
    JT_FACTORS_8_BITS
} jt_factor_rule;

struct jt_context {
    const jt_kernels *kernels;
    jt_pool *pool;
    jt_arena scratch;
    jt_tiles *tiles;        /* of the model's weights, or NULL */
    jt_tape *tape;          /* NULL: nothing is kept for gradients */
    jt_precision precision; /* of products with a tape, forward and back */
    jt_err err;             /* code JT_OK while all is well */
    double times[JT_STAGE_COUNT];
    uint64_t
        loads; /* experts that passes have worked with, each once a layer and pass */
    double lap;
    jt_product_watch watch;
    jt_product_change change;
    jt_factor_rule factors; /* of adapters that are attached */
    jt_tender tender;
};

/* `cpu` as in jt_kernels_choose, `threads` as in jt_pool_new. */
jt_status jt_context_init(jt_context *ctx, int threads, const char *cpu, jt_err *err);
void jt_context_free(jt_context *ctx);

static inline bool jt_failed(const jt_context *ctx)
{
    return ctx->err.code != JT_OK;
}

/* What is set for the pass that runs, while an interlude of its pool (base/pool.h) runs
 * others with the same context. */
typedef struct jt_context_aside {
    jt_err err;
    jt_product_change change;
} jt_context_aside;
jt_context_aside jt_context_put_aside(jt_context *ctx);
void jt_context_resume(jt_context *ctx, const jt_context_aside *aside);

/* Scratch memory of count * size bytes; NULL (and the context fails) when there is
 * none.
 */
void *jt_scratch(jt_context *ctx, size_t count, size_t size);

/* A fresh F32 tensor [rows, cols] in scratch, not initialised; with a gradient of zeros
 * when there is a tape that keeps it. */
jt_tensor jt_new(jt_context *ctx, size_t rows, size_t cols);

/* The same with a fresh gradient, for what a single operation will read: the products
 * of one list, jt_glu, jt_add_to, a norm, or the mixture that combines rows. */
jt_tensor jt_new_fresh(jt_context *ctx, size_t rows, size_t cols);

/* Begin a block of operations whose fresh gradients, `values` in all (each tensor
 * rounded up by jt_fresh_values), are set and used up before the tape comes to the
 * block before. So all blocks use the same memory, which stays in the cache. */
void jt_fresh_begin(jt_context *ctx, size_t values);
size_t jt_fresh_values(size_t rows, size_t cols);

/* Before a gradient is added to: one that is fresh begins with zeros. */
void jt_fresh_zero(jt_context *ctx, const jt_tensor *t);

/* Set n values to zero, over the pool when they are many; nothing for NULL. */
void jt_zero(jt_context *ctx, float *x, size_t n);

/* Add the time since the last lap to `stage`; jt_lap_start forgets it. */
void jt_lap_start(jt_context *ctx);
void jt_lap(jt_context *ctx, jt_stage stage);

/* Call fn(arg, i) for i < count: in the caller when the whole job is small (`work`, in
 * values touched), else over the pool in runs of rows. */
void jt_for_rows(jt_context *ctx, size_t count, size_t work, jt_pool_fn *fn, void *arg);

#endif
