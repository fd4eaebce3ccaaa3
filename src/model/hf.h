/* Hugging Face folders (config.json, safetensors, tokenizer.json) as GGUF, and back.
 *
 * A folder is presented as a GGUF file in memory: its keys and tensor names are those
 * that llama.cpp's convert_hf_to_gguf.py would write, its tensors point into the mapped
 * safetensors files wherever the bytes are the same, and everything above (parameters,
 * weights, tokenizer, commands) knows only that file. Conversion writes it down, or
 * goes through the same tables the other way.
 *
 * HOW TO ADD A FAMILY
 *
 * 1. Choose or start a file hf_rows_*.c (one per group of relatives) and write a
 *    jt_hf_family: model_type and architecture as in config.json, the GGUF
 * architecture, and lists of rows. Lists are shared: most families are some lists of
 *    hf_rows_common.c (jt_hf_keys_*, jt_hf_tensors_*) and one short list of their own.
 *    Later lists win where two write the same key.
 * 2. Key rows (jt_hf_key): config key <-> GGUF key, with a default. See the struct.
 * 3. Tensor rows (jt_hf_row): name in safetensors <-> name in GGUF. '%' is the layer,
 * '#' the expert: one matrix per expert becomes one stacked tensor [experts, ...] in
 *    pieces, not copied. A row whose tensor is not there is passed over; weights.c
 * knows what a family must have. A tensor that no row takes is an error, unless a
 * substring in `skipped` is in its name, or its layer is at or after block_count (MTP).
 *    What happens by itself: "language_model." in names is dropped; vectors, norms,
 *    routers and what is no ".weight" become F32 (jt_hf_wants_f32); FP8 with scales
 *    becomes BF16, FP4 blocks; text_config is read as if it stood in config.json.
 * 4. Bytes that differ need a transform (jt_hf_transform), a pair of functions: import
 *    changes a tensor as it is in safetensors to what GGUF has, export does the
 * reverse. Those that exist are declared below. One safetensors tensor can feed several
 * GGUF tensors (a fused gate_up): several rows with the same `hf`; each export fills
 * its part. Several that feed one: import fetches the others by jt_hf_source.
 * 5. What rows cannot say (per-layer arrays, values made of several) goes into the
 * hooks `import` and `export` of the family, which use jt_hf_config, jt_hf_set_* and
 *    jt_hf_get_*, jt_hf_put.
 * 6. Add the family to the list in hf_families.c, a tiny folder to
 *    tests/golden/make_hf.py and its name to a tests/golden/hf_*_test.c: that checks
 * logits, equality with the converted file, and the round trip.
 */
#ifndef JT_MODEL_HF_H
#define JT_MODEL_HF_H

#include <jansson.h>
#include <stdbool.h>

#include "base/memory.h"
#include "base/pool.h"
#include "format/names.h"
#include "junto/gguf.h"
#include "junto/safetensors.h"

/* ---- rows --------------------------------------------------------------------------
 */

typedef enum jt_hf_kind {
    JT_HF_INT,   /* 0 .. 2^31 - 1 */
    JT_HF_FLOAT, /* finite */
    JT_HF_BOOL,
    JT_HF_TEXT,
    JT_HF_WORD, /* a text in config.json, a number in GGUF; see `words` */
    JT_HF_HAS   /* only for config.json: is there a GGUF tensor of the name `gguf`? */
} jt_hf_kind;

/* A key. `config` may name several, "a|b": the first that is there is read, the first
 * is written; a dot goes into an object, "rope_parameters.rope_theta".
 *   config and gguf:  the value goes from one to the other;
 *   gguf NULL:        config.json must say `otherwise` or nothing (a form of the family
 *                     that Junto does not have is refused), and is made to say so;
 *   config NULL:      GGUF gets `otherwise`, whatever config.json says. */
typedef struct jt_hf_key {
    const char *config, *gguf; /* gguf: after "<arch>." */
    jt_hf_kind kind;
    const char *otherwise; /* when config.json has no value, as text: "1e-6", "true";
                              NULL: then GGUF has none, either */
    bool required;         /* config.json must have it */
    const char *words;     /* of WORD: "softmax=1|sigmoid=2" */
} jt_hf_key;

typedef struct jt_hf_transform jt_hf_transform;

