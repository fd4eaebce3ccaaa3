#include "serve/responses.h"

#include <stdlib.h>
#include <string.h>

/* ---- objects ---- */

/* `tokens` may be NULL. */
static json_t *text_part(const jt_buffer *text, json_t *tokens)
{
    return json_pack("{ss so s[] so}", "type", "output_text", "text",
                     jt_buffer_json(text), "annotations", "logprobs",
                     tokens ? json_incref(tokens) : json_array());
}

/* The message; with content only when it is whole. */
static json_t *message(const jt_response *r, bool whole)
{
    json_t *content =
        whole ? json_pack("[o]", text_part(&r->answer, r->tokens)) : json_array();
    return json_pack("{ss ss ss ss so}", "id", r->message, "type", "message", "status",
                     whole ? "completed" : "in_progress", "role", "assistant",
                     "content", content);
}

static json_t *call_item(const json_t *call, bool whole)
{
    const json_t *function = json_object_get(call, "function");
    json_t *arguments = json_object_get(function, "arguments");
    const char *id = json_string_value(json_object_get(call, "id"));
    return json_pack("{ss+ ss ss sO so ss}", "id", "fc_", id, "type", "function_call",
                     "call_id", id, "name", json_object_get(function, "name"),
                     "arguments", whole ? json_incref(arguments) : json_string(""),
                     "status", whole ? "completed" : "in_progress");
}

static json_t *thought_part(const jt_buffer *text)
{
    return json_pack("{ss so}", "type", "reasoning_text", "text", jt_buffer_json(text));
}

/* With content only when it is whole. */
static json_t *thought_item(const jt_response *r, bool whole)
{
    json_t *content =
        whole ? json_pack("[o]", thought_part(&r->thought)) : json_array();
    return json_pack("{ss ss ss s[] so}", "id", r->item, "type", "reasoning", "status",
                     whole ? "completed" : "in_progress", "summary", "content",
                     content);
}

/* Where items stand: the thought comes first, the message where its text began. */
static json_int_t place_of_message(const jt_response *r, const jt_work *w)
{
    return (r->thought.len > 0) + (json_int_t)w->choice[0].calls.before;
}

static json_int_t place_of_call(const jt_response *r, const jt_work *w, size_t i)
{
    return (r->thought.len > 0) + (json_int_t)i +
           (r->answer.len && i >= w->choice[0].calls.before);
}

static json_t *output(const jt_response *r, const jt_work *w)
{
    json_t *list = json_array();
    if (r->thought.len)
        json_array_append_new(list, thought_item(r, true));
    for (size_t i = 0; i < json_array_size(r->calls); i++)
        json_array_append_new(list, call_item(json_array_get(r->calls, i), true));
    if (r->answer.len || !r->calls)
        json_array_insert_new(list, (size_t)place_of_message(r, w), message(r, true));
    return list;
}

static json_t *usage(const jt_work *w)
{
    const jt_generate_result *result = &w->choice[0].result;
    json_int_t in = (json_int_t)w->prompt->count, out = (json_int_t)result->tokens;
    return json_pack("{sI s{sI} sI s{sI} sI}", "input_tokens", in,
                     "input_tokens_details", "cached_tokens",
                     (json_int_t)result->kept_tokens, "output_tokens", out,
                     "output_tokens_details", "reasoning_tokens",
                     (json_int_t)result->thought_tokens, "total_tokens", in + out);
}

/* A field of the request in the answer, or its usual value, which is taken over. */
static json_t *echo(const jt_work *w, const char *name, json_t *usual)
{
    json_t *value = json_object_get(w->ask.root, name);
    if (!value)
        return usual;
    json_decref(usual);
    return json_incref(value);
}

