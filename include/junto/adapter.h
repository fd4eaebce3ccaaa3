/* Adapters: small additions to the weights of a model, kept in files of their own.
 *
 *     jt_adapter *a;
 *     jt_adapter_open(&a, "poet.safetensors", model, &err);
 *     jt_session_add_adapter(session, a, 1.0f, &err);
 *
 * An adapter belongs to no session: several may use it, each with a scale of its own,
 * and a session may use several, whose changes add up. docs/adapters.md has the kinds,
 * their formulas and the files. */
#ifndef JUNTO_ADAPTER_H
#define JUNTO_ADAPTER_H

#include <stddef.h>
#include <stdint.h>

#include "junto/model.h"
#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_adapter jt_adapter;

/* Open an adapter: a file of Junto (.safetensors), a PEFT folder (adapter_config.json
 * and adapter_model.safetensors; its names are those of the model's family in
 * transformers), or a GGUF file with general.type "adapter". With a model all targets
 * and shapes are checked; without one (NULL) PEFT folders cannot be read. Values are
 * read into memory as F32. Errors name the tensor: JT_E_IO, JT_E_FORMAT (wrong shape,
 * rank 0, a value that is not finite, missing metadata), JT_E_UNSUPPORTED (kinds that
 * Junto does not know, another model), JT_E_MEMORY. The caller owns *out. */
JT_API jt_status jt_adapter_open(jt_adapter **out, const char *path,
                                 const jt_model *model, jt_err *err);
JT_API void jt_adapter_free(jt_adapter *adapter); /* NULL is fine */

/* How adapters are written. */
typedef enum jt_adapter_format {
    JT_ADAPTER_JUNTO, /* a file: safetensors with metadata */
    JT_ADAPTER_PEFT,  /* a folder, made if it is not there; needs the model */
    JT_ADAPTER_GGUF   /* a file that llama.cpp reads: LoRA and rsLoRA only; needs the
                         model */
} jt_adapter_format;

JT_API jt_status jt_adapter_save(const jt_adapter *adapter, const char *path,
                                 jt_adapter_format format, const jt_model *model,
                                 jt_err *err);

typedef struct jt_adapter_info {
    const char *path, *kind; /* "lora", "rslora", "dora", "shira", "mos", "poly",
                                "bits", "mora", "bottleneck", "mixda",
                                "p-adapter", "soft-prompt", "prefix" */
    const char *family;      /* of the model, "" where the file does not say */
    uint64_t fingerprint;    /* of the model, 0 likewise */
    size_t n_targets;
    uint64_t n_params;  /* that were tuned */
    size_t n_tasks;     /* that it tells apart; 0: it knows no tasks */
    const char *method; /* of a routed mixture: "mixlora", "x-lora", ..; else NULL */
    size_t n_mixed;     /* adapters in it */
    int top_k;          /* of which a token gets so many */
    size_t n_virtual;   /* tokens that it puts before a text: so much room it takes of a
                           context, unless its scale is 0 */
} jt_adapter_info;
JT_API void jt_adapter_describe(const jt_adapter *adapter, jt_adapter_info *info);

/* The task that an adapter of kind "poly" mixes its skills for, from now on: before it
 * is attached, as sessions read its values. Without: task 0 where there is one task,
 * and else the mean of all skills, which is JT_ADAPTER_NO_TASK. JT_E_ARG (no such task,
 * a kind without tasks). */
#define JT_ADAPTER_NO_TASK SIZE_MAX
JT_API jt_status jt_adapter_set_task(jt_adapter *adapter, size_t task, jt_err *err);

/* One of its targets. */
typedef struct jt_adapter_target_info {
    const char *name;         /* "blk.0.ffn_up_exps.weight" */
    size_t count, rows, cols; /* of the weight: a stack, or a matrix (count 1) */
    size_t rank;              /* 0 for sparse kinds */
    float alpha, scale;
    uint64_t n_params;
    double norm; /* Euclidean, of the change; NAN where that needs the model (DoRA) or a
                    token (MoRA, several adapters that are mixed) */
} jt_adapter_target_info;
JT_API void jt_adapter_target_at(const jt_adapter *adapter, size_t i,
                                 jt_adapter_target_info *info);

/* Let an adapter change what the model gives in this session, times `scale`; a scale of
 * 0, and what is fresh (changes nothing), leave the output bit for bit as it was. The
 * adapter must outlive the session; the context must be empty. Errors: JT_E_ARG (the
 * context is not empty, a scale that is not finite), JT_E_FORMAT and JT_E_UNSUPPORTED
 * (it does not fit the model), JT_E_LIMIT (more than 64), JT_E_MEMORY. */
