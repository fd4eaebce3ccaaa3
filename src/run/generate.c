#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "junto/generate.h"
#include "run/ahead.h"
#include "run/stop.h"
#include "run/thoughts.h"

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
    jt_ahead text;
    jt_sampler *sampler;
    const jt_tokenizer *tokenizer;
    const jt_generate_options *options;
    jt_generate_result *result;
    jt_thoughts thoughts;
    size_t earlier; /* tokens of the thoughts before this one */
    jt_outlet answer, thought;
} generation;

static jt_status let_out(void *user, bool thought, const char *text, size_t len,
                         jt_err *err)
{
    generation *g = user;
    return jt_outlet_add(thought ? &g->thought : &g->answer, text, len, err);
}

/* A token of the text, sampled or forced: the sampler and the reader learn of it. */
static jt_status add_token(generation *g, int32_t token, jt_err *err)
{
    JT_TRY(jt_sampler_accept(g->sampler, token, err));
    jt_str piece = jt_token_piece(g->tokenizer, token);
    return jt_thoughts_add(&g->thoughts, piece.data, piece.len,
                           jt_token_is_special(g->tokenizer, token), err);
}

/* Sample a token and let its text out; *over when it was the last. */
static jt_status next_token(generation *g, int32_t *token, bool *over, jt_err *err)
{
    const jt_generate_options *o = g->options;
    *token = jt_sampler_next(g->sampler, jt_ahead_logits(&g->text));
    g->result->tokens++;
    *over = true;
    if (jt_token_is_end(g->tokenizer, *token) && !o->ignore_end) {
        g->result->finish = JT_FINISH_END;
        return jt_sampler_accept(g->sampler, *token, err);
    }
    bool inside = g->thoughts.inside;
    if (!inside)
        g->earlier = g->result->thought_tokens;
    JT_TRY(add_token(g, *token, err));
    g->result->thought_tokens += inside && g->thoughts.inside;
    if (o->on_text && o->on_text(o->user, "", 0)) /* also when no text comes out */
        g->answer.interrupted = true;
    if (g->answer.interrupted || g->thought.interrupted)
        g->result->finish = JT_FINISH_INTERRUPTED;
    else if (g->answer.stopped)
        g->result->finish = JT_FINISH_STOP;
    else
        *over = false;
    return JT_OK;
}

static bool is_full(const generation *g, size_t more)
{
    int room = jt_session_capacity(g->text.session) - jt_ahead_length(&g->text);
    return (size_t)room < more;
}

static bool budget_is_spent(const generation *g)
{
    int budget = g->options->thinking_budget;
    return g->thoughts.inside && budget >= 0 &&
           g->result->thought_tokens >= (size_t)budget;
}

/* Put tokens into the context that the model did not choose. */
static jt_status force(generation *g, const int32_t *tokens, size_t count, bool *over,
                       jt_err *err)
{
    *over = is_full(g, count);
    if (*over) {
        g->result->finish = JT_FINISH_CONTEXT;
        return JT_OK;
    }
    jt_ahead_settle(&g->text);
    JT_TRY(jt_session_eval(g->text.session, tokens, count, NULL, err));
    for (size_t i = 0; i < count; i++)
        JT_TRY(add_token(g, tokens[i], err));
    g->result->forced_tokens += count;
    return JT_OK;
}

/* The budget is spent: close the thought and let the answer begin. */
static jt_status end_thought(generation *g, bool *over, jt_err *err)
{
    const jt_thinking *marks = g->options->thinking;
    bool begun = g->result->thought_tokens > g->earlier;
    const char *text = begun ? marks->cut : marks->skip;
    jt_tokens tokens = {0};
    JT_TRY(jt_encode(g->tokenizer, text, strlen(text), JT_ENCODE_PARSE_SPECIAL, &tokens,
                     err));
    jt_status status = force(g, tokens.ids, tokens.count, over, err);
    free(tokens.ids);
    return status;
}

/* Sample and evaluate until something ends it. */
static jt_status generate_loop(generation *g, jt_err *err)
{
    int most = g->options->max_tokens;
    bool over = false;
    for (int n = 0;; n++) {
        int32_t token;
        if (most >= 0 && n >= most) {
            g->result->finish = JT_FINISH_LENGTH;
            return JT_OK;
        }
        if (budget_is_spent(g))
            JT_TRY(end_thought(g, &over, err));
        if (!over)
            JT_TRY(next_token(g, &token, &over, err));
        if (over)
            return JT_OK;
        if (is_full(g, 1)) {
            g->result->finish = JT_FINISH_CONTEXT;
            return JT_OK;
        }
        if (most >= 0 && n + 1 >= most)
            continue; /* nobody needs the logits after the last token */
        size_t room = most >= 0 ? (size_t)(most - n - 2) : SIZE_MAX;
        JT_TRY(jt_ahead_push(&g->text, token, room, err));
    }
}

static jt_status eval_prompt(generation *g, const int32_t *prompt, size_t count,
                             jt_err *err)
{
    jt_eval_options options = {.progress = g->options->progress};
    double start = jt_seconds();
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        JT_TRY(jt_sampler_accept(g->sampler, prompt[i], err));
    if (g->options->whole)
        kept = jt_session_reuse(g->text.session, prompt, count);
    JT_TRY(
        jt_session_eval(g->text.session, prompt + kept, count - kept, &options, err));
    g->result->prompt_tokens = count - kept;
    g->result->kept_tokens = kept;
    g->result->prompt_seconds = jt_seconds() - start;
    return JT_OK;
}

static jt_status finish(generation *g, jt_status status, jt_err *err)
{
    jt_ahead_settle(&g->text);
    g->result->passes = g->text.passes;
    g->result->drafted = g->text.drafted;
    g->result->accepted = g->text.accepted;
    if (status == JT_OK)
        status = jt_thoughts_finish(&g->thoughts, err);
    jt_outlet_finish(&g->thought);
    jt_outlet_finish(&g->answer);
    jt_thoughts_free(&g->thoughts);
    jt_outlet_free(&g->thought);
    jt_outlet_free(&g->answer);
    return status;
}

jt_status jt_generate(jt_session *session, jt_sampler *sampler, const int32_t *prompt,
                      size_t n_prompt, const jt_generate_options *options,
                      jt_generate_result *result, jt_err *err)
{
    generation g = {.sampler = sampler,
                    .tokenizer = jt_model_tokenizer(session->model),
                    .options = options,
                    .result = result,
                    .thoughts = {.marks = options->thinking,
                                 .inside = options->thinking && options->in_thought,
                                 .trim = options->in_thought,
                                 .out = let_out,
                                 .user = &g},
                    .answer = {.stop = options->stop,
                               .n_stop = options->n_stop,
                               .on_text = options->on_text,
                               .user = options->user},
                    .thought = {.on_text = options->on_thought, .user = options->user}};
    *result = (jt_generate_result){0};
    if (!g.tokenizer)
        return jt_fail(err, JT_E_UNSUPPORTED, "the model has no vocabulary");
    jt_status status = jt_ahead_init(&g.text, session, options->speculation, err);
    if (status == JT_OK)
        status = eval_prompt(&g, prompt, n_prompt, err);
    double start = jt_seconds();
    if (status == JT_OK) {
        status = finish(&g, generate_loop(&g, err), err);
        result->seconds = jt_seconds() - start;
    } else if (status == JT_E_INTERRUPTED) {
        result->finish = JT_FINISH_INTERRUPTED;
        status = JT_OK;
    }
    jt_ahead_free(&g.text);
    return status;
}
