/* Speculation: several tokens are guessed, one pass of the model over all of them says
 * which were right (Leviathan et al. 2023, Fast Inference from Transformers via
 * Speculative Decoding; Saxena 2023, Prompt Lookup Decoding).
 *
 * A guess counts when the sampler, given the model's logits at its place, draws the
 * same token: so the text is the one that comes without speculation, token for token,
 * also with a temperature. A pass over k tokens of a dense model costs little more than
 * one over a single token; a mixture reads the experts of all k. */
#ifndef JUNTO_SPECULATE_H
#define JUNTO_SPECULATE_H

#include <stddef.h>
#include <stdint.h>

#include "junto/session.h"
#include "junto/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Who guesses. */
typedef struct jt_drafter {
    void *self;
    /* Write at most `most` tokens that may follow `text` [count] to `draft`, and how
     * many to *n; none is fine. */
    jt_status (*propose)(void *self, const int32_t *text, size_t count, int32_t *draft,
                         size_t most, size_t *n, jt_err *err);
} jt_drafter;

/* What followed the last time that the text ended like this: the longest end of at most
 * `self->most` tokens, and at least `self->least`, that occurred before. */
typedef struct jt_lookup {
    size_t least, most; /* 1 .. */
} jt_lookup;
JT_API jt_drafter jt_lookup_drafter(jt_lookup *self);

/* A smaller model: its likeliest tokens, as long as it gives them a probability of
 * min_p. */
typedef struct jt_draft_model {
    jt_session *session; /* of a model with the same vocabulary; its context follows */
    float min_p;         /* 0 .. 1 */
} jt_draft_model;
JT_API jt_drafter jt_model_drafter(jt_draft_model *self);

/* JT_E_ARG unless both models have the same vocabulary: names the first token that
 * differs. */
JT_API jt_status jt_check_draft_vocabulary(const jt_model *model, const jt_model *draft,
                                           jt_err *err);

typedef struct jt_speculation {
    jt_drafter drafter;
    int most; /* tokens that are guessed at once, 1 .. 256; fewer after wrong ones */
} jt_speculation;

#ifdef __cplusplus
}
#endif
#endif