/* The response; `out` and `figures` are taken over. */
static json_t *object(const jt_answer_head *head, const jt_work *w, const char *status,
                      json_t *out, json_t *figures)
{
    bool cut = strcmp(status, "incomplete") == 0;
    json_t *why = cut ? json_pack("{ss}", "reason", "max_output_tokens") : json_null();
    json_t *json = json_pack(
        "{ss ss sI ss sn so sn ss so sb sn s{s{ss}} sf sf ss s[] ss s{} so}", "id",
        head->id, "object", "response", "created_at", (json_int_t)head->created,
        "status", status, "error", "incomplete_details", why, "instructions", "model",
        head->model, "output", out, "parallel_tool_calls", w->ask.parallel,
        "previous_response_id", "text", "format", "type", "text", "temperature",
        (double)w->ask.sampling.temperature, "top_p", (double)w->ask.sampling.top_p,
        "truncation", "disabled", "tools", "service_tier", "default", "metadata",
        "usage", figures);
    json_object_set_new(json, "tool_choice",
                        echo(w, "tool_choice", json_string("auto")));
    json_object_set_new(json, "top_logprobs", json_integer(w->ask.n_top));
    json_object_set_new(json, "metadata", echo(w, "metadata", json_object()));
    json_object_set_new(json, "max_output_tokens", echo(w, "max_tokens", json_null()));
    return json;
}

static const char *status_of(const jt_work *w)
{
    bool cut = strcmp(jt_task_finish(&w->choice[0]), "length") == 0;
    return cut ? "incomplete" : "completed";
}

/* ---- what comes ---- */

json_t *jt_response_whole(jt_response *r, const jt_answer_head *head, jt_work *w)
{
    jt_said said;
    bool fits = jt_task_fetch(&w->choice[0], &said) &&
                jt_buffer_add(&r->answer, said.answer.data, said.answer.len) &&
                jt_buffer_add(&r->thought, said.thought.data, said.thought.len);
    if (fits && said.calls)
        fits = (r->calls = jt_calls_join(said.calls)) != NULL;
    if (fits && w->ask.logprobs)
        fits = (r->tokens = jt_answer_tokens(&w->choice[0], &said)) != NULL;
    jt_said_free(&said);
    return fits ? object(head, w, status_of(w), output(r, w), usage(w)) : NULL;
}

void jt_response_free(jt_response *r)
{
    free(r->answer.data);
    free(r->thought.data);
    free(r->arguments.data);
    json_decref(r->calls);
    json_decref(r->tokens);
}

/* ---- events ---- */

/* `json` is taken over. */
static bool add_event(jt_response *r, jt_buffer *out, const char *type, json_t *json)
{
    json_object_set_new(json, "type", json_string(type));
    json_object_set_new(json, "sequence_number", json_integer(r->sequence++));
    return jt_buffer_add(out, "event: ", 7) && jt_buffer_add(out, type, strlen(type)) &&
           jt_buffer_add(out, "\n", 1) && jt_answer_event(out, json);
}

static bool add_state(jt_response *r, jt_buffer *out, const char *type,
                      json_t *response)
{
    return add_event(r, out, type, json_pack("{so}", "response", response));
}

bool jt_response_begin(jt_response *r, jt_buffer *out, const jt_answer_head *head,
                       jt_work *w)
{
    static const char *const types[] = {"response.created", "response.in_progress"};
    bool fits = true;
    for (size_t i = 0; i < 2 && fits; i++)
        fits = add_state(r, out, types[i],
                         object(head, w, "in_progress", json_array(), json_null()));
    return fits;
}

static bool add_item(jt_response *r, jt_buffer *out, json_int_t index, bool done,
                     json_t *item)
{
    return add_event(r, out,
                     done ? "response.output_item.done" : "response.output_item.added",
                     json_pack("{sI so}", "output_index", index, "item", item));
}

/* An event about a part of an item, the only one, with a value of its own, which is
 * taken over. */
static bool add_about(jt_response *r, jt_buffer *out, const char *type,
                      const char *item, json_int_t place, const char *key,
                      json_t *value)
{
    return add_event(r, out, type,
                     json_pack("{ss sI si so}", "item_id", item, "output_index", place,
                               "content_index", 0, key, value));
}

/* ---- the thought ---- */

