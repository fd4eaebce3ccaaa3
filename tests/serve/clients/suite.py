"""The official Python client of OpenAI against a server: suite.py JUNTO MODEL.

Needs the package `openai`, which the unit tests do without. Prints a line per call that
fails, and how many calls there were.
"""

import base64
import json
import re
import struct
import subprocess
import sys
import threading

import openai

TEMPLATE = ("{# <tool_call> name </think> #}{% for m in messages %}{{ m.content }}\n{% endfor %}"
            "{% if enable_thinking %}<think>{% endif %}")
PERSON = {"type": "object", "required": ["name", "age"], "additionalProperties": False,
          "properties": {"name": {"type": "string", "maxLength": 12},
                         "age": {"type": "integer", "minimum": 0, "maximum": 99}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "required": ["place"],
    "properties": {"place": {"enum": ["Bree", "Rohan"]}}}}}
NOTE = {"type": "function", "function": {"name": "note", "parameters": {
    "type": "object", "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 80, "maxLength": 120}}}}}
HELLO = [{"role": "user", "content": "Who is the king?"}]
CALLS = []


def call(function):
    CALLS.append(function)
    return function


def variants(**cases):
    """One call for each case, by its name."""
    def add(function):
        for name, fields in cases.items():
            CALLS.append(type("case", (), {
                "__name__": f"{function.__name__}: {name}",
                "__call__": lambda self, client, fields=fields: function(client, **fields)})())
        return function
    return add


def chat(client, **fields):
    return client.chat.completions.create(**{
        "model": "any", "messages": HELLO, "max_tokens": 12, "temperature": 0, **fields})


def text(client, **fields):
    return client.completions.create(**{
        "model": "any", "prompt": "The king said", "max_tokens": 12, "temperature": 0, **fields})


def response(client, **fields):
    return client.responses.create(**{
        "model": "any", "input": "Who is the king?", "max_output_tokens": 12, "temperature": 0,
        **fields})


@call
def models(client):
    (model,) = client.models.list().data
    assert model.object == "model"
    assert client.models.retrieve(model.id).id == model.id
    try:
        client.models.retrieve("none/such")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"
    else:
        raise AssertionError("found")


@variants(plain={}, two={"n": 2}, seed={"seed": 7, "temperature": 1}, top_p={"top_p": 0.5},
          stop={"stop": ["e"]}, penalties={"presence_penalty": 1, "frequency_penalty": 0.5},
          bias={"logit_bias": {"300": -100}}, completion={"max_completion_tokens": 5},
          user={"user": "me", "metadata": {"a": "b"}, "store": False},
          parts={"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
          system={"messages": [{"role": "system", "content": "Be short."}, *HELLO]},
          extra={"extra_body": {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1}})
def chats(client, **fields):
    reply = chat(client, **fields)
    assert reply.object == "chat.completion" and len(reply.choices) == fields.get("n", 1)
    for choice in reply.choices:
        assert choice.finish_reason in ("stop", "length") and choice.message.role == "assistant"
        assert choice.message.content is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


@variants(plain={}, two={"n": 2}, usage={"stream_options": {"include_usage": True}},
          stop={"stop": "the"}, seed={"seed": 3, "temperature": 1})
def streams(client, **fields):
    pieces, ends, usage = {}, {}, None
    for chunk in chat(client, stream=True, **fields):
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            pieces[choice.index] = pieces.get(choice.index, "") + (choice.delta.content or "")
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    fields.pop("stream_options", None)
    whole = chat(client, **fields)
    assert [pieces[c.index] for c in whole.choices] == [c.message.content for c in whole.choices]
    assert [ends[c.index] for c in whole.choices] == [c.finish_reason for c in whole.choices]
    assert usage is None or usage == whole.usage or usage.completion_tokens > 0


@variants(plain={}, tokens={"prompt": [300, 301, 302]}, list={"prompt": ["The king"]},
          stop={"stop": ["\n", "."]}, probabilities={"logprobs": 2}, none={"max_tokens": 0},
          two={"n": 2, "temperature": 1, "seed": 1},
          prompts={"prompt": ["The king", "The queen", "A goat"], "n": 2},
          token_lists={"prompt": [[300, 301], [302, 303, 304]]})
def texts(client, **fields):
    reply = text(client, **fields)
    prompts = fields.get("prompt", [""])
    several = len(prompts) if isinstance(prompts[0], (str, list)) else 1
    assert reply.object == "text_completion"
    assert [c.index for c in reply.choices] == list(range(several * fields.get("n", 1)))
    if "logprobs" in fields:
        assert len(reply.choices[0].logprobs.tokens) == reply.usage.completion_tokens


@call
def text_stream(client):
    pieces = [c.choices[0].text for c in text(client, stream=True) if c.choices]
    assert "".join(pieces) == text(client).choices[0].text


@variants(plain={}, top={"top_logprobs": 4})
def probabilities(client, **fields):
    content = chat(client, logprobs=True, **fields).choices[0].logprobs.content
    assert len(content) == 12 and all(t.logprob <= 0 for t in content)
    assert all(len(t.top_logprobs) == fields.get("top_logprobs", 0) for t in content)


@variants(schema={"type": "json_schema",
                  "json_schema": {"name": "p", "schema": PERSON, "strict": True}},
          object={"type": "json_object"})
def forms(client, **form):
    choice = chat(client, response_format=form, max_tokens=200).choices[0]
    if form["type"] == "json_schema" or choice.finish_reason == "stop":
        value = json.loads(choice.message.content)
        assert form["type"] == "json_object" or 0 <= value["age"] <= 99


@call
def parsed_form(client):
    from pydantic import BaseModel, Field

    class Person(BaseModel):
        name: str = Field(max_length=10)
        age: int = Field(ge=0, le=9)

    reply = client.chat.completions.parse(model="any", messages=HELLO, response_format=Person,
                                          temperature=0, max_tokens=120)
    assert 0 <= reply.choices[0].message.parsed.age <= 9


@call
def form_stream(client):
    form = {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}
    chunks = chat(client, response_format=form, stream=True, max_tokens=100)
    json.loads("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))


@call
def grammar(client):
    reply = chat(client, extra_body={"grammar": 'root ::= "yes" | "no"'})
    assert reply.choices[0].message.content in ("yes", "no")


@variants(required={"tool_choice": "required"},
          named={"tool_choice": {"type": "function", "function": {"name": "weather"}}})
def tools(client, **fields):
    reply = chat(client, tools=[TOOL], max_tokens=100, parallel_tool_calls=False, **fields)
    choice = reply.choices[0]
    (made,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and made.function.name == "weather"
    assert json.loads(made.function.arguments)["place"] in ("Bree", "Rohan")
    answered = chat(client, tools=[TOOL], messages=[
        *HELLO, choice.message, {"role": "tool", "tool_call_id": made.id, "content": "rain"}])
    assert answered.choices[0].message.content


@call
def tool_stream(client):
    stream = client.chat.completions.stream(
        model="any", messages=HELLO, tools=[{**TOOL, "function": {**TOOL["function"]}}],
        tool_choice="required", parallel_tool_calls=False, max_tokens=100, temperature=0)
    with stream as events:
        for _ in events:
            pass
        (made,) = events.get_final_completion().choices[0].message.tool_calls
    assert json.loads(made.function.arguments)["place"]


@variants(one={"parallel_tool_calls": False}, several={"parallel_tool_calls": True})
def tool_pieces(client, **fields):
    """The name first, then the arguments in pieces, which are those of the whole."""
    fields = {**fields, "tools": [NOTE], "tool_choice": "required", "max_tokens": 200}
    calls, pieces = [], 0
    for chunk in chat(client, stream=True, **fields):
        for delta in chunk.choices[0].delta.tool_calls or []:
            if delta.index == len(calls):
                assert delta.id and delta.type == "function"
                calls.append([delta.function.name, ""])
            assert delta.index == len(calls) - 1
            calls[-1][1] += delta.function.arguments
            pieces += 1
    whole = chat(client, **fields).choices[0].message.tool_calls
    assert calls == [[c.function.name, c.function.arguments] for c in whole]
    assert pieces > 2 * len(calls)


@variants(auto={"tool_choice": "auto"}, none={"tool_choice": "none"})
def tools_that_are_not_used(client, **fields):
    assert not chat(client, tools=[TOOL], **fields).choices[0].message.tool_calls


@call
def thoughts(client):
    reply = chat(client, max_tokens=20, extra_body={
        "chat_template_kwargs": {"enable_thinking": True}, "thinking_budget_tokens": 5,
        "ignore_eos": True})
    assert reply.choices[0].message.reasoning_content
    assert reply.usage.completion_tokens_details.reasoning_tokens == 5


@variants(plain={}, instructions={"instructions": "Be short."},
          items={"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]})
def responses(client, **fields):
    reply = response(client, **fields)
    assert reply.output_text and reply.usage.output_tokens <= 12
    assert reply.status in ("completed", "incomplete")


@call
def response_stream(client):
    events = list(response(client, stream=True))
    assert events[0].type == "response.created"
    whole = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert whole == response(client).output_text == events[-1].response.output_text


@call
def response_probabilities(client):
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 3}
    (part,) = response(client, **fields).output[0].content
    assert len(part.logprobs) == 12 and all(len(t.top_logprobs) == 3 for t in part.logprobs)
    assert b"".join(bytes(t.bytes) for t in part.logprobs).decode() == part.text
    events = list(response(client, stream=True, **fields))
    deltas = [t for e in events if e.type == "response.output_text.delta" for t in e.logprobs]
    (told,) = events[-1].response.output[0].content
    assert [t.logprob for t in deltas] == [t.logprob for t in told.logprobs]
    assert [t.token for t in deltas] == [t.token for t in part.logprobs]


@call
def response_form(client):
    form = {"format": {"type": "json_schema", "name": "p", "schema": PERSON}}
    json.loads(response(client, text=form, max_output_tokens=100).output_text)


@call
def response_tool(client):
    tool = {"type": "function", **TOOL["function"]}
    reply = response(client, tools=[tool], tool_choice="required", max_output_tokens=100,
                     parallel_tool_calls=False)
    assert reply.output[0].type == "function_call" and reply.output[0].name == "weather"


@call
def response_tool_stream(client):
    tool = {"type": "function", **NOTE["function"]}
    fields = {"model": "any", "input": "Who is the king?", "tools": [tool], "temperature": 0,
              "tool_choice": "required", "max_output_tokens": 200, "parallel_tool_calls": False}
    with client.responses.stream(**fields) as events:
        pieces = [e for e in events if e.type == "response.function_call_arguments.delta"]
        (made,) = events.get_final_response().output
    (whole,) = client.responses.create(**fields).output
    assert pieces[-1].snapshot == made.arguments == whole.arguments
    assert "".join(e.delta for e in pieces) == made.arguments and len(pieces) > 1
    assert len(json.loads(made.arguments)["text"]) >= 80


@call
def response_thoughts(client):
    events = list(response(client, stream=True, max_output_tokens=20, extra_body={
        "chat_template_kwargs": {"enable_thinking": True}, "thinking_budget_tokens": 5,
        "ignore_eos": True}))
    thought = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
    assert thought and events[-1].response.output[0].content[0].text == thought


@variants(one={"input": "The king"}, two={"input": ["The king", "The queen"]},
          tokens={"input": [300, 301]}, float={"input": "a", "encoding_format": "float"})
def embeddings(client, **fields):
    reply = client.embeddings.create(model="any", **fields)
    assert len(reply.data) == (2 if isinstance(fields["input"][0], str) and
                               isinstance(fields["input"], list) else 1)
    assert abs(sum(x * x for x in reply.data[0].embedding) - 1) < 1e-3


@variants(
    temperature={"temperature": "hot"}, negative={"temperature": -1}, count={"n": 0},
    stop={"stop": 5}, messages={"messages": []}, role={"messages": [{"content": "a"}]},
    image={"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "http://localhost/"}}]}]},
    format={"response_format": {"type": "xml"}},
    schema={"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"not": {}}}}},
    grammar={"extra_body": {"grammar": "root ::="+" a"}},
    choice={"tool_choice": "required"}, top={"top_logprobs": 3}, bias={"logit_bias": {"x": 1}},
    length={"messages": [{"role": "user", "content": "word " * 2000}]},
    policy={"extra_body": {"junto": {"policy": ["none-such"]}}})
def refusals(client, **fields):
    try:
        chat(client, **fields)
    except openai.BadRequestError as error:
        assert error.status_code == 400 and error.type == "invalid_request_error", error.body
        assert error.message and (error.param or error.code), error.body
    else:
        raise AssertionError("not refused")


@call
def unknown_path(client):
    try:
        client.post("/nope", cast_to=object, body={})
    except openai.NotFoundError as error:
        assert error.code == "unknown_url"
    else:
        raise AssertionError("found")


@call
def wrong_key(client):
    try:
        chat(client.with_options(api_key="wrong"))
    except openai.AuthenticationError as error:
        assert error.code == "invalid_api_key"
    else:
        raise AssertionError("let in")


@call
def cancellation(client):
    stream = chat(client, stream=True, max_tokens=900, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    assert chat(client).choices[0].message.content


@call
def many_at_once(client):
    alone, results = chat(client).choices[0].message.content, []
    threads = [threading.Thread(target=lambda: results.append(
        chat(client).choices[0].message.content)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 8


@call
def raw_response(client):
    raw = client.chat.completions.with_raw_response.create(
        model="any", messages=HELLO, max_tokens=2)
    assert raw.status_code == 200 and raw.parse().choices


@call
def packed_vectors(client):
    raw = client.embeddings.with_raw_response.create(model="any", input="a",
                                                     encoding_format="base64")
    data = json.loads(raw.text)["data"][0]["embedding"]
    assert len(struct.unpack(f"<{len(base64.b64decode(data)) // 4}f", base64.b64decode(data)))


def main():
    junto, model = sys.argv[1:]
    server = subprocess.Popen(
        [junto, "serve", model, "--port", "0", "-c", "1024", "--chat-template", TEMPLATE],
        stderr=subprocess.PIPE, text=True, env={"JUNTO_API_KEY": "key"})
    port = None
    for line in server.stderr:
        port = re.search(r"url=http://[^ ]*:(\d+)", line) or port
        if " ready " in line:
            break
    threading.Thread(target=server.stderr.read, daemon=True).start()
    failed = 0
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port[1]}/v1", api_key="key",
                       max_retries=0) as client:
        for function in CALLS:
            try:
                function(client)
            except Exception as error:
                failed += 1
                print(f"{function.__name__}: {type(error).__name__}: {error}")
    server.terminate()
    print(f"{len(CALLS)} calls, {failed} failed, server ended with {server.wait()}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
