#include "serve/answer.h"

#include <stdlib.h>
#include <string.h>

static int index_of(const jt_task *c)
{
    return (int)(c - c->work->choice);
}

/* ---- plain answers ---- */

static int append(const char *text, size_t len, void *to)
{
    return jt_buffer_add(to, text, len) ? 0 : -1;
}

/* Free `json`, which may be NULL; false: no memory. */
static bool add_json(jt_buffer *out, json_t *json)
{
    enum {
        FORM = JSON_COMPACT | JSON_REAL_PRECISION(9)
    }; /* digits that tell floats apart */
    bool fits = json && json_dump_callback(json, append, out, FORM) == 0;
    json_decref(json);
    return fits;
}

void jt_answer_json(jt_http_answer *answer, unsigned status, json_t *json)
{
    static const char none[] =
        "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
        "\"param\":null,\"code\":null}}";
    jt_buffer text = {0};
    answer->status = status;
    answer->type = "application/json";
    if (!add_json(&text, json)) {
        text.len = 0;
        answer->status = 500;
        (void)jt_buffer_add(&text, none, sizeof none - 1); /* or an empty body */
    }
    answer->body = text.data;
    answer->len = text.len;
}

void jt_answer_problem(jt_http_answer *answer, const jt_problem *p)
{
    answer->retry_after = p->retry;
    jt_answer_json(answer, p->status, jt_problem_json(p));
}

/* ---- parts ---- */

/* Of the replies to a prompt that which found most of it in memory. */
static size_t most_kept(const jt_work *w, const jt_tokens *prompt)
{
    size_t most = 0;
    for (size_t i = 0; i < w->n; i++) {
        const jt_task *c = &w->choice[i];
        if (c->prompt == prompt && c->result.kept_tokens > most)
            most = c->result.kept_tokens;
    }
    return most;
}

static json_t *usage(const jt_work *w)
{
    json_int_t prompt = (json_int_t)jt_work_prompt_tokens(w), kept = 0, tokens = 0,
               thoughts = 0;
    for (size_t i = 0; i < w->n; i++) {
        tokens += (json_int_t)w->choice[i].result.tokens;
        thoughts += (json_int_t)w->choice[i].result.thought_tokens;
    }
    for (size_t i = 0; i < w->n_prompts; i++)
        kept += (json_int_t)most_kept(w, &w->prompt[i]);
    return json_pack("{sI sI sI s{sI} s{sI}}", "prompt_tokens", prompt,
                     "completion_tokens", tokens, "total_tokens", prompt + tokens,
                     "prompt_tokens_details", "cached_tokens", kept,
                     "completion_tokens_details", "reasoning_tokens", thoughts);
}

/* The object around choices; takes them over. */
static json_t *envelope(const jt_answer_head *head, const char *object, json_t *choices)
{
    return json_pack("{ss ss sI ss so}", "id", head->id, "object", object, "created",
                     (json_int_t)head->created, "model", head->model, "choices",
                     choices);
}

/* `what` and `logprobs` are taken over. */
static json_t *choice_of(const jt_task *c, const char *key, json_t *what,
                         json_t *logprobs, const char *finish)
{
    return json_pack("{si so so ss?}", "index", index_of(c), key, what, "logprobs",
                     logprobs, "finish_reason", finish);
}

/* ---- tokens ---- */

static json_t *token_text(const jt_task *c, int32_t id)
{
    jt_str piece = jt_token_piece(c->work->tokenizer, id);
    jt_buffer text = {.data = (char *)piece.data, .len = piece.len};
    return jt_buffer_json(&text);
}

/* JSON has no infinity. */
static json_t *logprob(jt_scored token)
{
    return json_real(token.logprob > -9999.0f ? token.logprob : -9999.0);
}

static json_t *token_json(const jt_task *c, jt_scored token)
{
    jt_str piece = jt_token_piece(c->work->tokenizer, token.id);
    json_t *bytes = json_array();
    for (size_t i = 0; i < piece.len; i++)
        json_array_append_new(bytes, json_integer((unsigned char)piece.data[i]));
    return json_pack("{so so so}", "token", token_text(c, token.id), "logprob",
                     logprob(token), "bytes", bytes);
}