static bool go_on_thinking(jt_response *r, jt_buffer *out, const jt_buffer *text)
{
    static const jt_buffer nothing = {0};
    bool fits = r->thinks || (add_item(r, out, 0, false, thought_item(r, false)) &&
                              add_about(r, out, "response.content_part.added", r->item,
                                        0, "part", thought_part(&nothing)));
    r->thinks = true;
    return fits && jt_buffer_add(&r->thought, text->data, text->len) &&
           add_about(r, out, "response.reasoning_text.delta", r->item, 0, "delta",
                     jt_buffer_json(text));
}

static bool end_thought(jt_response *r, jt_buffer *out)
{
    if (!r->thinks)
        return true;
    r->thinks = false;
    return add_about(r, out, "response.reasoning_text.done", r->item, 0, "text",
                     jt_buffer_json(&r->thought)) &&
           add_about(r, out, "response.content_part.done", r->item, 0, "part",
                     thought_part(&r->thought)) &&
           add_item(r, out, 0, true, thought_item(r, true));
}

/* ---- the message ---- */

/* Tokens as events have them. */
static json_t *without_bytes(const json_t *tokens)
{
    json_t *all = json_deep_copy(tokens), *token, *top;
    size_t i, k;
    json_array_foreach(all, i, token)
    {
        json_object_del(token, "bytes");
        json_array_foreach(json_object_get(token, "top_logprobs"), k, top)
        {
            json_object_del(top, "bytes");
        }
    }
    return all;
}

/* What text events have besides; `tokens` may be NULL. */
static bool add_text_event(jt_response *r, jt_buffer *out, const jt_work *w,
                           const char *type, const char *key, const jt_buffer *text,
                           const json_t *tokens)
{
    return add_event(r, out, type,
                     json_pack("{ss sI si so so}", "item_id", r->message,
                               "output_index", place_of_message(r, w), "content_index",
                               0, key, jt_buffer_json(text), "logprobs",
                               tokens ? without_bytes(tokens) : json_array()));
}

static bool begin_message(jt_response *r, jt_buffer *out, const jt_work *w)
{
    static const jt_buffer nothing = {0};
    if (r->speaks)
        return true;
    r->speaks = true;
    json_int_t place = place_of_message(r, w);
    return end_thought(r, out) && add_item(r, out, place, false, message(r, false)) &&
           add_about(r, out, "response.content_part.added", r->message, place, "part",
                     text_part(&nothing, NULL));
}

static bool go_on_speaking(jt_response *r, jt_buffer *out, const jt_work *w,
                           const jt_said *said)
{
    const jt_buffer *text = &said->answer;
    json_t *tokens =
        w->ask.logprobs ? jt_answer_tokens(&w->choice[0], said) : json_array();
    if (!r->tokens)
        r->tokens = json_array();
    bool fits =
        json_array_extend(r->tokens, tokens) == 0 && begin_message(r, out, w) &&
        jt_buffer_add(&r->answer, text->data, text->len) &&
        add_text_event(r, out, w, "response.output_text.delta", "delta", text, tokens);
    json_decref(tokens);
    return fits;
}

static bool end_message(jt_response *r, jt_buffer *out, const jt_work *w)
{
    json_int_t place = place_of_message(r, w);
    return add_text_event(r, out, w, "response.output_text.done", "text", &r->answer,
                          r->tokens) &&
           add_about(r, out, "response.content_part.done", r->message, place, "part",
                     text_part(&r->answer, r->tokens)) &&
           add_item(r, out, place, true, message(r, true));
}

/* ---- calls ---- */

/* An event about the arguments of a call; `value` is taken over. */
static bool add_arguments(jt_response *r, jt_buffer *out, const char *type,
                          const json_t *item, json_int_t place, const char *key,
                          json_t *value)
{
    json_t *event = json_pack("{sO sI so}", "item_id", json_object_get(item, "id"),
                              "output_index", place, key, value);
    if (strcmp(key, "arguments") == 0)
        json_object_set(event, "name", json_object_get(item, "name"));
    return add_event(r, out, type, event);
}

