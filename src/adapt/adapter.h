/* The inside of an adapter: what it adds to which weights of a model.
 *
 * A kind is a row in the table of adapter.c: names of its parts, how its scale follows
 * from alpha and rank, and functions that work on one slot or on the products that a
 * slot changes. Everything else (files, attaching, merging, tuning) goes by the table.
 * A kind that changes what a weight gives needs a row and a file of its own; one that
 * works elsewhere (between layers, on the embeddings of a prompt) also a place to be
 * called from. */
#ifndef JT_ADAPT_ADAPTER_H
#define JT_ADAPT_ADAPTER_H

#include "adapt/factors.h"
#include "junto/adapter.h"
#include "model/transformer.h"
#include "nn/lstm.h"

enum {
    JT_ADAPTER_PARTS = 12,
    JT_ADAPTER_SOURCES = 15,
    JT_ADAPTER_SETTINGS = 3,
    JT_ADAPTER_MOST_RANK = 65536
};

/* Parts of the low-rank kinds, of a weight [count, rows, cols]. */
enum {
    JT_LOW_A, /* [count, rank, cols] */
    JT_LOW_B, /* [count, rows, rank] */
    JT_LOW_M  /* [count, rows], of DoRA */
};

/* What an adapter does to one weight of the model: a matrix [rows, cols] or a stack of
 * `count` of them. The parts are F32 and belong to the slot; their gradients, if any,
 * to whoever trains them. */
typedef struct jt_adapter_slot {
    char *target; /* "blk.3.attn_q.weight" */
    size_t count, rows, cols;
    size_t rank; /* sparse kinds: 0 */
    float alpha;
    float scale; /* what the change is multiplied by, as the kind makes it of both */
    jt_tensor part[JT_ADAPTER_PARTS];
    /* Of sparse kinds: the values of row r of all count * rows are start[r] ..
     * start[r + 1], each in its column. */
    size_t *start;
    uint32_t *column;
    /* Of kinds whose parts are made: of which sources of the adapter. */
    size_t source[JT_ADAPTER_SOURCES];
    const float *setting; /* of the adapter */
    size_t frozen;        /* mora, mixda: the first ranks, which are not trained */
    const struct jt_mixda_keeping *keeping; /* mixda, while it trains; or NULL */
} jt_adapter_slot;

/* What an adapter does at a place that is no weight: a half of a layer, where "before"
 * changes what it reads, "beside" adds to what it gave something made of what it read,
 * and "after" something made of what it gave. */
typedef enum jt_where { JT_BEFORE, JT_BESIDE, JT_AFTER } jt_where;

typedef struct jt_adapter_place {
    char *name; /* "blk.3.ffn.after", or "embedding" */
    int layer;  /* -1: before the first one, where halves have no meaning */
    jt_half half;
    jt_where where;
    size_t cols; /* of the model's hidden states; 0: any */
    size_t rank;
    float alpha, scale;
    size_t source[JT_ADAPTER_SOURCES]; /* its tensors */
} jt_adapter_place;

/* One product whose result a slot changes. */
typedef struct jt_use {
    const jt_adapter_slot *slot;
    jt_product p;        /* y and its rows; w is the model's */
    jt_tensor x;         /* the input, as it was */
    size_t matrix, row;  /* of the slot's stack, and the first row of that matrix */
    float scale;         /* of the slot times that of the whole adapter */
    const float *weight; /* [tokens] what the scale is multiplied by; NULL: 1 */
    const jt_factors
        *factors;      /* of the slot; NULL: it is trained, or of another kind */
    const float *norm; /* DoRA: [rows of w] norms of the changed rows */
    jt_input low;      /* low rank: [tokens, rank], A x */
    jt_tensor own;     /* mixda: what its gate reads of x */
    float *before;     /* DoRA with a tape: [tokens, rows of w] before the magnitude */
} jt_use;

struct jt_adapter_making; /* adapt/made.h */

