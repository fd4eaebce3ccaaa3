/* From logits to text: the sampler chain and the generation loop. */
#ifndef JUNTO_GENERATE_H
#define JUNTO_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "junto/grammar.h"
#include "junto/session.h"
#include "junto/speculate.h"
#include "junto/status.h"
#include "junto/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Added to the logit of a token before all else. */
typedef struct jt_logit_bias {
    int32_t id;
    float bias;
} jt_logit_bias;

/* The chain, in this order: bias, penalties, top-k, typical, top-p, min-p, temperature,
 * draw. Each is off at the value given. */
typedef struct jt_sampling {
    float temperature;       /* 0: greedy (the largest logit, lowest id on a tie) */
    int top_k;               /* 0: off */
    float top_p;             /* 1: off */
    float min_p;             /* 0: off */
    float typical_p;         /* 1: off */
    float repeat_penalty;    /* 1: off */
    float presence_penalty;  /* 0: off */
    float frequency_penalty; /* 0: off */
    int repeat_last_n;       /* tokens that the penalties look at; -1: the whole text */
    uint64_t seed;
    const jt_logit_bias *bias; /* [n_bias], copied by jt_sampler_new; or NULL */
    size_t n_bias;
} jt_sampling;

/* temperature 0.8, top-k 40, top-p 0.95, min-p 0.05, penalties off over 64 tokens, seed
 * 0: the defaults that llama.cpp made usual. */
JT_API jt_sampling jt_sampling_default(void);

/* Replace what the file says about sampling (general.sampling.*, which conversion takes
 * from generation_config.json); values out of range are passed over. Returns how many
 * fields were replaced. */
JT_API int jt_sampling_from_file(jt_sampling *sampling, const jt_gguf *file);

typedef struct jt_sampler jt_sampler;

/* JT_E_ARG names the field that is out of its range. */
JT_API jt_status jt_sampler_new(jt_sampler **out, const jt_sampling *sampling,
                                size_t n_vocab, jt_err *err);
JT_API void jt_sampler_free(jt_sampler *sampler); /* NULL is fine */

/* Choose the next token from logits [vocab] (unchanged). Same seed, same history, same
 * logits: same token. */
JT_API int32_t jt_sampler_next(jt_sampler *sampler, const float *logits);
/* Tell the penalties about a token of the text (prompt or chosen). JT_E_MEMORY. */
JT_API jt_status jt_sampler_accept(jt_sampler *sampler, int32_t id, jt_err *err);

/* How a model marks its thoughts. A mark may be special tokens, plain ones or a
 * mixture: it is found by its text. */
typedef struct jt_thinking {
    const char *open, *close;
    const char *silent[2]; /* more texts that are neither thought nor answer, or NULL */
    const char *cut;       /* ends a thought early: some words and `close` */
    const char *skip;      /* ends a thought before it began */
} jt_thinking;

typedef enum jt_finish {
    JT_FINISH_END,        /* the model ended its text */
    JT_FINISH_STOP,       /* a stop string appeared (it is not part of the text) */
    JT_FINISH_LENGTH,     /* max_tokens reached */
    JT_FINISH_CONTEXT,    /* the context is full */
    JT_FINISH_INTERRUPTED /* on_text or the progress asked to stop */
} jt_finish;
JT_API const char *jt_finish_name(jt_finish finish); /* "end", "stop", ... */

/* A token and the logarithm of the probability that the model itself gave it, before
 * the chain. */
typedef struct jt_scored {
    int32_t id;
    float logprob;
} jt_scored;

enum { JT_TOP_TOKENS = 20 };

/* A token that was sampled. */
typedef struct jt_sampled {
    jt_scored token;
    jt_scored top[JT_TOP_TOKENS]; /* [n_top] the likeliest, best first */
    size_t n_top;
    bool thought; /* it is part of one; otherwise of the answer */
} jt_sampled;

typedef struct jt_generate_options {
    int max_tokens; /* -1: until the model ends or the context is full */
    bool ignore_end;
    const char *const *stop; /* stop strings; may be NULL */
    size_t n_stop;
    /* Text as it comes, cut at character boundaries, held back where it may begin a
     * stop string; and with len 0 after every token. Non-zero asks to stop. */
    int (*on_text)(void *user, const char *text, size_t len);
    void *user;
    jt_progress progress; /* of the prompt */
    /* The prompt is the whole context: what the session holds of its beginning stays,
     * the rest of the session is dropped. Otherwise the prompt is appended. */
    bool whole;
    /* With the marks of thoughts, on_text gets the answer only and on_thought (may be
     * NULL) the thoughts, cut like it; white space around the marks goes with them.
     * Without (NULL), all text is answer. */
    const jt_thinking *thinking;
    bool in_thought; /* the prompt has opened a thought */
    /* A thought of this many tokens is closed, if it is not over: the text `cut` of the
     * marks (or `skip`, when it had not begun) is put into the context and the answer
     * begins. All thoughts of a call share it. -1: no end. */
    int thinking_budget;
    int (*on_thought)(void *user, const char *text, size_t len);
    /* The answer is a text of this form, and then over; `ignore_end` is not looked at.
     * It is reset first. Thoughts are free, and so is one that the model begins with.
     */
    jt_constraint *constraint;
    /* Hears of every token but the last when that ends the reply, before its text
     * comes; n_top of jt_sampled is then `n_top`. NULL: nobody asks. */
    void (*on_token)(void *user, const jt_sampled *token);
    size_t n_top;
    /* Special tokens, by their text up to NULL, that are text nevertheless; or NULL. */
    const char *const *shown;
    /* Guess ahead; NULL: not. The text is the same. Watchers see the guesses, too. */
    const jt_speculation *speculation;
} jt_generate_options;

typedef struct jt_generate_result {
    jt_finish finish;
    size_t prompt_tokens;  /* evaluated before the first sampled one */
    size_t kept_tokens;    /* of the prompt, because the session held them (`whole`) */
    size_t tokens;         /* sampled */
    size_t thought_tokens; /* those of them that are thoughts, without the marks */
    size_t forced_tokens;  /* put into the context to end a thought; not sampled */
    size_t passes;         /* of the model, after the prompt */
    size_t drafted, accepted; /* tokens that were guessed, and were right */
    double prompt_seconds, seconds;
} jt_generate_result;

/* Evaluate `prompt`, then sample until done. The last sampled token is part of the
 * session only when generation went on after it. Errors: those of jt_session_eval; an
 * interruption is a result, not an error. */
JT_API jt_status jt_generate(jt_session *session, jt_sampler *sampler,
                             const int32_t *prompt, size_t n_prompt,
                             const jt_generate_options *options,
                             jt_generate_result *result, jt_err *err);

typedef struct jt_perplexity {
    size_t tokens, scored, windows;
    double nll;        /* mean negative log likelihood, in nats */
    double perplexity; /* exp(nll) */
    double error;      /* standard error of the perplexity */
    double seconds;
} jt_perplexity;

/* Perplexity of `tokens` over windows of n_ctx tokens that do not overlap; an
 * incomplete last window is left out; the first token of a window is not scored. The
 * session is emptied first. Errors: JT_E_ARG (fewer than n_ctx tokens, n_ctx < 2 or
 * larger than the session's), those of jt_session_eval. */
JT_API jt_status jt_measure_perplexity(jt_session *session, const int32_t *tokens,
                                       size_t count, int n_ctx, jt_progress progress,
                                       jt_perplexity *result, jt_err *err);

#ifdef __cplusplus
}
#endif
#endif
