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
        self.assertEqual([e["type"].removeprefix("response.") for e in events[2:]],
                         ["output_item.added", "function_call_arguments.delta",
                          "function_call_arguments.done", "output_item.done", "completed"])
        self.assertEqual(events[-1]["response"]["output"][0]["arguments"], call["arguments"])

    def test_errors(self):
        for param, fields in (("input", {"input": None}), ("input", {"input": []}),
                              ("input", {"input": [{"type": "input_image"}]}),
                              ("input", {"input": [{"role": "user", "content": [{"type": "x"}]}]}),
                              ("max_output_tokens", {"max_output_tokens": "a"}),
                              ("text.format.type", {"text": {"format": {"type": "xml"}}}),
                              ("tools", {"tools": [{"type": "web_search"}]}),
                              ("tool_choice", {"tools": [TOOL], "tool_choice": {"name": "x"}}),
                              ("previous_response_id", {"previous_response_id": "resp_1"}),
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
        indices = [e["output_index"] for e in events if "output_index" in e]
        self.assertEqual(indices, sorted(indices))
        self.assertEqual(events[-1]["response"]["output"][1]["content"], message["content"])


if __name__ == "__main__":
    unittest.main()