typedef struct jt_adapter_kind {
    const char *name, *what;
    const char *part[JT_ADAPTER_PARTS]; /* names in files; NULL after the last */
    /* Numbers of the whole adapter, in the metadata of files; NULL after the last. */
    const char *setting[JT_ADAPTER_SETTINGS];
    bool low_rank, sparse, magnitude;
    bool by_token; /* what it does to a weight depends on the token: no merging */
    const struct jt_adapter_making *making; /* of parts that are made of others */
    float (*scale)(float alpha, size_t rank);
    /* Room for parts beside A and B, and their first values; or NULL. */
    jt_status (*make_more)(jt_adapter_slot *slot, jt_err *err);
    void (*start_more)(jt_adapter_slot *slot, uint64_t seed, uint64_t stream);
    /* Set to 0 the gradients of what is not trained; or NULL. */
    void (*freeze)(const jt_adapter *a);
    /* NULL, or: are the settings of a file in range? JT_E_FORMAT. */
    jt_status (*check)(const jt_adapter *a, jt_err *err);
    /* Are all values such that nothing changes? `norm` as in jt_use, of all rows. */
    bool (*is_fresh)(const jt_adapter_slot *slot, const float *norm);
    /* Row `row` (of all count * rows) of the weight, decoded in w, becomes that of the
     * weight with the adapter in it. */
    void (*merge_row)(const jt_adapter_slot *slot, float scale, size_t row, float *w);
    /* After the products of these uses: change y. No two of them are of the same y,
     * but where this is jt_low_rank_change and nothing has magnitudes: these follow
     * each other, and are worked on in that order. With a tape it records itself. */
    void (*change)(jt_context *ctx, jt_use *uses, size_t count);
    /* Gradients of the inputs and what else can wait until those of the products are
     * there; NULL: `change` recorded all. */
    void (*back_late)(jt_context *ctx, const jt_use *uses, size_t count);
    /* Kinds that stand at places: y += scale * (what it makes of x), each token by
     * itself; y may be x. And is that nothing? */
    void (*at_place)(const jt_adapter *a, const jt_adapter_place *p, jt_context *ctx,
                     const jt_tensor *x, float scale, const float *weight,
                     jt_tensor *y);
    /* Kinds that rewrite prompts: how many of these tokens are one, 0 for none; and
     * what is added to its embeddings e [rows, d], of some prompts one after the other.
     */
    size_t (*prompt_of)(const jt_adapter *a, const int32_t *ids, size_t count);
    jt_tensor (*rewrite)(const jt_adapter *a, jt_context *ctx, const jt_tensor *e,
                         const jt_sequence *prompts, size_t count);
    /* Kinds that put virtual tokens before a text: how many; and their embeddings
     * [tokens, d], in the space of the first layer, or (NULL) their keys and values of
     * a layer [tokens, heads * dim]. */
    size_t (*front)(const jt_adapter *a);
    const jt_tensor *(*embeddings)(const jt_adapter *a);
    jt_given (*give)(const jt_adapter *a, int layer);
    bool (*is_fresh_place)(const jt_adapter *a, const jt_adapter_place *p);
    /* NULL, or: what a model must have beside the slots and places. */
    jt_status (*fits)(const jt_adapter *a, const jt_model *model, jt_err *err);
} jt_adapter_kind;

extern const jt_adapter_kind jt_adapter_lora, jt_adapter_rslora, jt_adapter_dora,
    jt_adapter_shira, jt_adapter_mos, jt_adapter_poly, jt_adapter_bits, jt_adapter_mora,
    jt_adapter_bottleneck, jt_adapter_mixda, jt_adapter_p_adapter,
    jt_adapter_soft_prompt, jt_adapter_prefix;
const jt_adapter_kind *jt_adapter_kind_find(const char *name, size_t len);

typedef struct jt_blend jt_blend; /* adapt/blend.h */

struct jt_adapter {
    const jt_adapter_kind *kind; /* of the slots */
    char *path, *family;  /* family of the model; "" where the file does not say */
    uint64_t fingerprint; /* of the model; 0 where the file does not say */
    jt_adapter_slot *slot;
    size_t count, room;
    jt_adapter_place *place;
    size_t n_places, place_room;
    jt_blend *blend; /* adapters that are mixed token by token; or NULL */
    float setting[JT_ADAPTER_SETTINGS];
    struct jt_adapter_source *source; /* adapt/made.h */
    size_t n_sources, source_room;
    size_t task;   /* that the parts are made for, of kinds that know tasks */
    uint64_t draw; /* of the noise with which they are made in training; 0: none */
};

