#include "tensor/tiles.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/hash.h"
#include "kernels/tile.h"

/* Memory is taken in large pieces, for large pages. */
enum { PIECE = 64 << 20, FIRST_ENTRIES = 256, TILES_PER_ITEM = 2 };

/* A weight, known by where it lies. */
typedef struct entry {
    const void *data; /* NULL: the place is free */
    size_t bytes;
    char *tiles; /* NULL: there was no memory */
    bool halves; /* of floats: they are bfloat16 */
} entry;

struct jt_tiles {
    jt_tiles_owner owner;
    pthread_mutex_t lock;
    entry *entries; /* [room], a power of two */
    size_t room, used;
    char **pieces;
    size_t n_pieces, pieces_room;
    size_t left; /* bytes of the last piece that are free, at its end */
    size_t last; /* bytes of that piece */
    size_t bytes;
};

jt_status jt_tiles_new(jt_tiles **out, jt_tiles_owner owner, jt_err *err)
{
    jt_tiles *tiles = jt_calloc(1, sizeof *tiles);
    entry *entries = jt_calloc(FIRST_ENTRIES, sizeof *entries);
    if (!tiles || !entries) {
        free(tiles);
        free(entries);
        return jt_fail_memory(err, "preparing the weights");
    }
    *tiles = (jt_tiles){.owner = owner, .entries = entries, .room = FIRST_ENTRIES};
    pthread_mutex_init(&tiles->lock, NULL);
    *out = tiles;
    return JT_OK;
}

void jt_tiles_free(jt_tiles *tiles)
{
    if (!tiles)
        return;
    for (size_t i = 0; i < tiles->n_pieces; i++)
        free(tiles->pieces[i]);
    free(tiles->pieces);
    free(tiles->entries);
    pthread_mutex_destroy(&tiles->lock);
    free(tiles);
}

size_t jt_tiles_bytes(jt_tiles *tiles)
{
    pthread_mutex_lock(&tiles->lock);
    size_t bytes = tiles->bytes;
    pthread_mutex_unlock(&tiles->lock);
    return bytes;
}

/* ---- memory ---- */

static char *take(jt_tiles *tiles, size_t bytes)
{
    bytes = jt_pad64(bytes);
    if (bytes > tiles->left) {
        size_t piece = bytes > PIECE ? bytes : PIECE;
        if (!jt_grow((void **)&tiles->pieces, &tiles->pieces_room, tiles->n_pieces + 1,
                     sizeof *tiles->pieces))
            return NULL;
        char *memory = jt_alloc_large(piece);
        if (!memory)
            return NULL;
        tiles->pieces[tiles->n_pieces++] = memory;
        tiles->left = tiles->last = piece;
    }
    char *at = tiles->pieces[tiles->n_pieces - 1] + tiles->last - tiles->left;
    tiles->left -= bytes;
    tiles->bytes += bytes;
    return at;
}

/* ---- the table ---- */

/* Of the weight, or the free place where it belongs. */
static entry *look_up(entry *entries, size_t room, const void *data)
{
    size_t i = jt_hash(JT_HASH_START, &data, sizeof data) & (room - 1);
    while (entries[i].data && entries[i].data != data)
        i = (i + 1) & (room - 1);
    return &entries[i];
}

/* Keep half of the table free. */
static bool make_room(jt_tiles *tiles)
{
    if (2 * (tiles->used + 1) <= tiles->room)
        return true;
    entry *larger = jt_calloc(2 * tiles->room, sizeof *larger);
    if (!larger)
        return false;
    for (size_t i = 0; i < tiles->room; i++) {
        const entry *e = &tiles->entries[i];
        if (e->data)
            *look_up(larger, 2 * tiles->room, e->data) = *e;
    }
    free(tiles->entries);
    tiles->entries = larger;
    tiles->room *= 2;
    return true;
}

/* ---- making them ---- */

typedef struct fresh {
    const jt_tensor *w;
    char *tiles;
    bool halves;
    size_t row_bytes, items, first_item; /* row_bytes: of the weight */
} fresh;

typedef struct making {
    const fresh *list;
    size_t count;
} making;

