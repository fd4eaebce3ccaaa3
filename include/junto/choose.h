/* Choosing among adapters, and texts, that are there, by a few samples of a task
 * (K-shot: Yang et al. 2024, "Leveraging open knowledge for advancing task expertise in
 * large language models").
 *
 *     jt_samples_open(&samples, "five.jsonl", model, 0, &err);
 *     for each adapter: a session with it, jt_samples_score(&score[i], samples, ..)
 *     jt_adapter_similarity(matrix, adapters, n, &err);
 *     jt_adapter_groups(groups, &found, score, matrix, n, &options, &err); */
#ifndef JUNTO_CHOOSE_H
#define JUNTO_CHOOSE_H

#include <stddef.h>

#include "junto/adapter.h"
#include "junto/session.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct jt_samples jt_samples;

/* Documents as for training (docs/training.md): of prompts and completions, and of
 * chats, what the model is to say is scored. The first `n` of them, 0: all. Errors name
 * the file: JT_E_ARG (a model without a tokenizer), JT_E_IO, JT_E_FORMAT, JT_E_MEMORY.
 * Nothing is borrowed. */
JT_API jt_status jt_samples_open(jt_samples **out, const char *path,
                                 const jt_model *model, size_t n, jt_err *err);
JT_API void jt_samples_free(jt_samples *samples); /* NULL is fine */
JT_API size_t jt_samples_count(const jt_samples *samples);

typedef struct jt_samples_score {
    size_t tokens;          /* that were scored */
    double nll, perplexity; /* per token, of all together */
    double exact; /* share of the samples that the model, always taking the likeliest
                     token, would write as they are, with their end */
} jt_samples_score;

/* What a session, with its adapters, makes of them; it is emptied before and after.
 * Errors: JT_E_LIMIT (a sample longer than the context: says which), those of
 * jt_session_eval. */
JT_API jt_status jt_samples_score_session(jt_samples_score *out,
                                          const jt_samples *samples,
                                          jt_session *session, jt_err *err);

/* How much alike adapters are: matrix [n, n] of the mean of |cosine| of their changes
 * over the weights that either has (0 where one lacks it). NAN where changes depend on
 * more than values (DoRA, MoRA, mixtures). JT_E_ARG (the same weight of two shapes),
 * JT_E_MEMORY. */
JT_API jt_status jt_adapter_similarity(double *matrix, jt_adapter *const *adapters,
                                       size_t n, jt_err *err);

enum { JT_GROUP_MOST = 16 };
typedef struct jt_adapter_group {
    size_t member[JT_GROUP_MOST]; /* rising */
    double similarity;            /* sum over the pairs */
} jt_adapter_group;
typedef struct jt_group_options {
    size_t size;      /* of a group, 1 to JT_GROUP_MOST */
    size_t shortlist; /* adapters that are looked at; 0: twice the size */
    size_t most;      /* groups that are wanted */
} jt_group_options;

/* Groups of adapters that are good and differ: of the shortlist, those with the
 * smallest sum of ranks by `exact` (falling) and by perplexity (rising), all groups of
 * a size; the least similar first. `groups` [options->most]; *found of them are there.
 * The paper says what the parts are, not how they are put together: this way is our
 * choice. JT_E_ARG (a size out of range, or above n), JT_E_LIMIT (over ten million
 * groups), JT_E_MEMORY. */
JT_API jt_status jt_adapter_groups(jt_adapter_group *groups, size_t *found,
                                   const jt_samples_score *scores, const double *matrix,
                                   size_t n, const jt_group_options *options,
                                   jt_err *err);

typedef struct jt_pick_options {
    size_t most;  /* texts that are looked at: the nearest */
    double apart; /* of two of them with a cosine above 1 - apart the farther one is
                     left away; the paper has 0.1 */
} jt_pick_options;

/* Write to `out` those lines of a pool of texts (JSON lines) that are like the samples
 * and not like each other, the nearest first; *picked of them. A text is the mean of
 * the model's last hidden states over its tokens, as many as the context holds, less
 * the mean of the pool (without that all texts are alike), of length 1; near is what is
 * near, by Euclid, to the mean of the samples. The paper has an encoder of sentences
 * instead. The session is emptied before and after. JT_E_ARG (no JSON lines; options
 * out of range), JT_E_IO, JT_E_FORMAT, JT_E_MEMORY, those of jt_session_eval. */
JT_API jt_status jt_texts_pick(const char *out, const char *pool,
                               const jt_samples *samples, jt_session *session,
                               const jt_pick_options *options, size_t *picked,
                               jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