/* Slots point to the adapter's settings, so adapters never move. */
jt_status jt_adapter_new(jt_adapter **out, const jt_adapter_kind *kind,
                         const char *path, jt_err *err);

/* Add a slot for weights of this shape, with room for its parts, not initialised; of
 * sparse kinds for `rank` values (and then their places). *slot is valid until the next
 * is added. Errors: JT_E_FORMAT (sizes or rank out of range, a second slot for the
 * target), JT_E_MEMORY. */
jt_status jt_adapter_add(jt_adapter *adapter, jt_adapter_slot **slot, jt_str target,
                         const size_t shape[3], size_t rank, float alpha, jt_err *err);
jt_adapter_slot *jt_adapter_find(const jt_adapter *adapter, jt_str target);

enum { JT_PLACE_NAME = 64 };
void jt_place_name(char name[JT_PLACE_NAME], int layer, jt_half half, jt_where where);
bool jt_model_has_place(const jt_model *model, int layer, jt_half half);

/* Add a place, by its name; *place is valid until the next is added. JT_E_FORMAT (no
 * name of a place, one that is there, sizes out of range), JT_E_MEMORY. */
jt_status jt_adapter_add_place(jt_adapter *adapter, jt_adapter_place **place,
                               jt_str name, size_t cols, size_t rank, float alpha,
                               jt_err *err);
/* Does a model have the place? JT_E_UNSUPPORTED, JT_E_FORMAT (another width). */
jt_status jt_adapter_place_fits(const jt_adapter_place *place, const jt_model *model,
                                jt_err *err);

/* Room for an F32 tensor, not initialised; false without memory. */
bool jt_adapter_make_part(jt_tensor *t, int n_dims, const size_t *shape);

/* What the low-rank kinds do to the products of `uses`, whose `low` is as it shall be
 * multiplied with B. */
void jt_low_rank_change(jt_context *ctx, jt_use *uses, size_t count);
void jt_low_rank_merge_row(const jt_adapter_slot *slot, float scale, size_t row,
                           float *w);
bool jt_low_rank_is_fresh(const jt_adapter_slot *slot, const float *norm);
float jt_low_rank_by_rank(float alpha, size_t rank); /* alpha / rank */
/* A uniform in +-1 / sqrt(columns), as PEFT and PyTorch's linear layers begin. */
void jt_low_rank_start_a(float *a, size_t n, size_t cols, uint64_t seed,
                         uint64_t stream);

/* Gradients of the frozen ranks of all slots become 0. */
void jt_ranks_freeze(const jt_adapter *adapter);

/* Sort the values of a sparse slot into place: value[i] stands at row[i] (of all count
 * * rows), column[i]. JT_E_FORMAT for places outside the weight or given twice. */
jt_status jt_sparse_place(jt_adapter_slot *slot, const float *value, const int32_t *row,
                          const int32_t *column, jt_err *err);

/* Memory of its values. */
uint64_t jt_adapter_bytes(const jt_adapter *adapter);

/* JT_E_FORMAT naming the part that has a value that is not finite. */
jt_status jt_adapter_check(const jt_adapter *adapter, const jt_adapter_slot *slot,
                           jt_err *err);

/* What tells models apart for adapters: family, names and shapes of the weights, in any
 * order and of any type. */
uint64_t jt_adapter_fingerprint(const jt_gguf *file);

/* Name, path and fingerprint of the model that the adapter is for. */
jt_status jt_adapter_set_model(jt_adapter *adapter, const jt_model *model, jt_err *err);

/* Has the weight a factor beside its values ("NAME.scale", as NVFP4 files have it)?
 * What needs whole values (norms, merging, extracting) does not know of it. */
bool jt_adapter_has_factor(const jt_gguf *file, const char *target);

/* The shape [count, rows, cols] of a weight that adapters can change; JT_E_UNSUPPORTED
 * or JT_E_FORMAT (not there: another model?) otherwise. `output` may stand for the
 * embedding. */
jt_status jt_adapter_target(const jt_gguf *file, jt_str name, size_t shape[3],
                            jt_err *err);

/* Is the adapter for this model? Errors as jt_session_add_adapter. */
jt_status jt_adapter_fits(const jt_adapter *adapter, const jt_model *model,
                          jt_err *err);

#endif
