"""/v1/responses."""

import json
import unittest

from server import ServerTest

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "time", "parameters": {
    "type": "object", "properties": {"zone": {"enum": ["a", "b"]}}, "required": ["zone"]}}


def ask(**fields):
    return {"model": "any", "input": "Who is the king?", "temperature": 0,
            "max_output_tokens": 12, **fields}


class Responses(ServerTest):
    flags = ("-c", 512, "--chat-template", "{# <tool_call> name </think> #}{% for m in messages "
             "%}{{ m.role }}: {{ m.content }}\n{% endfor %}")

    def events(self, body):
        reply = self.server.post(PATH, {**body, "stream": True})
        self.assertEqual(reply.status, 200, reply.data)
        events = []
        for block in reply.data.decode().split("\n\n")[:-1]:
            name, data = block.split("\n")
            event = json.loads(data.removeprefix("data: "))
            self.assertEqual(name, "event: " + event["type"])
            self.assertEqual(event["sequence_number"], len(events))
            events.append(event)
        return events

    def test_a_text(self):
        response = self.server.post(PATH, ask()).json()
        self.assertEqual((response["object"], response["status"]), ("response", "incomplete"))
        self.assertEqual(response["incomplete_details"], {"reason": "max_output_tokens"})
        (message,) = response["output"]
        (part,) = message["content"]
        self.assertEqual((message["type"], message["role"]), ("message", "assistant"))
        self.assertEqual(response["usage"]["output_tokens"], 12)
        chat = self.server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Who is the king?"}], "temperature": 0,
            "max_tokens": 12}).json()
        self.assertEqual(part["text"], chat["choices"][0]["message"]["content"])

    def test_a_stream(self):
        whole = self.server.post(PATH, ask()).json()["output"][0]["content"][0]["text"]
        events = self.events(ask())
        types = [e["type"].removeprefix("response.") for e in events]
        self.assertEqual(types[:4], ["created", "in_progress", "output_item.added",
                                     "content_part.added"])
        self.assertEqual(types[-4:], ["output_text.done", "content_part.done",
                                      "output_item.done", "incomplete"])
        self.assertEqual(set(types[4:-4]), {"output_text.delta"})
        self.assertEqual("".join(e["delta"] for e in events[4:-4]), whole)
        self.assertEqual(events[-4]["text"], whole)
        self.assertEqual(events[-1]["response"]["output"][0]["content"][0]["text"], whole)

    def test_probabilities(self):
        """Those of a chat."""
        def plain(tokens):
            return [{"token": t["token"], "logprob": t["logprob"],
                     **({"top_logprobs": plain(t["top_logprobs"])} if "top_logprobs" in t else {})}
                    for t in tokens]
        chat = self.server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Who is the king?"}], "temperature": 0,
            "max_tokens": 12, "logprobs": True, "top_logprobs": 2}).json()
        tokens = chat["choices"][0]["logprobs"]["content"]
        body = ask(include=["message.output_text.logprobs"], top_logprobs=2)
        response = self.server.post(PATH, body).json()
        self.assertEqual(response["output"][0]["content"][0]["logprobs"], tokens)
        self.assertEqual(response["top_logprobs"], 2)
        events = self.events(body)
        deltas = [t for e in events if e["type"] == "response.output_text.delta"
                  for t in e["logprobs"]]
        (done,) = (e for e in events if e["type"] == "response.output_text.done")
        self.assertEqual(deltas, plain(tokens))
        self.assertEqual(done["logprobs"], plain(tokens))
        self.assertEqual(events[-1]["response"]["output"], [
            {**response["output"][0], "id": events[-1]["response"]["output"][0]["id"]}])
        silent = self.server.post(PATH, ask(include=["reasoning.encrypted_content"])).json()
        self.assertEqual(silent["output"][0]["content"][0]["logprobs"], [])
        one = self.server.post(PATH, ask(include=["message.output_text.logprobs"])).json()
        self.assertEqual({len(t["top_logprobs"]) for t in
                          one["output"][0]["content"][0]["logprobs"]}, {0})

    def test_items(self):
        items = [{"role": "developer", "content": "Be short."},
                 {"type": "message", "role": "user",
                  "content": [{"type": "input_text", "text": "Who is"},
                              {"type": "input_text", "text": " the king?"}]},
                 {"type": "reasoning", "summary": []},
                 {"type": "function_call", "call_id": "c1", "name": "time", "arguments": "{}"},
                 {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
                 {"type": "function_call_output", "call_id": "c1", "output": "noon"}]
        text = self.server.post(PATH, ask(input=items)).json()["output"][0]["content"][0]["text"]
        plain = self.server.text("system: Be short.\nuser: Who is the king?\nassistant: None\n"
                                 "tool: noon\n", max_tokens=12)
        self.assertEqual(text, plain)
        self.assertEqual(self.server.post(PATH, ask(input=items[1:2], instructions="Be short."))
                         .json()["usage"]["input_tokens"],
                         self.server.post(PATH, ask(input=items[:2])).json()
                         ["usage"]["input_tokens"])

    def test_forms(self):
        form = {"format": {"type": "json_schema", "name": "x",
                           "schema": {"type": "object", "properties": {"a": {"const": 1}},
                                      "required": ["a"]}}}
        response = self.server.post(PATH, ask(text=form, max_output_tokens=50)).json()
        self.assertEqual(response["status"], "completed")
        self.assertEqual(json.loads(response["output"][0]["content"][0]["text"]), {"a": 1})

    def test_calls(self):
        body = ask(tools=[TOOL], tool_choice={"type": "function", "name": "time"},
                   max_output_tokens=120)
        response = self.server.post(PATH, body).json()
        (call,) = response["output"]
        self.assertEqual((call["type"], call["name"]), ("function_call", "time"))
        self.assertIn(json.loads(call["arguments"])["zone"], "ab")
        events = self.events(body)
        types = [e["type"].removeprefix("response.") for e in events[2:]]
        self.assertEqual(types[0], "output_item.added")
        self.assertEqual(set(types[1:-3]), {"function_call_arguments.delta"})
        self.assertEqual(types[-3:], ["function_call_arguments.done", "output_item.done",
                                      "completed"])
        self.assertEqual("".join(e["delta"] for e in events[3:-3]), call["arguments"])
        self.assertEqual(events[-3]["arguments"], call["arguments"])
        self.assertEqual(events[-1]["response"]["output"][0]["arguments"], call["arguments"])

    def items_of(self, text, **fields):
        """The items of a reply with this text, the same whole, from events and at the end
        of these."""
        body = ask(tools=[TOOL], grammar="root ::= " + json.dumps(text), max_output_tokens=300,
                   **fields)
        whole = self.server.post(PATH, body).json()["output"]
        items, parts = {}, {}
        for event in self.events(body):
            at, kind = event.get("output_index"), event["type"].removeprefix("response.")
            if kind == "output_item.added":
                self.assertEqual(at, len(items))  # one after the other
                items[at], parts[at] = event["item"], ""
            elif kind.endswith(".delta"):
                parts[at] += event["delta"]
            elif kind == "output_item.done":
                self.assertEqual(event["item"]["id"], items[at]["id"])
                items[at] = event["item"]
        items = list(items.values())
        self.assertEqual(items, event["response"]["output"])

        def told(item):
            return (item["type"], item["arguments"] if item["type"] == "function_call"
                    else item["content"][0]["text"])
        self.assertEqual([told(i) for i in whole], [told(i) for i in items])
        self.assertEqual(list(parts.values()), [text for _, text in map(told, items)])
        return [told(i) for i in items]

    def test_calls_and_text(self):
        a = '<tool_call>{"name": "time", "arguments": {"zone": "a"}}</tool_call>'
        b = a.replace('"a"', '"b"')
        calls = [("function_call", '{"zone": "a"}'), ("function_call", '{"zone": "b"}')]
        text = ("message", "Well.")
        self.assertEqual(self.items_of("Well.\n" + a + b), [text, *calls])
        self.assertEqual(self.items_of(a + "\n" + b), calls)
        self.assertEqual(self.items_of(a + "\nWell.\n" + b), [calls[0], ("message", "\nWell."),
                                                              calls[1]])
        self.assertEqual(self.items_of(a + b + "\nWell."), [*calls, ("message", "\nWell.")])
        self.assertEqual(self.items_of("Well."), [text])

    def test_errors(self):
        for param, fields in (("input", {"input": None}), ("input", {"input": []}),
                              ("input", {"input": [{"type": "input_image"}]}),
                              ("input", {"input": [{"role": "user", "content": [{"type": "x"}]}]}),
                              ("max_output_tokens", {"max_output_tokens": "a"}),
                              ("text.format.type", {"text": {"format": {"type": "xml"}}}),
                              ("tools", {"tools": [{"type": "web_search"}]}),
                              ("tool_choice", {"tools": [TOOL], "tool_choice": {"name": "x"}}),
                              ("previous_response_id", {"previous_response_id": "resp_1"}),
                              ("include", {"include": "x"}),
                              ("top_logprobs", {"top_logprobs": 2}),
                              ("top_logprobs", {"include": ["message.output_text.logprobs"],
                                                "top_logprobs": 21}),
                              ("temperature", {"temperature": -1})):
            self.refused(400, param, PATH, ask(**fields))
        self.refused(400, None, PATH, b"{")


class Thoughts(ServerTest):
    flags = ("--chat-template", "{# </think> #}{% for m in messages %}{{ m.content }}"
             "{% endfor %}<think>")

    def test_thoughts_are_an_item(self):
        body = ask(thinking_budget_tokens=4, max_output_tokens=16, ignore_eos=True)
        thought, message = self.server.post(PATH, body).json()["output"]
        self.assertEqual((thought["type"], message["type"]), ("reasoning", "message"))
        self.assertTrue(thought["content"][0]["text"])
        data = self.server.post(PATH, {**body, "stream": True}).data.decode()
        events = [json.loads(line[6:]) for line in data.splitlines() if line[:6] == "data: "]
        thoughts = [e["delta"] for e in events if e["type"] == "response.reasoning_text.delta"]
        self.assertEqual("".join(thoughts), thought["content"][0]["text"])
        indices = [e["output_index"] for e in events if "output_index" in e]
        self.assertEqual(indices, sorted(indices))
        self.assertEqual(events[-1]["response"]["output"][1]["content"], message["content"])


if __name__ == "__main__":
    unittest.main()
