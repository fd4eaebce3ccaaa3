#include "run/reply.h"

#include <stdlib.h>
#include <string.h>

#include "run/sampler.h"

static jt_status let_out(void *user, bool thought, const char *text, size_t len,
                         jt_err *err)
{
    jt_reply *r = user;
    if (!thought && r->loose) /* the rest of a token that ended a thought */
        JT_TRY(jt_constraint_accept(r->options->constraint, text, len, err));
    return jt_outlet_add(thought ? &r->thought : &r->answer, text, len, err);
}

void jt_reply_start(jt_reply *r, const jt_tokenizer *tokenizer, jt_sampler *sampler,
                    const jt_generate_options *o, jt_generate_result *result)
{
    *result = (jt_generate_result){0};
    if (o->constraint)
        jt_constraint_reset(o->constraint);
    *r = (jt_reply){.sampler = sampler,
                    .tokenizer = tokenizer,
                    .options = o,
                    .result = result,
                    .thoughts = {.marks = o->thinking,
                                 .inside = o->thinking && o->in_thought,
                                 .trim = o->in_thought,
                                 .out = let_out,
                                 .user = r},
                    .answer = {.stop = o->stop,
                               .n_stop = o->n_stop,
                               .on_text = o->on_text,
                               .user = o->user},
                    .thought = {.on_text = o->on_thought, .user = o->user}};
}

jt_status jt_reply_hear(jt_reply *r, const int32_t *prompt, size_t count, jt_err *err)
{
    for (size_t i = 0; i < count; i++)
        JT_TRY(jt_sampler_accept(r->sampler, prompt[i], err));
    return JT_OK;
}

static jt_status end_with(jt_reply *r, jt_finish finish)
{
    r->result->finish = finish;
    return JT_OK;
}

static bool is_shown(const jt_reply *r, jt_str piece)
{
    const char *const *text = r->options->shown;
    while (text && *text &&
           (strlen(*text) != piece.len || memcmp(*text, piece.data, piece.len) != 0))
        text++;
    return text && *text;
}

/* A token of the text, sampled or forced: the sampler and the reader learn of it. */
static jt_status add_token(jt_reply *r, int32_t token, jt_err *err)
{
    JT_TRY(jt_sampler_accept(r->sampler, token, err));
    jt_str piece = jt_token_piece(r->tokenizer, token);
    bool quiet = jt_token_is_special(r->tokenizer, token) && !is_shown(r, piece);
    return jt_thoughts_add(&r->thoughts, piece.data, piece.len, quiet, err);
}

static bool budget_is_spent(const jt_reply *r)
{
    int budget = r->options->thinking_budget;
    return r->thoughts.inside && !r->closed && budget >= 0 &&
           r->result->thought_tokens >= (size_t)budget;
}

/* The budget is spent: close the thought and let the answer begin. */
static jt_status end_thought(jt_reply *r, size_t room, jt_reply_step *step, jt_err *err)
{
    const jt_thinking *marks = r->options->thinking;
    bool begun = r->result->thought_tokens > r->earlier;
    const char *text = begun ? marks->cut : marks->skip;
    r->closing.count = 0;
    JT_TRY(jt_encode(r->tokenizer, text, strlen(text), JT_ENCODE_PARSE_SPECIAL,
                     &r->closing, err));
    if (room < r->closing.count)
        return end_with(r, JT_FINISH_CONTEXT);
    for (size_t i = 0; i < r->closing.count; i++)
        JT_TRY(add_token(r, r->closing.ids[i], err));
    r->closed = true;
    r->result->forced_tokens += r->closing.count;
    *step = (jt_reply_step){r->closing.ids, r->closing.count, true};
    return JT_OK;
}

/* The token that opens a thought, if the reply can begin with one; or -1. */
static int32_t opening_token(const jt_reply *r)
{
    const jt_thinking *marks = r->thoughts.marks;
    bool first = r->result->tokens == 1 && r->options->thinking_budget != 0;
    return marks && first
               ? jt_token_find(r->tokenizer, marks->open, strlen(marks->open))
               : -1;
}

/* Go on with r->token, if the form has it so. */
static jt_status take_fitting(jt_reply *r, bool *fits, jt_err *err)
{
    jt_constraint *c = r->options->constraint;
    jt_str piece = jt_token_piece(r->tokenizer, r->token);
    bool ends = jt_token_is_end(r->tokenizer, r->token);
    *fits = false;
    if (!ends && (jt_token_is_special(r->tokenizer, r->token) || piece.len == 0))
        return JT_OK;
    jt_status status = jt_constraint_accept(c, piece.data, ends ? 0 : piece.len, err);
    if (status == JT_E_FORMAT)
        return JT_OK;
    *fits = status == JT_OK && (!ends || jt_constraint_may_end(c));
    return status;
}

