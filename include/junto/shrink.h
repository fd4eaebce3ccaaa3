/* Making models smaller: which inputs matter, quantisation, and what it cost. */
#ifndef JUNTO_SHRINK_H
#define JUNTO_SHRINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/dtype.h"
#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- importance --------------------------------------------------------------------
 * The squares of what reaches the columns of each matrix, summed over the tokens of a
 * text: the error of a weight counts by the mean square of its input. Of stacked
 * experts each has sums and a count of its own. In files: llama.cpp's imatrix GGUF.
 */
typedef struct jt_importance jt_importance;

/* Empty, or as in a file. Errors: those of jt_gguf_open, JT_E_FORMAT. */
JT_API jt_status jt_importance_new(jt_importance **out, jt_err *err);
JT_API jt_status jt_importance_load(jt_importance **out, const char *path, jt_err *err);
JT_API void jt_importance_free(jt_importance *importance); /* NULL is fine */

/* Run `tokens` through the session in windows of n_ctx, which do not overlap (an
 * incomplete last one is left out), from window `first` on, and add what reaches the
 * matrices of its model. `dataset` is noted. Not from two threads at once. Errors:
 * JT_E_ARG (window, or fewer tokens than one), JT_E_FORMAT (the importance is of
 * another model), those of jt_session_eval. After JT_E_INTERRUPTED the windows that
 * were done count: jt_importance_chunks. */
JT_API jt_status jt_importance_gather(jt_importance *importance, jt_session *session,
                                      const int32_t *tokens, size_t count, int n_ctx,
                                      size_t first, const char *dataset,
                                      jt_progress progress, jt_err *err);

/* Write a file; matrices that saw nothing are left out. JT_E_ARG: nothing was gathered.
 */
JT_API jt_status jt_importance_save(const jt_importance *importance, const char *path,
                                    jt_err *err);

/* Windows so far, of all runs. */
JT_API uint64_t jt_importance_chunks(const jt_importance *importance);

/* One matrix, or stacked ones. */
typedef struct jt_importance_entry {
    const char *name;
    size_t n_matrices, n_columns;
    const uint64_t *counts; /* [matrices] tokens that each saw */
} jt_importance_entry;
JT_API size_t jt_importance_count(const jt_importance *importance);
JT_API void jt_importance_at(const jt_importance *importance, size_t i,
                             jt_importance_entry *out);

/* ---- quantisation --------------------------------------------------------------- */

/* The i-th mix ("q4_k_m"), NULL past the last; and what it does, in a few words. */
JT_API const char *jt_mix_name(size_t i);
JT_API const char *jt_mix_summary(size_t i);

/* What becomes of one tensor. */
typedef struct jt_quantize_tensor {
    const char *name;
    int n_dims;
    const uint64_t *shape; /* PyTorch's order */
    jt_dtype from, to;
    uint64_t bytes_from, bytes_to;
    bool fell_back;   /* the rows are no whole blocks of the type it should have got */
    bool weighted;    /* by importance */
    size_t unseen;    /* experts that saw no token: they use the mean of the layer */
    int bits;         /* nested: Q2_K and planes up to so many; 0: not nested */
    size_t seen_less; /* experts that saw few: theirs is blended with it */
} jt_quantize_tensor;

typedef struct jt_quantize_options {
    const char *mix; /* a name of jt_mix_name, or a type ("q5_0") for all matrices */
    /* "regex=type": tensors whose name matches (PCRE2, anywhere in the name) get the
     * type; the first rule that matches wins, and wins over the mix. Only matrices. */
    const char *const *rules;
    size_t n_rules;
    const char *importance; /* a file, or NULL */
    int nested;             /* 3 to 6: experts are Q2_K and planes, so that a store
                               can read any number of bits up to this; 0: as the mix
                               says */
    /* "plain" (or NULL), or "experts": each expert in one piece (junto/convert.h). Its
     * matrices then have names of their own, "blk.3.ffn_up.7.weight", which rules see
     * first, and experts may have different types. */
    const char *layout;
    int threads; /* 0: all processors */
    void (*on_tensor)(void *user, const jt_quantize_tensor *tensor); /* or NULL */
    void *user;
    jt_progress progress;
    jt_log log;
} jt_quantize_options;

typedef struct jt_quantize_report {
    size_t tensors, fell_back, weighted;
    uint64_t bytes_from, bytes_to; /* of tensors */
    double bits;                   /* per weight, all tensors together */
    double seconds;
} jt_quantize_report;

/* Read `from` (what jt_model_open_file opens) tensor by tensor and write `to`, beside
 * and renamed; NULL: nothing is written, on_tensor tells what would be. Every key is
 * kept. Errors: JT_E_ARG (mix, rules), those of loading and writing, JT_E_FORMAT
 * (importance of another model), JT_E_INTERRUPTED. */
JT_API jt_status jt_quantize_model(const char *from, const char *to,
                                   const jt_quantize_options *options,
                                   jt_quantize_report *report, jt_err *err);

/* ---- what it cost --------------------------------------------------------------- */

typedef struct jt_tensor_diff {
    const char *name;
    jt_dtype a, b;
    uint64_t values;
    double error; /* sqrt(sum (a - b)^2 / sum a^2) */
    double worst; /* largest |a - b| */
} jt_tensor_diff;

typedef struct jt_diff_options {
    void (*on_tensor)(void *user, const jt_tensor_diff *tensor);
    /* A tensor that only one file has, or with another shape. */
    void (*on_other)(void *user, const char *name, const char *what);
    void *user;
    int threads;
    jt_progress progress;
} jt_diff_options;

/* Compare the tensors of two files by name. (What comes out of them: compare.h.) */
JT_API jt_status jt_diff_tensors(const char *path_a, const char *path_b,
                                 const jt_diff_options *options, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
