/* The weights of a model in tiles (kernels/tile.h), each made when a product first
 * needs it: an expert that no token chooses costs neither time nor memory. Products
 * give the same bits with and without. Several contexts may share one set. */
#ifndef JT_TILES_H
#define JT_TILES_H

#include "tensor/ops.h"

typedef struct jt_tiles jt_tiles;

/* Told when a weight is in tiles, so that its bytes need no longer be in memory: they
 * may be looked at again, but will hardly be. NULL: nobody is told. */
typedef struct jt_tiles_owner {
    const void *self;
    void (*made)(const void *self, const void *data, size_t bytes);
} jt_tiles_owner;

jt_status jt_tiles_new(jt_tiles **out, jt_tiles_owner owner, jt_err *err);
void jt_tiles_free(jt_tiles *tiles); /* NULL is fine */
size_t jt_tiles_bytes(jt_tiles *tiles);

/* How a product reads its weight. */
typedef struct jt_reading {
    jt_matmul_fn *fn;
    const char *data;
    size_t row_bytes;
} jt_reading;

/* How each product reads its weight, into out [count]: in tiles, or as it lies where
 * the context has no set or its kernels no use for them, where the weight is not one of
 * a model, and where memory is short. Tiles of floats that bfloat16 says exactly, as
 * routers of published models mostly are, are made of that: half of the bytes. */
void jt_tiles_find(jt_context *ctx, const jt_product *products, size_t count,
                   jt_reading *out);

#endif
