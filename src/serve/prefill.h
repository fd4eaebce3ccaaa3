/* How prompts are run beside replies that are being written: what a pass is made of.
 *
 * A policy is handed replies that wait for the model and runs a piece of what they wait
 * for. "whole" takes everything at once: the prompt is read as fast as can be, and
 * nobody else goes on meanwhile. "chunked" bounds the tokens of a pass: every reply
 * goes on by its token, and prompts share what is left, in the order in which they came
 * (Agrawal et al. 2023, SARATHI). "layered" takes a prompt that is longer than that
 * through the layers one by one, all its tokens at once, so that it reads each expert
 * once and not once a chunk ("From Tokens to Layers", layered prefill).
 *
 * With the last two a pass over prompts need not end before replies go on: they do so
 * in its interludes (serve/engine.c), after a layer of it or a part of one, whatever
 * the time of a step allows (serve/pace.h). */
#ifndef JT_PREFILL_H
#define JT_PREFILL_H

#include "run/session.h"

/* A reply that waits for the model. */
typedef struct jt_turn {
    jt_part part; /* what it waits for: one token, or more of a prompt */
    size_t done;  /* how many of them the session holds now */
} jt_turn;

typedef struct jt_prefill {
    const char *name;
    bool polite;  /* passes over prompts are interrupted for replies */
    bool layered; /* sessions need room for a whole prompt in a chunk */
    /* Run a piece of what turns [n] wait for, those that came first standing first; at
     * most about `budget` tokens where the policy bounds them, and at least one.
     * Errors: those of jt_session_eval_together, then nothing is done. */
    jt_status (*advance)(jt_turn *turns, size_t n, size_t budget,
                         const jt_progress *progress, jt_err *err);
} jt_prefill;

/* NULL for another name than "whole", "chunked" and "layered". */
const jt_prefill *jt_prefill_find(const char *name);

#endif
