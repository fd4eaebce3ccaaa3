#include "base/clock.h"
#include "junto/generate.h"
#include "run/ahead.h"
#include "run/reply.h"

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
    jt_reply reply;
    const jt_generate_options *options;
    jt_generate_result *result;
} generation;

/* Put tokens into the context that the model did not choose. */
static jt_status force(jt_ahead *text, const jt_reply_step *step, jt_err *err)
{
    jt_ahead_settle(text);
    return jt_session_eval(text->session, step->tokens, step->count, NULL, err);
}

/* Sample and evaluate until something ends it. */
static jt_status generate_loop(generation *g, jt_err *err)
{
    jt_ahead *text = &g->text;
    for (;;) {
        jt_reply_step step;
        int room = jt_session_capacity(text->session) - jt_ahead_length(text);
        JT_TRY(
            jt_reply_next(&g->reply, jt_ahead_logits(text), (size_t)room, &step, err));
        if (step.count == 0)
            return JT_OK;
        if (step.forced)
            JT_TRY(force(text, &step, err));
        else
            JT_TRY(
                jt_ahead_push(text, step.tokens[0], jt_reply_left(&g->reply) - 1, err));
    }
}

static jt_status eval_prompt(generation *g, const int32_t *prompt, size_t count,
                             jt_err *err)
{
    jt_eval_options options = {.progress = g->options->progress};
    double start = jt_seconds();
    size_t kept = 0;
    JT_TRY(jt_reply_hear(&g->reply, prompt, count, err));
    if (g->options->whole)
        kept = jt_session_reuse(g->text.session, prompt, count);
    JT_TRY(
        jt_session_eval(g->text.session, prompt + kept, count - kept, &options, err));
    g->result->prompt_tokens = count - kept;
    g->result->kept_tokens = kept;
    g->result->prompt_seconds = jt_seconds() - start;
    return JT_OK;
}

static jt_status generate(generation *g, const int32_t *prompt, size_t count,
                          jt_err *err)
{
    JT_TRY(eval_prompt(g, prompt, count, err));
    double start = jt_seconds();
    jt_status status = generate_loop(g, err);
    jt_ahead_settle(&g->text);
    g->result->passes = g->text.passes;
    g->result->drafted = g->text.drafted;
    g->result->accepted = g->text.accepted;
    g->result->seconds = jt_seconds() - start;
    return status;
}

jt_status jt_generate(jt_session *session, jt_sampler *sampler, const int32_t *prompt,
                      size_t n_prompt, const jt_generate_options *options,
                      jt_generate_result *result, jt_err *err)
{
    const jt_tokenizer *tokenizer = jt_model_tokenizer(session->model);
    generation g = {.options = options, .result = result};
    *result = (jt_generate_result){0};
    if (!tokenizer)
        return jt_fail(err, JT_E_UNSUPPORTED, "the model has no vocabulary");
    jt_reply_start(&g.reply, tokenizer, sampler, options, result);
    jt_status status = jt_ahead_init(&g.text, session, options->speculation, err);
    if (status == JT_OK)
        status = generate(&g, prompt, n_prompt, err);
    status = jt_reply_end(&g.reply, status, err);
    jt_ahead_free(&g.text);
    if (status != JT_E_INTERRUPTED)
        return status;
    result->finish = JT_FINISH_INTERRUPTED;
    return JT_OK;
}