typedef struct jt_hf_row {
    const char *hf, *gguf;
    const jt_hf_transform *how; /* NULL: the same bytes */
    const char *beside; /* the row is written for layers that have this GGUF tensor,
                           "NAME" of "blk.N.NAME"; NULL: all layers */
} jt_hf_row;

typedef struct jt_hf_job jt_hf_job;

enum { JT_HF_LISTS = 6 };

typedef struct jt_hf_family {
    const char *model_type;   /* of config.json; several: "mistral|ministral" */
    const char *architecture; /* written to "architectures" */
    const char *arch;         /* of GGUF */
    /* Which GGUF files of `arch` become this: all, or only (not) those with experts. */
    enum { JT_HF_ANY, JT_HF_DENSE, JT_HF_MIXTURE } exports;
    bool (*fits)(const jt_hf_job *job); /* what that cannot say, of a file; or NULL */
    /* Which config.json of `model_type`; NULL: all. */
    bool (*reads)(const jt_hf_job *job);
    const jt_hf_key *keys[JT_HF_LISTS];    /* each list ends with {0} */
    const jt_hf_row *tensors[JT_HF_LISTS]; /* the same */
    const char *const *skipped;            /* ends with NULL; may be NULL */
    jt_status (*import)(jt_hf_job *job);   /* after the keys; may be NULL */
    jt_status (*export)(jt_hf_job *job);   /* the same */
} jt_hf_family;

enum { JT_HF_NAME_BYTES = 256 }; /* of tensors */

/* Tensors travel as jt_gguf_tensor: type, shape and where they lie (name and bytes are
 * not used). */
struct jt_hf_transform {
    /* Change *t from what safetensors has to what GGUF has. NULL: such tensors are
     * written and not read; other rows read them. */
    jt_status (*import)(jt_hf_job *job, jt_gguf_tensor *t);
    /* Fill *hf, or this row's part of it, from `t`. The first call for a tensor finds
     * hf->n_dims == 0: it sets type and shape and takes room. NULL: such tensors are
     * read and not written; another row writes them. */
    jt_status (*export)(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *hf);
};

extern const jt_hf_transform jt_hf_rotate_q; /* rows of each head from halves to
                                                neighbours ("llama") */
extern const jt_hf_transform jt_hf_rotate_k;
extern const jt_hf_transform jt_hf_plus_one;         /* norms stored as w - 1 (Gemma) */
extern const jt_hf_transform jt_hf_minus_exp;        /* A_log -> -exp(A_log) (Mamba) */
extern const jt_hf_transform jt_hf_column;           /* [n] -> [n, 1] */
extern const jt_hf_transform jt_hf_minus_exp_column; /* both */
extern const jt_hf_transform jt_hf_groups;           /* [n] -> [ssm.group_count, ..] */
extern const jt_hf_transform jt_hf_squeeze;     /* drops dimensions of 1 in the middle:
                                                   conv1d [d, 1, k] */
extern const jt_hf_transform jt_hf_vector;      /* [1, n] -> [n] */
extern const jt_hf_transform jt_hf_first_half;  /* of the rows: gate of [.., 2 ff, d] */
extern const jt_hf_transform jt_hf_second_half; /* up */
extern const jt_hf_transform jt_hf_transposed;  /* the last two dimensions swapped */
extern const jt_hf_transform jt_hf_first_half_t; /* of [.., d, 2 ff], transposed */
extern const jt_hf_transform jt_hf_second_half_t;
extern const jt_hf_transform jt_hf_even_t; /* columns 0, 2, .. of [.., d, 2 ff],
                                              transposed: gates and ups take turns */
extern const jt_hf_transform jt_hf_odd_t;

/* Does it move whole rows only, so that block formats pass through it? */
bool jt_hf_moves_rows(const jt_hf_transform *how);

/* ---- lists that many families share (hf_rows_common.c) -----------------------------
 */

extern const jt_hf_key jt_hf_keys_common[];  /* sizes, heads, RMS norm, vocabulary */
extern const jt_hf_key jt_hf_keys_silu[];    /* the activation is SiLU */
extern const jt_hf_key jt_hf_keys_sizes[];   /* the same without the norm */
extern const jt_hf_key jt_hf_keys_bias[];    /* attention_bias: q has a bias */
extern const jt_hf_key jt_hf_keys_mixture[]; /* experts used, their width, leading dense
                                                layers, scale, groups, whether weights
                                                are divided by their sum */
