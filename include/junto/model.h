/* Models: a mapped file, checked and understood. Read only after loading, so any number
 * of sessions (and threads) can share one. */
#ifndef JUNTO_MODEL_H
#define JUNTO_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/dtype.h"
#include "junto/gguf.h"
#include "junto/status.h"
#include "junto/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_model jt_model;

/* Open what a model is loaded from: a GGUF file, the first part of a split one, or a
 * Hugging Face folder (config.json, safetensors, tokenizer.json), which is presented as
 * a file in memory with the keys and names of GGUF. Tensors of a folder stay in its
 * mapped files where the bytes are the same; others are made. Errors: those of
 * jt_gguf_open and jt_safetensors_open, JT_E_UNSUPPORTED (a model_type or a tensor that
 * Junto does not know). */
JT_API jt_status jt_model_open_file(jt_gguf **out, const char *path, jt_err *err);

/* Load what jt_model_open_file opens. The weights stay where they lie: loading maps the
 * file and checks every tensor's presence, type and shape, but reads no weights of a
 * GGUF file. Errors: those of jt_gguf_open, JT_E_UNSUPPORTED (a family that Junto does
 * not know: the message lists those it does), JT_E_FORMAT (missing key or tensor, wrong
 * shape). The caller owns *out; it must outlive its sessions. */
JT_API jt_status jt_model_load(jt_model **out, const char *path, jt_err *err);
/* Load a model that may be larger than memory: everything but the routed experts is
 * read into memory, they stay in the file for the sessions' stores (junto/store.h). Of
 * GGUF files only: JT_E_UNSUPPORTED for folders and for models without experts. Other
 * errors: those of jt_model_load, JT_E_MEMORY, JT_E_IO. */
JT_API jt_status jt_model_load_apart(jt_model **out, const char *path, jt_err *err);
JT_API jt_status jt_model_load_memory(jt_model **out, const void *data, size_t bytes,
                                      jt_err *err);
JT_API void jt_model_free(jt_model *model); /* NULL is fine */

/* What a model is. Counts of layers may differ inside a model; those here are the
 * largest. Sizes are in values, bytes as stored. */
typedef struct jt_model_info {
    const char *path;
    const char *family; /* "qwen3moe": a row of the family table */
    jt_str name;        /* general.name; may be empty */
    int n_layers, n_moe_layers;
    int d_model;
    int n_heads, n_kv_heads, head_dim;
    int n_ctx_train; /* context length that the file states */
    int n_vocab;
    int n_experts, n_experts_used, expert_width;
    int shared_width; /* width of the shared expert; 0 for none */
    int dense_width;  /* width of dense FFN layers; 0 for none */
    uint64_t n_params, n_active_params;
    uint64_t file_bytes;
    uint64_t active_bytes;       /* weight bytes that one decoded token must read */
    uint64_t kv_bytes_per_token; /* keys and values kept as F16 */
    uint64_t state_bytes;        /* what other layers keep, however long the context */
    uint64_t dtype_bytes[JT_DTYPE_COUNT]; /* weight bytes by type */
    bool laid_out; /* the file has each expert in one piece, with a checksum */
} jt_model_info;

JT_API void jt_model_describe(const jt_model *model, jt_model_info *info);

/* The file behind the model, and its tokenizer (NULL when the file has none). Borrowed.
 */
JT_API const jt_gguf *jt_model_file(const jt_model *model);
JT_API const jt_tokenizer *jt_model_tokenizer(const jt_model *model);

/* Experts of layer `layer` (0 for a dense one). */
JT_API int jt_model_layer_experts(const jt_model *model, int layer);

/* The i-th family that Junto runs ("llama", "qwen3moe", ...); NULL past the last. */
JT_API const char *jt_family_name(size_t i);

/* What a family is, in words, and what can be done with its models beside running them.
 */
typedef struct jt_family_info {
    const char *name;   /* general.architecture of its files */
    const char *models; /* model types of Hugging Face, with blanks between */
    bool dense, mixture;
    char attention[128];
    char layer[128];  /* norms and FFN */
    char router[128]; /* empty for families that are dense only */
    bool trains;      /* gradients of all its parts are there */
    bool starts;      /* fresh models can be made of nothing */
    bool converts;    /* from and to folders of Hugging Face */
} jt_family_info;

/* False past the last. */
JT_API bool jt_family_describe(size_t i, jt_family_info *info);

#ifdef __cplusplus
}
#endif
#endif