/* Sample a token of an answer that has a form. What the sampler chooses by itself is
 * tried first: that costs far less than to ask which of all tokens fit, and mostly
 * does.
 */
static jt_status sample_fitting(jt_reply *r, const float *logits, jt_err *err)
{
    const uint64_t *mask;
    size_t n_vocab = jt_vocab_size(r->tokenizer);
    int32_t opening = opening_token(r);
    bool fits;
    r->token = jt_sampler_next(r->sampler, logits);
    if (opening >= 0 && r->token == opening)
        return JT_OK;
    r->thoughts.marks = NULL; /* what looks like a thought from here on is text */
    JT_TRY(take_fitting(r, &fits, err));
    if (fits)
        return JT_OK;
    JT_TRY(jt_constraint_mask(r->options->constraint, &mask, err));
    r->token = jt_sampler_next_of(r->sampler, logits, mask, n_vocab);
    if (r->token < 0)
        return jt_fail(err, JT_E_UNSUPPORTED,
                       "no token of the vocabulary goes on as the grammar has it");
    return take_fitting(r, &fits, err);
}

static jt_status sample(jt_reply *r, const float *logits, jt_err *err)
{
    bool fitting = r->options->constraint && !r->thoughts.inside;
    r->result->tokens++;
    r->closed = false;
    r->loose = r->options->constraint && r->thoughts.inside;
    if (fitting)
        return sample_fitting(r, logits, err);
    r->token = jt_sampler_next(r->sampler, logits);
    return JT_OK;
}

static void tell(const jt_reply *r, const float *logits)
{
    const jt_generate_options *o = r->options;
    jt_sampled sampled = {.thought = r->thoughts.inside};
    if (!o->on_token)
        return;
    jt_score_token(&sampled, logits, jt_vocab_size(r->tokenizer), r->token, o->n_top);
    o->on_token(o->user, &sampled);
}

/* Sample a token and let its text out; *over when it was the last. */
static jt_status next_token(jt_reply *r, const float *logits, bool *over, jt_err *err)
{
    const jt_generate_options *o = r->options;
    JT_TRY(sample(r, logits, err));
    *over = true;
    if (jt_token_is_end(r->tokenizer, r->token) && (!o->ignore_end || o->constraint)) {
        r->result->finish = JT_FINISH_END;
        return jt_sampler_accept(r->sampler, r->token, err);
    }
    bool inside = r->thoughts.inside;
    if (!inside)
        r->earlier = r->result->thought_tokens;
    tell(r, logits);
    JT_TRY(add_token(r, r->token, err));
    r->result->thought_tokens += inside && r->thoughts.inside;
    if (o->on_text && o->on_text(o->user, "", 0)) /* also when no text comes out */
        r->answer.interrupted = true;
    if (r->answer.interrupted || r->thought.interrupted)
        return end_with(r, JT_FINISH_INTERRUPTED);
    if (r->answer.stopped)
        return end_with(r, JT_FINISH_STOP);
    if (o->constraint && !r->thoughts.inside && jt_constraint_is_over(o->constraint))
        return end_with(r, JT_FINISH_END);
    *over = false;
    return JT_OK;
}

static bool is_long_enough(const jt_reply *r)
{
    int most = r->options->max_tokens;
    return most >= 0 && r->result->tokens >= (size_t)most;
}

jt_status jt_reply_next(jt_reply *r, const float *logits, size_t room,
                        jt_reply_step *step, jt_err *err)
{
    bool over;
    *step = (jt_reply_step){0};
    if (is_long_enough(r))
        return end_with(r, JT_FINISH_LENGTH);
    if (budget_is_spent(r))
        return end_thought(r, room, step, err);
    JT_TRY(next_token(r, logits, &over, err));
    if (over)
        return JT_OK;
    if (room == 0)
        return end_with(r, JT_FINISH_CONTEXT);
    if (is_long_enough(r)) /* nobody needs the logits after the last token */
        return end_with(r, JT_FINISH_LENGTH);
    *step = (jt_reply_step){&r->token, 1, false};
    return JT_OK;
}

size_t jt_reply_left(const jt_reply *r)
{
    int most = r->options->max_tokens;
    return most >= 0 ? (size_t)most - r->result->tokens : SIZE_MAX;
}

jt_status jt_reply_end(jt_reply *r, jt_status status, jt_err *err)
{
    if (status == JT_OK)
        status = jt_thoughts_finish(&r->thoughts, err);
    jt_outlet_finish(&r->thought);
    jt_outlet_finish(&r->answer);
    jt_thoughts_free(&r->thoughts);
    jt_outlet_free(&r->thought);
    jt_outlet_free(&r->answer);
    free(r->closing.ids);
    return status;
}
