#include "serve/responses.h"

#include <stdlib.h>
#include <string.h>

/* ---- objects ---- */

static json_t *text_part(const jt_buffer *text)
{
    return json_pack("{ss so s[]}", "type", "output_text", "text", jt_buffer_json(text),
                     "annotations");
}

/* The message; with content only when it is whole. */
static json_t *message(const jt_response *r, bool whole)
{
    json_t *content = whole ? json_pack("[o]", text_part(&r->answer)) : json_array();
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

static json_t *reasoning_item(const jt_response *r)
{
    return json_pack("{ss ss s[] s[{ss so}]}", "id", r->item, "type", "reasoning",
                     "summary", "content", "type", "reasoning_text", "text",
                     jt_buffer_json(&r->thought));
}

static json_t *output(const jt_response *r)
{
    json_t *list = json_array();
    if (r->thought.len)
        json_array_append_new(list, reasoning_item(r));
    if (r->answer.len || !r->calls)
        json_array_append_new(list, message(r, true));
    for (size_t i = 0; i < json_array_size(r->calls); i++)
        json_array_append_new(list, call_item(json_array_get(r->calls, i), true));
    return list;
}

static json_t *usage(const jt_work *w)
{
    const jt_generate_result *result = &w->choice[0].result;
    json_int_t in = (json_int_t)w->prompt.count, out = (json_int_t)result->tokens;
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

static bool take(jt_response *r, const jt_said *said)
{
    if (said->calls && !r->calls)
        r->calls = json_array();
    return jt_buffer_add(&r->answer, said->answer.data, said->answer.len) &&
           jt_buffer_add(&r->thought, said->thought.data, said->thought.len) &&
           (!said->calls || json_array_extend(r->calls, said->calls) == 0);
}

json_t *jt_response_whole(jt_response *r, const jt_answer_head *head, jt_work *w)
{
    jt_said said;
    bool fits = jt_task_fetch(&w->choice[0], &said) && take(r, &said);
    jt_said_free(&said);
    return fits ? object(head, w, status_of(w), output(r), usage(w)) : NULL;
}

void jt_response_free(jt_response *r)
{
    free(r->answer.data);
    free(r->thought.data);
    json_decref(r->calls);
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

static bool add_part(jt_response *r, jt_buffer *out, bool done)
{
    jt_buffer nothing = {0};
    return add_event(
        r, out, done ? "response.content_part.done" : "response.content_part.added",
        json_pack("{ss sI si so}", "item_id", r->message, "output_index", r->place,
                  "content_index", 0, "part", text_part(done ? &r->answer : &nothing)));
}

/* The answer begins: the thought before it is whole. */
static bool begin_message(jt_response *r, jt_buffer *out)
{
    if (r->speaks)
        return true;
    r->speaks = true;
    r->place = r->thought.len > 0;
    return (!r->thought.len || (add_item(r, out, 0, false, reasoning_item(r)) &&
                                add_item(r, out, 0, true, reasoning_item(r)))) &&
           add_item(r, out, r->place, false, message(r, false)) &&
           add_part(r, out, false);
}

static bool add_text(jt_response *r, jt_buffer *out, const jt_buffer *text)
{
    return add_event(r, out, "response.output_text.delta",
                     json_pack("{ss sI si so s[]}", "item_id", r->message,
                               "output_index", r->place, "content_index", 0, "delta",
                               jt_buffer_json(text), "logprobs"));
}

static bool end_message(jt_response *r, jt_buffer *out)
{
    return add_event(r, out, "response.output_text.done",
                     json_pack("{ss sI si so s[]}", "item_id", r->message,
                               "output_index", r->place, "content_index", 0, "text",
                               jt_buffer_json(&r->answer), "logprobs")) &&
           add_part(r, out, true) && add_item(r, out, r->place, true, message(r, true));
}

static bool add_call(jt_response *r, jt_buffer *out, const json_t *call,
                     json_int_t index)
{
    json_t *item = call_item(call, true);
    json_t *id = json_object_get(item, "id");
    json_t *arguments = json_object_get(item, "arguments");
    bool fits = item && add_item(r, out, index, false, call_item(call, false)) &&
                add_event(r, out, "response.function_call_arguments.delta",
                          json_pack("{sO sI sO}", "item_id", id, "output_index", index,
                                    "delta", arguments)) &&
                add_event(r, out, "response.function_call_arguments.done",
                          json_pack("{sO sI sO sO}", "item_id", id, "output_index",
                                    index, "arguments", arguments, "name",
                                    json_object_get(item, "name"))) &&
                add_item(r, out, index, true, json_incref(item));
    json_decref(item);
    return fits;
}

/* The reply is over: the message ends, calls follow it. */
static bool add_end(jt_response *r, jt_buffer *out, const jt_answer_head *head,
                    jt_work *w)
{
    if (w->choice[0].err.code != JT_OK) {
        jt_problem problem;
        jt_refuse_err(&problem, NULL, &w->choice[0].err);
        json_t *json = jt_problem_json(&problem);
        json_t *event = json_incref(json_object_get(json, "error"));
        json_decref(json);
        return add_event(r, out, "error", event);
    }
    bool fits = (r->calls && !r->speaks) || begin_message(r, out);
    if (fits && r->speaks)
        fits = end_message(r, out);
    json_int_t index = r->speaks ? r->place + 1 : 0;
    for (size_t i = 0; i < json_array_size(r->calls) && fits; i++)
        fits = add_call(r, out, json_array_get(r->calls, i), index + (json_int_t)i);
    const char *status = status_of(w);
    return fits &&
           add_state(r, out,
                     status[0] == 'i' ? "response.incomplete" : "response.completed",
                     object(head, w, status, output(r), usage(w)));
}

bool jt_response_news(jt_response *r, jt_buffer *out, const jt_answer_head *head,
                      jt_work *w, bool *over)
{
    jt_said said;
    bool fits = jt_task_fetch(&w->choice[0], &said);
    if (fits && said.answer.len) {
        fits = jt_buffer_add(&r->thought, said.thought.data, said.thought.len);
        said.thought.len = 0;
        fits = fits && begin_message(r, out) && add_text(r, out, &said.answer);
    }
    fits = fits && take(r, &said);
    *over = said.over;
    jt_said_free(&said);
    return fits && (!*over || add_end(r, out, head, w));
}