extern const jt_hf_key jt_hf_keys_hybrid[];  /* those without heads of keys */
extern const jt_hf_row jt_hf_tensors_ends[]; /* embedding, last norm, output */
extern const jt_hf_row jt_hf_tensors_attention[]; /* input_layernorm, q, k, v, o and
                                                     their biases */
extern const jt_hf_row jt_hf_tensors_qkvo[];      /* the same without the norm */
extern const jt_hf_row jt_hf_tensors_qk_norm[];
extern const jt_hf_row jt_hf_tensors_dense[];   /* norm and mlp.{gate,up,down}_proj */
extern const jt_hf_row jt_hf_tensors_mlp[];     /* the same without the norm */
extern const jt_hf_row jt_hf_tensors_experts[]; /* mlp.gate, mlp.experts.#.* */
extern const jt_hf_row jt_hf_tensors_shexp[];   /* mlp.shared_experts.* */
extern const jt_hf_row jt_hf_tensors_attention_turned[]; /* jt_hf_tensors_attention with
                                                     rows of q and k as neighbours */
extern const jt_hf_key jt_hf_keys_latent[];              /* sizes of latent attention */
extern const jt_hf_row jt_hf_tensors_latent[];  /* its tensors and input_layernorm */
extern const jt_hf_row jt_hf_tensors_mixtral[]; /* block_sparse_moe.gate, .experts.#.w1,
                                                   w3, w2, and the norm */

/* All families, ending with NULL (hf_families.c). */
extern const jt_hf_family *const jt_hf_families[];

/* ---- for hooks and transforms ------------------------------------------------------
 */

/* A conversion under way. Fields that are not for its direction are NULL. */
struct jt_hf_job {
    const jt_hf_family *family;
    json_t *config;  /* read on import, made on export */
    int layer;       /* of the tensor at hand; -1: none */
    bool describing; /* types and shapes only: jt_hf_room gives NULL */
    bool blocks;     /* the tensor at hand may have a block format */
    jt_err *err;
    /* import */
    jt_gguf_writer *writer;
    jt_safetensors *source;
    jt_names names; /* of source, as rows have them */
    bool *used;     /* [tensors of source] */
    jt_arena arena; /* names, lists of pieces */
    jt_pool *pool;  /* NULL: not needed yet */
    /* export */
    const jt_gguf *file;
    /* both */
    void **rooms; /* buffers since the last jt_hf_drop_rooms */
    size_t n_rooms, rooms_room;
};

/* The value at a path of config.json, as in jt_hf_key; NULL where there is none, or
 * null. Borrowed. */
json_t *jt_hf_config(const jt_hf_job *job, const char *path);
/* A whole number there; `otherwise` for none. */
json_int_t jt_hf_whole(const jt_hf_job *job, const char *path, json_int_t otherwise);
/* Put a value there; takes it over, also on failure. NULL is out of memory. */
jt_status jt_hf_put(jt_hf_job *job, const char *path, json_t *value);

/* Set "<arch>.NAME" (import). */
jt_status jt_hf_set_int(jt_hf_job *job, const char *name, int64_t value);
jt_status jt_hf_set_float(jt_hf_job *job, const char *name, double value);
jt_status jt_hf_set_bool(jt_hf_job *job, const char *name, bool value);
/* Read "<arch>.NAME", which was set (import) or is in the file (export); of an array
 * the value of the layer at hand. */
bool jt_hf_get_int(const jt_hf_job *job, const char *name, int64_t *value);
bool jt_hf_get_float(const jt_hf_job *job, const char *name, double *value);

/* Is there a GGUF tensor of this name in any layer (export)? */
bool jt_hf_any_layer(const jt_hf_job *job, const char *name);

/* For hooks: how many dimensions of a head are rotated. `share` where config.json does
 * not say partial_rotary_factor. */
jt_status jt_hf_import_rope_dims(jt_hf_job *job, double share);
jt_status jt_hf_export_rope_dims(jt_hf_job *job);

/* For hooks: what follows from the sizes of latent attention (hf_rows_moe_deepseek.c).
 */
jt_status jt_hf_import_latent(jt_hf_job *job);
jt_status jt_hf_export_latent(jt_hf_job *job);

/* ---- values of each layer (hf_layers.c) ---- */

enum { JT_HF_MOST_LAYERS = 4096 };

/* The number of layers, without those that predict the token after the next; an error
 * when it makes no sense. */