json_t *jt_answer_tokens(const jt_task *c, const jt_said *said)
{
    json_t *content = json_array();
    for (size_t i = 0; i < said->n_sampled; i++) {
        const jt_sampled *s = &said->sampled[i];
        json_t *item = token_json(c, s->token), *top = json_array();
        for (size_t k = 0; k < s->n_top; k++)
            json_array_append_new(top, token_json(c, s->top[k]));
        json_object_set_new(item, "top_logprobs", top);
        json_array_append_new(content, item);
    }
    return content;
}

static json_t *chat_logprobs(const jt_task *c, const jt_said *said)
{
    return json_pack("{so sn}", "content", jt_answer_tokens(c, said), "refusal");
}

/* As the older interface has it: lists side by side. */
static json_t *text_logprobs(const jt_task *c, const jt_said *said)
{
    json_t *tokens = json_array(), *values = json_array(), *tops = json_array();
    for (size_t i = 0; i < said->n_sampled; i++) {
        const jt_sampled *s = &said->sampled[i];
        json_t *top = json_object();
        json_array_append_new(tokens, token_text(c, s->token.id));
        json_array_append_new(values, logprob(s->token));
        for (size_t k = 0; k < s->n_top; k++) {
            json_t *name = token_text(c, s->top[k].id);
            json_object_set_new(top, json_string_value(name), logprob(s->top[k]));
            json_decref(name);
        }
        json_array_append_new(tops, top);
    }
    return json_pack("{so so so}", "tokens", tokens, "token_logprobs", values,
                     "top_logprobs", tops);
}

/* null where nobody asks. */
static json_t *logprobs_of(const jt_task *c, const jt_said *said)
{
    const jt_ask *ask = &c->work->ask;
    if (!ask->logprobs)
        return json_null();
    return ask->chat ? chat_logprobs(c, said) : text_logprobs(c, said);
}

/* ---- traces ---- */

/* Set "junto" of `json` to {key: value}, which is taken over; both may be NULL. */
static bool set_trace(json_t *json, const char *key, json_t *value)
{
    json_t *trace = json_pack("{so}", key, value);
    return json && json_object_set_new(json, "junto", trace) == 0;
}

static json_t *prompt_json(const jt_work *w)
{
    json_t *ids = json_array();
    for (size_t i = 0; i < w->prompt->count; i++) {
        if (json_array_append_new(ids, json_integer(w->prompt->ids[i]))) {
            json_decref(ids);
            return NULL;
        }
    }
    return ids;
}

/* A choice, and how its tokens went; takes it over. */
static json_t *with_picks(json_t *choice, const jt_task *c, const jt_picks *picks)
{
    if (!c->work->ask.trace ||
        set_trace(choice, "tokens", jt_picks_json(picks, c->work->tokenizer)))
        return choice;
    json_decref(choice);
    return NULL;
}

/* ---- the whole ---- */

static json_t *message(const jt_said *words)
{
    bool quiet = words->calls && words->answer.len == 0;
    json_t *m = json_pack("{ss so}", "role", "assistant", "content",
                          quiet ? json_null() : jt_buffer_json(&words->answer));
    int failed = 0;
    if (words->thought.len)
        failed |= json_object_set_new(m, "reasoning_content",
                                      jt_buffer_json(&words->thought));
    if (words->calls)
        failed |= json_object_set_new(m, "tool_calls", jt_calls_join(words->calls));
    if (!failed)
        return m;
    json_decref(m);
    return NULL;
}

static json_t *whole_choice(jt_task *c)
{
    jt_said words;
    bool chat = c->work->ask.chat, fits = jt_task_fetch(c, &words);
    json_t *what = !fits  ? NULL
                   : chat ? message(&words)
                          : jt_buffer_json(&words.answer);
    json_t *choice = choice_of(c, chat ? "message" : "text", what,
                               logprobs_of(c, &words), jt_task_finish(c));
    choice = with_picks(choice, c, &words.picks);
    jt_said_free(&words);
    return choice;
}

json_t *jt_answer_whole(const jt_answer_head *head, jt_work *w)
{
    json_t *choices = json_array();
    for (size_t i = 0; i < w->n; i++) {
        if (json_array_append_new(choices, whole_choice(&w->choice[i]))) {
            json_decref(choices);
            return NULL;
        }
    }
    json_t *json =
        envelope(head, w->ask.chat ? "chat.completion" : "text_completion", choices);
    if (json && json_object_set_new(json, "usage", usage(w)) == 0 &&
        (!w->ask.trace || set_trace(json, "prompt", prompt_json(w))))
        return json;
    json_decref(json);
    return NULL;
}

