/* A reply, token by token: what samples, tells thoughts from answers, holds stop
 * strings back and knows when to end. Who runs the model is somebody else: jt_generate
 * for one session, a server for many.
 *
 *     jt_reply_start(&reply, tokenizer, sampler, &options, &result);
 *     jt_reply_hear(&reply, prompt, n, err);        // the prompt, which the model runs
 *     for (;;) {
 *         jt_reply_next(&reply, logits, room, &step, err);
 *         if (step.count == 0)
 *             break;                                // result.finish says why
 *         ...                                       // the model runs step.tokens
 *     }
 *     jt_reply_end(&reply, status, err);
 */
#ifndef JT_REPLY_H
#define JT_REPLY_H

#include "junto/generate.h"
#include "run/stop.h"
#include "run/thoughts.h"

/* Lies still from its start to its end. */
typedef struct jt_reply {
    jt_sampler *sampler;
    const jt_tokenizer *tokenizer;
    const jt_generate_options *options;
    jt_generate_result *result;
    jt_thoughts thoughts;
    size_t earlier; /* tokens of the thoughts before this one */
    jt_outlet answer, thought;
    int32_t token;     /* the last that was sampled */
    jt_tokens closing; /* the tokens that end a thought */
    bool closed;       /* they came last: now one is sampled */
    bool loose;        /* the answer's text comes of a token that was sampled freely */
} jt_reply;

/* Tokens that follow in the context; none: the reply is over. */
typedef struct jt_reply_step {
    const int32_t *tokens; /* of the reply, until its next step */
    size_t count;
    bool forced; /* they end a thought; the model did not choose them */
} jt_reply_step;

/* Everything is borrowed, also what the options point to; *result is set to zero. Of
 * the options, those of the prompt and `speculation` are not looked at. */
void jt_reply_start(jt_reply *reply, const jt_tokenizer *tokenizer, jt_sampler *sampler,
                    const jt_generate_options *options, jt_generate_result *result);

/* The penalties learn of the prompt. JT_E_MEMORY. */
jt_status jt_reply_hear(jt_reply *reply, const int32_t *prompt, size_t count,
                        jt_err *err);

/* Go on, given the logits [vocab] after the text and how many tokens have `room` behind
 * it. JT_E_MEMORY, those of jt_encode. */
jt_status jt_reply_next(jt_reply *reply, const float *logits, size_t room,
                        jt_reply_step *step, jt_err *err);

/* How many tokens may be sampled after the last one, at most. */
size_t jt_reply_left(const jt_reply *reply);

/* Give out what was held back, unless `status` is a failure, and free; gives the status
 * on. */
jt_status jt_reply_end(jt_reply *reply, jt_status status, jt_err *err);

#endif