static bool end_call(jt_response *r, jt_buffer *out, const jt_work *w)
{
    size_t i = json_array_size(r->calls) - 1;
    if (!r->calls_on)
        return true;
    r->calls_on = false;
    json_t *call = json_array_get(r->calls, i);
    json_object_set_new(json_object_get(call, "function"), "arguments",
                        jt_buffer_json(&r->arguments));
    json_t *item = call_item(call, true);
    json_int_t place = place_of_call(r, w, i);
    return add_arguments(r, out, "response.function_call_arguments.done", item, place,
                         "arguments", jt_buffer_json(&r->arguments)) &&
           add_item(r, out, place, true, item);
}

static bool begin_call(jt_response *r, jt_buffer *out, const jt_work *w, json_t *delta)
{
    size_t i = json_array_size(r->calls);
    if (!r->calls)
        r->calls = json_array();
    if (json_array_append(r->calls, delta))
        return false;
    r->calls_on = true;
    r->arguments.len = 0;
    return end_thought(r, out) &&
           add_item(r, out, place_of_call(r, w, i), false, call_item(delta, false));
}

static bool go_on_calling(jt_response *r, jt_buffer *out, const jt_work *w,
                          json_t *delta)
{
    json_t *arguments =
        json_object_get(json_object_get(delta, "function"), "arguments");
    if (json_object_get(delta, "id"))
        return end_call(r, out, w) && begin_call(r, out, w, delta);
    size_t i = json_array_size(r->calls) - 1;
    json_t *item = call_item(json_array_get(r->calls, i), false);
    bool fits = jt_buffer_add(&r->arguments, json_string_value(arguments),
                              json_string_length(arguments)) &&
                add_arguments(r, out, "response.function_call_arguments.delta", item,
                              place_of_call(r, w, i), "delta", json_incref(arguments));
    json_decref(item);
    return fits;
}

/* ---- the whole of it ---- */

static bool add_failure(jt_response *r, jt_buffer *out, const jt_work *w)
{
    jt_problem problem;
    jt_refuse_err(&problem, NULL, &w->choice[0].err);
    json_t *json = jt_problem_json(&problem);
    json_t *event = json_incref(json_object_get(json, "error"));
    json_decref(json);
    return add_event(r, out, "error", event);
}

/* The reply is over. Where there is neither text nor a call, the message is empty. */
static bool add_end(jt_response *r, jt_buffer *out, const jt_answer_head *head,
                    jt_work *w)
{
    if (w->choice[0].err.code != JT_OK)
        return add_failure(r, out, w);
    bool fits = end_thought(r, out) && (r->calls || begin_message(r, out, w)) &&
                (!r->speaks || end_message(r, out, w)) && end_call(r, out, w);
    const char *status = status_of(w);
    return fits &&
           add_state(r, out,
                     status[0] == 'i' ? "response.incomplete" : "response.completed",
                     object(head, w, status, output(r, w), usage(w)));
}

/* With those calls that came before any text, or with the others. */
static bool go_on_with_calls(jt_response *r, jt_buffer *out, const jt_work *w,
                             const json_t *deltas, bool early)
{
    json_int_t before = (json_int_t)w->choice[0].calls.before;
    bool fits = true;
    for (size_t i = 0; i < json_array_size(deltas) && fits; i++) {
        json_t *delta = json_array_get(deltas, i);
        if ((json_integer_value(json_object_get(delta, "index")) < before) == early)
            fits = go_on_calling(r, out, w, delta);
    }
    return fits;
}

bool jt_response_news(jt_response *r, jt_buffer *out, const jt_answer_head *head,
                      jt_work *w, bool *over)
{
    jt_said said;
    bool fits = jt_task_fetch(&w->choice[0], &said);
    if (fits && said.thought.len)
        fits = go_on_thinking(r, out, &said.thought);
    if (fits)
        fits = go_on_with_calls(r, out, w, said.calls, true);
    if (fits && (said.answer.len || (r->speaks && said.n_sampled)))
        fits = go_on_speaking(r, out, w, &said);
    if (fits)
        fits = go_on_with_calls(r, out, w, said.calls, false);
    *over = said.over;
    jt_said_free(&said);
    return fits && (!*over || add_end(r, out, head, w));
}