JT_API jt_status jt_session_add_adapter(jt_session *session, const jt_adapter *adapter,
                                        float scale, jt_err *err);

/* How much of each adapter of a session each token gets: weights that stand beside the
 * scales. Whoever decides by token, sequence or task is a producer of them; the session
 * is the one that mixes. */
typedef struct jt_adapter_weigher {
    void *self;
    /* Before a pass: fill `weights` [n_tokens, n_adapters], in the order in which the
     * adapters were added, for tokens `ids` at `positions` of the context. They must be
     * finite. */
    void (*weigh)(void *self, const int32_t *ids, const int32_t *positions,
                  size_t n_tokens, size_t n_adapters, float *weights);
} jt_adapter_weigher;

/* Copied; `self` must outlive the session. NULL, or without a function: all weights are
 * 1. JT_E_UNSUPPORTED with a DoRA among the adapters (its norms hold for one weight),
 * and for models whose experts get weighed inputs (Llama 4). */
JT_API jt_status jt_session_weigh_adapters(jt_session *session,
                                           const jt_adapter_weigher *weigher,
                                           jt_err *err);

/* Adapters and how much of each. */
typedef struct jt_adapter_mix {
    jt_adapter *const *adapters; /* [count] */
    const float *scales;         /* [count] */
    size_t count;
} jt_adapter_mix;

/* Write the model at `model_path` with adapters in its weights as a GGUF file: changed
 * weights are quantised again to the type that they had. Where the output is the
 * embedding and only one of them changes, the output becomes a tensor of its own.
 * Errors: those of opening the model, of jt_session_add_adapter and of writing;
 * JT_E_UNSUPPORTED for types that cannot be made. */
JT_API jt_status jt_adapter_merge(const char *out, const jt_model *model,
                                  const jt_adapter_mix *mix,
                                  const jt_progress *progress, jt_err *err);

/* How several adapters become one. Their changes are D_i = s_i B_i A_i, w_i the scales
 * of the mix. */
typedef enum jt_adapter_joining {
    JT_JOIN_CAT,    /* sum of w_i D_i exactly: ranks are added up */
    JT_JOIN_LINEAR, /* A = sum sqrt(w_i s_i) A_i, B likewise: of equal ranks; as peft's
                      "linear" */
    JT_JOIN_SVD,    /* the best of rank `rank` for the sum of w_i D_i */
    JT_JOIN_TIES,   /* the same for what TIES makes of the D_i (Yadav et al. 2023):
                       the largest `density` of each; the sign of the larger sum; the mean
                       of those that have it */
    JT_JOIN_DARE    /* the same for what DARE makes (Yu et al. 2024): each value is kept
                       with probability `density` and divided by it */
} jt_adapter_joining;
typedef struct jt_join_options {
    jt_adapter_joining how;
    size_t rank;   /* of the result of SVD, TIES and DARE; 0: the largest there is */
    float density; /* TIES, DARE; 0: 0.5 */
    uint64_t seed; /* DARE, and the start of the SVD */
} jt_join_options;

/* A fresh adapter, kind LoRA with alpha = rank (sparse adapters are added up as they
 * are, by CAT only). JT_E_ARG for kinds that cannot be added (DoRA, or different ones).
 */
JT_API jt_status jt_adapter_join(jt_adapter **out, const jt_adapter_mix *mix,
                                 const jt_join_options *options, jt_err *err);

/* The i-th target of `a` in both adapters: Euclidean norms of their changes and of the
 * difference, and the cosine between them. `b` 0 and the cosine 0 where `b` lacks it.
 * JT_E_ARG for DoRA and for other shapes, JT_E_MEMORY. */
typedef struct jt_adapter_difference {
    const char *name;
    double a, b, difference, cosine;
} jt_adapter_difference;
JT_API jt_status jt_adapter_compare(const jt_adapter *a, const jt_adapter *b, size_t i,
                                    jt_adapter_difference *out, jt_err *err);

/* LoRA of rank `rank` that makes `tuned` of `base`: for each matrix whose name matches
 * the expression `targets` (NULL: all that adapters can change) the best approximation
 * of the difference; matrices without a difference are left out. `error` (may be NULL)
 * gets the share of the differences, squared, that is lost. JT_E_ARG: models of other
 * shapes, no difference. */
JT_API jt_status jt_adapter_extract(jt_adapter **out, const jt_model *base,
                                    const jt_model *tuned, const char *targets,
                                    size_t rank, double *error,
                                    const jt_progress *progress, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