static void fill_item(void *arg, size_t item)
{
    const making *m = arg;
    const fresh *f = m->list;
    while (item >= f->first_item + f->items)
        f++;
    size_t rows = jt_rows(f->w);
    size_t row = (item - f->first_item) * TILES_PER_ITEM * JT_TILE_ROWS;
    for (int i = 0; i < TILES_PER_ITEM && row < rows; i++, row += JT_TILE_ROWS) {
        size_t some = rows - row < JT_TILE_ROWS ? rows - row : JT_TILE_ROWS;
        const char *from = (const char *)f->w->data + row * f->row_bytes;
        if (f->halves)
            jt_tile_fill_halves(f->tiles + row * f->row_bytes / 2, (const void *)from,
                                jt_cols(f->w), some);
        else
            jt_tile_fill(f->tiles + row * f->row_bytes, from, f->row_bytes, some,
                         f->w->dtype);
    }
}

static bool wants(const jt_context *ctx, const jt_tensor *w)
{
    return w->weight && w->data && ctx->kernels->matmul[w->dtype].tiled &&
           jt_tile_can(w->dtype, jt_cols(w));
}

/* Can its tiles be of bfloat16? */
static bool in_halves(const jt_context *ctx, const jt_tensor *w)
{
    return ctx->kernels->matmul[w->dtype].halves && jt_tile_can(JT_BF16, jt_cols(w)) &&
           jt_all_bf16(w->data, jt_rows(w) * jt_cols(w));
}

/* Make place for the tiles of a weight that has none; true: they are to be filled. */
static bool add(jt_tiles *tiles, const jt_tensor *w, bool halves, fresh *f)
{
    size_t rows = jt_rows(w), row_bytes = jt_dtype_row_bytes(w->dtype, jt_cols(w));
    size_t items =
        (rows + TILES_PER_ITEM * JT_TILE_ROWS - 1) / (TILES_PER_ITEM * JT_TILE_ROWS);
    *f = (fresh){.w = w, .halves = halves, .row_bytes = row_bytes, .items = items};
    if (rows == 0 || !make_room(tiles))
        return false;
    f->tiles = take(tiles, jt_tile_bytes(rows, halves ? row_bytes / 2 : row_bytes));
    *look_up(tiles->entries, tiles->room, w->data) =
        (entry){w->data, rows * row_bytes, f->tiles, halves};
    tiles->used++;
    return f->tiles != NULL;
}

static void fill(jt_context *ctx, fresh *list, size_t count)
{
    size_t items = 0;
    for (size_t i = 0; i < count; i++) {
        list[i].first_item = items;
        items += list[i].items;
    }
    making m = {list, count};
    const jt_interlude *later =
        jt_pool_interlude(ctx->pool, NULL); /* the lock is ours */
    jt_pool_run(ctx->pool, fill_item, &m, items);
    jt_pool_interlude(ctx->pool, later);
    const jt_tiles_owner *owner = &ctx->tiles->owner;
    for (size_t i = 0; i < count && owner->made; i++)
        owner->made(owner->self, list[i].w->data,
                    jt_rows(list[i].w) * list[i].row_bytes);
}

/* The entry of a weight, made if need be; where it waits to be filled, into `list`. */
static const entry *find(jt_context *ctx, const jt_tensor *w, fresh *list, size_t *n)
{
    jt_tiles *tiles = ctx->tiles;
    const entry *e = look_up(tiles->entries, tiles->room, w->data);
    if (e->data)
        return e;
    *n += add(tiles, w, in_halves(ctx, w), &list[*n]);
    return look_up(tiles->entries, tiles->room, w->data);
}

static jt_reading as_it_lies(const jt_context *ctx, const jt_tensor *w)
{
    return (jt_reading){ctx->kernels->matmul[w->dtype].fn, w->data,
                        jt_dtype_row_bytes(w->dtype, jt_cols(w))};
}

void jt_tiles_find(jt_context *ctx, const jt_product *products, size_t count,
                   jt_reading *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = as_it_lies(ctx, &products[i].w);
    jt_tiles *tiles = ctx->tiles;
    fresh *list = tiles ? jt_scratch(ctx, count, sizeof *list) : NULL;
    if (!list)
        return;
    size_t n = 0;
    pthread_mutex_lock(&tiles->lock);
    for (size_t i = 0; i < count; i++) {
        const jt_tensor *w = &products[i].w;
        if (!wants(ctx, w))
            continue;
        const jt_matmul *kernel = &ctx->kernels->matmul[w->dtype];
        const entry *e = find(ctx, w, list, &n);
        size_t row_bytes = out[i].row_bytes;
        if (!e->tiles || e->bytes != jt_rows(w) * row_bytes)
            continue;
        out[i] = e->halves ? (jt_reading){kernel->halves, e->tiles, row_bytes / 2}
                           : (jt_reading){kernel->tiled, e->tiles, row_bytes};
    }
    if (n)
        fill(ctx, list, n);
    pthread_mutex_unlock(&tiles->lock);
}
