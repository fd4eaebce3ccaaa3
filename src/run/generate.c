#include <stdlib.h>

#include "base/clock.h"
#include "junto/generate.h"
#include "run/session.h"
#include "run/stop.h"

const char *jt_finish_name(jt_finish finish)
{
    switch (finish) {
    case JT_FINISH_END:
        return "end";
    case JT_FINISH_STOP:
        return "stop";
    case JT_FINISH_LENGTH:
        return "length";
    case JT_FINISH_CONTEXT:
        return "context";
    case JT_FINISH_INTERRUPTED:
        return "interrupted";
    }
    return "?";
}

/* A generation in progress. */
typedef struct generation {
    jt_session *session;
    jt_sampler *sampler;
    const jt_tokenizer *tokenizer;
    const jt_generate_options *options;
    jt_generate_result *result;
    jt_outlet outlet;
} generation;

/* Sample a token and let its text out; true when the generation is over. */
static bool next_token(generation *g, int32_t *token, jt_status *status, jt_err *err)
{
    const jt_generate_options *o = g->options;
    *token = jt_sampler_next(g->sampler, jt_session_logits(g->session));
    g->result->tokens++;
    *status = jt_sampler_accept(g->sampler, *token, err);
    if (*status != JT_OK)
        return true;
    if (jt_token_is_end(g->tokenizer, *token) && !o->ignore_end) {
        g->result->finish = JT_FINISH_END;
        return true;
    }
    if (!jt_token_is_special(g->tokenizer, *token)) {
        jt_str piece = jt_token_piece(g->tokenizer, *token);
        *status = jt_outlet_add(&g->outlet, piece.data, piece.len, err);
    }
    if (o->on_text && o->on_text(o->user, "", 0)) /* also when no text comes out */
        g->outlet.interrupted = true;
    if (g->outlet.interrupted)
        g->result->finish = JT_FINISH_INTERRUPTED;
    else if (g->outlet.stopped)
        g->result->finish = JT_FINISH_STOP;
    return *status != JT_OK || g->outlet.interrupted || g->outlet.stopped;
}

/* Sample and evaluate until something ends it. */
static jt_status generate_loop(generation *g, jt_err *err)
{
    int most = g->options->max_tokens;
    jt_status status = JT_OK;
    for (int n = 0;; n++) {
        int32_t token;
        if (most >= 0 && n >= most) {
            g->result->finish = JT_FINISH_LENGTH;
            return JT_OK;
        }
        if (next_token(g, &token, &status, err))
            return status;
        if (jt_session_length(g->session) == jt_session_capacity(g->session)) {
            g->result->finish = JT_FINISH_CONTEXT;
            return JT_OK;
        }
        if (most >= 0 && n + 1 >= most)
            continue; /* nobody needs the logits after the last token */
        JT_TRY(jt_session_eval(g->session, &token, 1, NULL, err));
    }
}

static jt_status eval_prompt(generation *g, const int32_t *prompt, size_t count,
                             jt_err *err)
{
    jt_eval_options options = {.progress = g->options->progress};
    double start = jt_seconds();
    for (size_t i = 0; i < count; i++)
        JT_TRY(jt_sampler_accept(g->sampler, prompt[i], err));
    JT_TRY(jt_session_eval(g->session, prompt, count, &options, err));
    g->result->prompt_tokens = count;
    g->result->prompt_seconds = jt_seconds() - start;
    return JT_OK;
}

jt_status jt_generate(jt_session *session, jt_sampler *sampler, const int32_t *prompt,
                      size_t n_prompt, const jt_generate_options *options,
                      jt_generate_result *result, jt_err *err)
{
    generation g = {.session = session,
                    .sampler = sampler,
                    .tokenizer = jt_model_tokenizer(session->model),
                    .options = options,
                    .result = result,
                    .outlet = {.stop = options->stop,
                               .n_stop = options->n_stop,
                               .on_text = options->on_text,
                               .user = options->user}};
    *result = (jt_generate_result){0};
    if (!g.tokenizer)
        return jt_fail(err, JT_E_UNSUPPORTED, "the model has no vocabulary");
    jt_status status = eval_prompt(&g, prompt, n_prompt, err);
    if (status == JT_E_INTERRUPTED) {
        result->finish = JT_FINISH_INTERRUPTED;
        return JT_OK;
    }
    if (status != JT_OK)
        return status;
    double start = jt_seconds();
    status = generate_loop(&g, err);
    jt_outlet_finish(&g.outlet);
    jt_outlet_free(&g.outlet);
    result->seconds = jt_seconds() - start;
    return status;
}