/* ---- events ---- */

bool jt_answer_event(jt_buffer *out, json_t *json)
{
    return jt_buffer_add(out, "data: ", 6) && add_json(out, json) &&
           jt_buffer_add(out, "\n\n", 2);
}

/* An event with `choices`, which is taken over. Who asked for figures finds null in all
 * events but the last. */
static bool add_chunk(jt_buffer *out, const jt_answer_head *head, const jt_work *w,
                      json_t *choices, json_t *figures)
{
    json_t *json = envelope(
        head, w->ask.chat ? "chat.completion.chunk" : "text_completion", choices);
    bool fits = json && figures &&
                (!w->ask.include_usage || !json_object_set(json, "usage", figures));
    json_decref(figures);
    if (fits)
        return jt_answer_event(out, json);
    json_decref(json);
    return false;
}

/* `what` is a delta of a chat, or a text; it and `logprobs` are taken over. */
static bool add_choice(jt_buffer *out, const jt_answer_head *head, const jt_task *c,
                       json_t *what, json_t *logprobs, const char *finish)
{
    const char *key = c->work->ask.chat ? "delta" : "text";
    json_t *choices = json_pack("[o]", choice_of(c, key, what, logprobs, finish));
    return add_chunk(out, head, c->work, choices, json_null());
}

bool jt_answer_prompt(jt_buffer *out, const jt_answer_head *head, const jt_work *w)
{
    if (!w->ask.trace)
        return true;
    json_t *json = envelope(
        head, w->ask.chat ? "chat.completion.chunk" : "text_completion", json_array());
    if (set_trace(json, "prompt", prompt_json(w)))
        return jt_answer_event(out, json);
    json_decref(json);
    return false;
}

bool jt_answer_begin(jt_buffer *out, const jt_answer_head *head, const jt_task *c)
{
    json_t *role = json_pack("{ss ss}", "role", "assistant", "content", "");
    if (c->work->ask.chat)
        return add_choice(out, head, c, role, json_null(), NULL);
    json_decref(role);
    return true;
}

/* A delta of nothing. */
static json_t *nothing(const jt_task *c)
{
    return c->work->ask.chat ? json_object() : json_string("");
}

static bool add_picks(jt_buffer *out, const jt_answer_head *head, const jt_task *c,
                      const jt_picks *picks)
{
    const char *key = c->work->ask.chat ? "delta" : "text";
    json_t *choice =
        with_picks(choice_of(c, key, nothing(c), json_null(), NULL), c, picks);
    return add_chunk(out, head, c->work, json_pack("[o]", choice), json_null());
}

bool jt_answer_words(jt_buffer *out, const jt_answer_head *head, const jt_task *c,
                     const jt_said *words)
{
    bool chat = c->work->ask.chat, fits = true;
    if (words->thought.len)
        fits = add_choice(
            out, head, c,
            json_pack("{so}", "reasoning_content", jt_buffer_json(&words->thought)),
            json_null(), NULL);
    if (fits && (words->answer.len || words->n_sampled)) {
        json_t *text = jt_buffer_json(&words->answer);
        fits =
            add_choice(out, head, c, chat ? json_pack("{so}", "content", text) : text,
                       logprobs_of(c, words), NULL);
    }
    for (size_t i = 0; i < json_array_size(words->calls) && fits; i++)
        fits = add_choice(
            out, head, c,
            json_pack("{s[O]}", "tool_calls", json_array_get(words->calls, i)),
            json_null(), NULL);
    return fits && (words->picks.count == 0 || add_picks(out, head, c, &words->picks));
}

static bool add_error(jt_buffer *out, const jt_task *c)
{
    jt_problem problem;
    jt_refuse_err(&problem, NULL, &c->err);
    return jt_answer_event(out, jt_problem_json(&problem));
}

bool jt_answer_finish(jt_buffer *out, const jt_answer_head *head, const jt_task *c)
{
    return c->err.code == JT_OK
               ? add_choice(out, head, c, nothing(c), json_null(), jt_task_finish(c))
               : add_error(out, c);
}

bool jt_answer_end(jt_buffer *out, const jt_answer_head *head, const jt_work *w)
{
    static const char done[] = "data: [DONE]\n\n";
    if (w->ask.include_usage && !add_chunk(out, head, w, json_array(), usage(w)))
        return false;
    return jt_buffer_add(out, done, sizeof done - 1);
}