jt_status jt_hf_layers(jt_hf_job *job, int *count);
/* Set "<arch>.NAME" to an array of `count` numbers, or flags. */
jt_status jt_hf_set_ints(jt_hf_job *job, const char *name, const int32_t *values,
                         int count);
jt_status jt_hf_set_flags(jt_hf_job *job, const char *name, const bool *values,
                          int count);
/* attention.head_count_kv: num_key_value_heads for layers with attention, 0 for others;
 * those of whose kinds at `path` are one of `words`; and num_key_value_heads again. */
jt_status jt_hf_set_kv_heads(jt_hf_job *job, const bool *attention, int layers);
jt_status jt_hf_import_kinds(jt_hf_job *job, const char *path, const char *words);
jt_status jt_hf_export_kv_heads(jt_hf_job *job);
/* leading_dense_block_count from mlp_layer_types, where config.json has it (import). */
jt_status jt_hf_import_dense_layers(jt_hf_job *job);
/* mamba_expand from ssm.inner_size (export). */
jt_status jt_hf_put_expand(jt_hf_job *job);
/* Is "blk.LAYER.NAME" in the file (export)? */
bool jt_hf_layer_has(const jt_hf_job *job, int layer, const char *name);
/* Is item `layer` of the list at `path` one of the words "a|b" (import)? */
bool jt_hf_layer_is(const jt_hf_job *job, const char *path, int layer,
                    const char *words);
/* Put a list there: `yes` for layers that have the GGUF tensor `name`, else `no`. */
jt_status jt_hf_put_layers(jt_hf_job *job, const char *path, const char *name,
                           const char *yes, const char *no);
/* layer_types of windows: attention.sliding_window_pattern where the layers are not in
 * the order that the family has without that key, or `always`; and the list again. */
jt_status jt_hf_import_pattern(jt_hf_job *job, bool always);
jt_status jt_hf_export_pattern(jt_hf_job *job);
/* Export, after the usual rope: layers with a window have one of their own, which moves
 * out of the other's table to stand beside it (Gemma 3 and 4). */
jt_status jt_hf_export_two_ropes(jt_hf_job *job);

/* Room for a tensor whose type and shape are set; t->data is that room then. NULL when
 * only describing (return JT_OK), or with *status a failure. */
void *jt_hf_room(jt_hf_job *job, jt_gguf_tensor *t, jt_status *status);
/* `t` as F32: in place, or as a copy; in pieces never. */
jt_status jt_hf_as_f32(jt_hf_job *job, jt_gguf_tensor *t);
size_t jt_hf_values(const jt_gguf_tensor *t);
/* For transforms (hf_order.c), `order` with a row for each row of the GGUF tensor:
 * *t becomes its rows order[0], order[1], .. `count` of them; */
jt_status jt_hf_pick_rows(jt_hf_job *job, jt_gguf_tensor *t, const uint64_t *order,
                          uint64_t count);
/* row r of `t` goes to row order[r] of *hf, which has `rows`. */
jt_status jt_hf_place_rows(jt_hf_job *job, const jt_gguf_tensor *t, jt_gguf_tensor *hf,
                           const uint64_t *order, uint64_t rows);

/* Names of all sources, for: */
jt_status jt_hf_index_names(jt_hf_job *job);
/* Find a tensor by its name and mark it as used; NULL when it is not there. */
const jt_safetensor *jt_hf_find(jt_hf_job *job, const char *name);
/* Find a tensor by the name of a row and the layer at hand, and mark it as used; NULL
 * when it is not there. */
const jt_safetensor *jt_hf_source(jt_hf_job *job, const char *name);
/* A pattern with its layer and expert filled in; false when `room` is too small. */
bool jt_hf_name(char *out, size_t room, const char *pattern, int layer, int expert);

/* ---- from Hugging Face -------------------------------------------------------------
 */

/* A folder whose tensors are listed and can be made one by one. */
typedef struct jt_hf_import jt_hf_import;

/* Open a folder; keys go to `writer`, which stays the caller's. */
jt_status jt_hf_import_new(jt_hf_import **out, const char *folder,
                           jt_gguf_writer *writer, jt_err *err);
void jt_hf_import_free(jt_hf_import *im);

/* The tensors: names, types and shapes. */
size_t jt_hf_import_count(const jt_hf_import *im);
const jt_gguf_tensor *jt_hf_import_at(const jt_hf_import *im, size_t i);

/* The i-th with its data, which lies in the folder's files or in memory until
 * jt_hf_import_drop (all that were made since the last). */
jt_status jt_hf_import_make(jt_hf_import *im, size_t i, jt_gguf_tensor *out,
                            jt_err *err);
void jt_hf_import_drop(jt_hf_import *im);

/* Names of GGUF tensors that are F32 in both, in a folder whose matrices are not: what
 * the way back could not know. */
#define JT_HF_F32_KEY "junto.hf.f32"

/* The whole folder as a file in memory. */
jt_status jt_hf_open(jt_gguf **out, const char *folder, jt_err *err);

/* ---- to Hugging Face ---------------------------------------------------------------
 */

/* Write config.json, generation_config.json, tokenizer files and safetensors into an
 * empty folder. Block formats become `dtype` (F32, F16 or BF16); other matrices too
 * when `all`. Vectors get the type of the matrices when that changes no value. */
typedef struct jt_hf_export_options {
    jt_dtype dtype;
    bool all;
    uint64_t shard_bytes;
    jt_progress progress;
} jt_hf_export_options;

jt_status jt_hf_export(const jt_gguf *file, const char *folder,
                       const jt_hf_export_options *options, jt_err *err);

/* ---- inside ------------------------------------------------------------------------
 */

/* Find the family of a config (import) or a file (export). */
jt_status jt_hf_family_of_config(jt_hf_job *job);
jt_status jt_hf_family_of_file(jt_hf_job *job);

/* FOLDER/NAME as a JSON object; Infinity, which Python writes, is read as null. */
jt_status jt_hf_read_json(json_t **out, const char *folder, const char *name,
                          jt_err *err);
/* The shortest decimal that is the same float; NULL: out of memory. */
json_t *jt_hf_real(float value);

/* generation_config.json <-> general.sampling.*; a folder may be without one. */
jt_status jt_hf_read_generation(jt_hf_job *job, const char *folder);
jt_status jt_hf_make_generation(const jt_gguf *file, json_t **out, jt_err *err);

/* config.json <-> keys: all rows, rope, hooks. */
jt_status jt_hf_read_config(jt_hf_job *job, const char *folder);
jt_status jt_hf_read_keys(jt_hf_job *job);
jt_status jt_hf_make_config(jt_hf_job *job, jt_dtype dtype);

/* rope_theta, rope_scaling, rope_parameters. */
jt_status jt_hf_import_rope(jt_hf_job *job);
jt_status jt_hf_export_rope(jt_hf_job *job);
/* The factors that config.json has for one of the tensors named rope_*.weight; *count 0
 * for none. */
extern const char *const jt_hf_rope_tensors[]; /* ends with NULL */
jt_status jt_hf_rope_factors(jt_hf_job *job, const char *name, float **factors,
                             size_t *count);

/* A source as a tensor: FP8 decoded, FP4 in blocks, other types than JT_DTYPE_LIST as
 * bytes with dtype JT_DTYPE_COUNT, for transforms that know them. */
jt_status jt_hf_fetch(jt_hf_job *job, const char *name, const jt_safetensor *from,
                      jt_gguf_tensor *out);
/* Run fn(arg, i) for all i below `count` on all cores. */
jt_status jt_hf_each(jt_hf_job *job, void (*fn)(void *arg, size_t i), void *arg,
                     size_t count);

/* ---- FP4 (hf_fp4.c) ---- */

/* Is `from`, the source of this name, in FP4 with scales beside it? */
bool jt_hf_is_fp4(jt_hf_job *job, const char *name, const jt_safetensor *from);
/* Such a matrix as blocks of NVFP4 or MXFP4, or as BF16 where rows are no whole blocks
 * or job->blocks is false. What all its values are times is another tensor: */
jt_status jt_hf_fetch_fp4(jt_hf_job *job, const char *name, const jt_safetensor *from,
                          jt_gguf_tensor *out);
bool jt_hf_has_factor(jt_hf_job *job, const char *name);
jt_status jt_hf_factor(jt_hf_job *job, const char *name, float *factor);
/* Codes of `values` values, neighbours in a byte, in the order of GGUF: value i beside
 * i + values / 2. */
void jt_hf_order_fp4(unsigned char *to, const unsigned char *from, size_t values);

/* Does the GGUF tensor of this name have type F32 whatever the matrices have? The rule
 * of llama.cpp's converter. */
bool jt_hf_wants_f32(const char *gguf, int n_dims);

void jt_hf_drop_rooms(jt_hf_job *job);

#endif
