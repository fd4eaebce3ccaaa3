"""Calls of functions, and single tokens: their probabilities and biases."""

import json
import math
import unittest

from server import ServerTest

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "The weather somewhere",
    "parameters": {"type": "object", "required": ["place", "days"], "properties": {
        "place": {"type": "string", "maxLength": 12},
        "days": {"$ref": "#/$defs/days"}}, "$defs": {"days": {"type": "integer", "minimum": 1,
                                                              "maximum": 9}}}}}
TIME = {"type": "function", "function": {"name": "time"}}


def chat(**fields):
    return {"messages": [{"role": "user", "content": "How is the weather?"}], "seed": 5,
            "max_tokens": 120, "tools": [WEATHER, TIME], **fields}


def literal(text):
    return "root ::= " + json.dumps(text)


class Calls(ServerTest):
    """What the model says is written down as a grammar."""
    style = "{# <tool_call> name #}"

    @classmethod
    def setUpClass(cls):
        cls.flags = ("-c", 512, "--chat-template", cls.style + PLAIN)
        super().setUpClass()

    def said(self, text, **fields):
        """The message, after a look at the stream: it says the same."""
        body = chat(grammar=literal(text), max_tokens=400, **fields)
        choice = self.server.post(CHAT, body).json()["choices"][0]
        content, calls = "", []
        events = self.server.events(CHAT, body)
        for event in events:
            delta = event["choices"][0]["delta"]
            content += delta.get("content") or ""
            for piece in delta.get("tool_calls", []):
                if piece["index"] == len(calls):  # the name first, and who it is
                    self.assertEqual(piece["type"], "function")
                    self.assertEqual(piece["function"]["arguments"], "")
                    calls.append({"id": piece["id"], "function": dict(piece["function"])})
                else:
                    self.assertEqual(set(piece), {"index", "function"})
                    self.assertEqual(piece["index"], len(calls) - 1)
                    self.assertEqual(list(piece["function"]), ["arguments"])
                    calls[-1]["function"]["arguments"] += piece["function"]["arguments"]
        message = choice["message"]
        self.assertEqual(content, message["content"] or "")
        self.assertEqual([c["function"] for c in calls],
                         [c["function"] for c in message.get("tool_calls", [])])
        self.assertEqual(len({c["id"] for c in calls}), len(calls))
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], choice["finish_reason"])
        self.assertEqual(choice["finish_reason"], "tool_calls" if calls else "stop")
        return message

    def functions(self, message):
        for call in message["tool_calls"]:
            self.assertEqual(call["type"], "function")
            self.assertTrue(call["id"])
        return [(c["function"]["name"], json.loads(c["function"]["arguments"]))
                for c in message["tool_calls"]]


class Hermes(Calls):
    def test_calls(self):
        message = self.said('Let me see.\n<tool_call>\n{"name": "weather", "arguments": '
                            '{"place": "Bree\u00e9", "days": 2}}\n</tool_call>\n<tool_call>'
                            '{"name": "time"}</tool_call>')
        self.assertEqual(message["content"], "Let me see.")
        self.assertEqual(self.functions(message),
                         [("weather", {"place": "Bree\u00e9", "days": 2}), ("time", {})])
        message = self.said('<tool_call>{"name": "time", "arguments": {}}')
        self.assertIsNone(message["content"])
        self.assertEqual(self.functions(message), [("time", {})])

    def test_what_is_no_call_stays_text(self):
        for text in ("Hello <tool", "a <tool_call>nonsense</tool_call> b", "x </tool_call>",
                     "<tool_call>[1]</tool_call>", "two  words \n"):
            message = self.said(text)
            self.assertEqual(message["content"].split(), text.split())
            self.assertNotIn("tool_calls", message)
        reply = self.server.post(CHAT, chat(grammar=literal('<tool_call>{"name": "a"}'),
                                            tool_choice="none")).json()
        self.assertIn("<tool_call>", reply["choices"][0]["message"]["content"])

    def test_a_call_that_must_be(self):
        for seed in range(4):
            reply = self.server.post(CHAT, chat(tool_choice="required", seed=seed, temperature=1,
                                                parallel_tool_calls=False)).json()
            ((name, arguments),) = self.functions(reply["choices"][0]["message"])
            self.assertIn(name, ("weather", "time"))
            named = {"type": "function", "function": {"name": "weather"}}
            reply = self.server.post(CHAT, chat(tool_choice=named, seed=seed)).json()
            ((name, arguments),) = self.functions(reply["choices"][0]["message"])
            self.assertEqual((name, list(arguments)), ("weather", ["place", "days"]))
            self.assertIn(arguments["days"], range(1, 10))

    def test_wrong_wishes(self):
        self.refused(400, "tool_choice", CHAT, chat(tool_choice="always"))
        self.refused(400, "tool_choice", CHAT, chat(tool_choice="required", tools=[]))
        self.refused(400, "tool_choice", CHAT, chat(tool_choice={
            "type": "function", "function": {"name": "nope"}}))
        self.refused(400, "tools", CHAT, chat(tools=[{}]))
        self.refused(400, "tools", CHAT, chat(tool_choice="required", tools=[
            {"function": {"name": "f", "parameters": {"not": {}}}}]))
        self.refused(400, "tool_choice", CHAT, chat(
            tool_choice="required", response_format={"type": "json_object"}))


class Coder(Calls):
    style = "{# <tool_call> <function= #}"

    def test_calls(self):
        message = self.said("Well.\n<tool_call>\n<function=weather>\n<parameter=place>\nthe \"Shire\"\n"
                            "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n"
                            "</tool_call>")
        self.assertEqual(message["content"], "Well.")
        self.assertEqual(self.functions(message),
                         [("weather", {"place": 'the "Shire"', "days": 3})])

    def test_a_call_that_must_be(self):
        """Whatever the model is inclined to write, the arguments fit, in a stream, too."""
        named = {"type": "function", "function": {"name": "weather"}}
        for seed in range(3):
            for choice in ("required", named):
                body = chat(tool_choice=choice, seed=seed, temperature=1,
                            parallel_tool_calls=False)
                reply = self.server.post(CHAT, body).json()["choices"][0]
                ((name, arguments),) = self.functions(reply["message"])
                self.assertEqual(reply["finish_reason"], "tool_calls")
                self.assertIsNone(reply["message"]["content"])
                if choice is named or name == "weather":
                    self.assertEqual((name, list(arguments)), ("weather", ["place", "days"]))
                    self.assertLessEqual(len(arguments["place"]), 12)
                    self.assertIn(arguments["days"], range(1, 10))
                deltas = [d["function"]["arguments"] for e in self.server.events(CHAT, body)
                          for d in e["choices"][0]["delta"].get("tool_calls", [])]
                self.assertEqual(json.loads("".join(deltas)), arguments)
        several = self.server.post(CHAT, chat(tool_choice="required", max_tokens=400)).json()
        self.assertGreater(len(self.functions(several["choices"][0]["message"])), 0)
        pattern = {"function": {"name": "f", "parameters": {"properties": {
            "a": {"type": "string", "pattern": "^a$"}}}}}
        self.assertIn("'pattern'", self.refused(400, "tools", CHAT, chat(
            tool_choice="required", tools=[pattern]))["message"])


class Unknown(Calls):
    style = ""

    def test_a_call_that_must_be_needs_a_style(self):
        self.refused(400, "tool_choice", CHAT, chat(tool_choice="required"))


class Mistral(Calls):
    style = "{# [TOOL_CALLS] #}"

    def test_calls(self):
        message = self.said('[TOOL_CALLS][{"name": "time", "arguments": {}}, {"name": "weather", '
                            '"arguments": {"days": 1}}]')
        self.assertEqual(self.functions(message), [("time", {}), ("weather", {"days": 1})])
        message = self.said('Hm.[TOOL_CALLS]weather[ARGS]{"days": 1}[TOOL_CALLS]time[ARGS]{}')
        self.assertEqual(message["content"], "Hm.")
        self.assertEqual(self.functions(message), [("weather", {"days": 1}), ("time", {})])

    def test_a_call_that_must_be(self):
        reply = self.server.post(CHAT, chat(tool_choice="required", temperature=0,
                                            parallel_tool_calls=False)).json()
        self.assertEqual(len(self.functions(reply["choices"][0]["message"])), 1)


class Llama(Calls):
    style = "{# parameters ipython #}"

    def test_a_call_that_must_be(self):
        reply = self.server.post(CHAT, chat(tool_choice="required", temperature=0)).json()
        self.assertEqual(len(self.functions(reply["choices"][0]["message"])), 1)

    def test_calls(self):
        message = self.said('{"name": "weather", "parameters": {"days": 4}}')
        self.assertEqual(self.functions(message), [("weather", {"days": 4})])
        for text in ('{"name": "other", "parameters": {}}', '{"a": 1}', "It is {fine}."):
            self.assertEqual(self.said(text)["content"], text)


class Tokens(ServerTest):
    def test_probabilities_of_a_chat(self):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6,
                "temperature": 0, "logprobs": True, "top_logprobs": 3}
        choice = self.server.post(CHAT, body).json()["choices"][0]
        tokens = choice["logprobs"]["content"]
        self.assertEqual(len(tokens), 6)
        self.assertEqual(b"".join(bytes(t["bytes"]) for t in tokens).decode(),
                         choice["message"]["content"])
        for token in tokens:
            top = [t["logprob"] for t in token["top_logprobs"]]
            self.assertEqual(top, sorted(top, reverse=True))
            self.assertEqual((len(top), top[0]), (3, token["logprob"]))  # greedy
            self.assertLess(sum(map(math.exp, top)), 1 + 1e-5)
        streamed = [t for e in self.server.events(CHAT, body)
                    for t in (e["choices"][0]["logprobs"] or {"content": []})["content"]]
        self.assertEqual(streamed, tokens)

    def test_probabilities_of_a_text(self):
        body = {"prompt": "The king said", "max_tokens": 5, "temperature": 0, "logprobs": 2}
        choice = self.server.post(TEXT, body).json()["choices"][0]
        self.assertEqual("".join(choice["logprobs"]["tokens"]), choice["text"])
        for value, top in zip(choice["logprobs"]["token_logprobs"],
                              choice["logprobs"]["top_logprobs"]):
            self.assertEqual(len(top), 2)
            self.assertAlmostEqual(max(top.values()), value)
        choice = self.server.post(TEXT, {**body, "logprobs": 0}).json()["choices"][0]
        self.assertEqual(choice["logprobs"]["top_logprobs"], [{}] * 5)

    def test_biases(self):
        (token,) = self.server.post("/tokenize", {"content": " king"}).json()["tokens"]
        text = self.server.text("Once", logit_bias={str(token): 100}, max_tokens=3)
        self.assertEqual(text, " king" * 3)
        body = {"prompt": "Once", "max_tokens": 1, "temperature": 0}
        first = self.server.post(TEXT, {**body, "logprobs": 1}).json()["choices"][0]
        (token,) = self.server.post("/tokenize", {"content": first["text"]}).json()["tokens"]
        other = self.server.text("Once", logit_bias={str(token): -100}, max_tokens=1)
        self.assertNotEqual(other, first["text"])

    def test_wrong_wishes(self):
        hello = {"messages": [{"role": "user", "content": "Hello"}]}
        for param, path, fields in (
                ("logprobs", CHAT, {"logprobs": 3}), ("logprobs", TEXT, {"logprobs": 6}),
                ("logprobs", TEXT, {"logprobs": -1}), ("top_logprobs", CHAT, {"top_logprobs": 2}),
                ("top_logprobs", CHAT, {"logprobs": True, "top_logprobs": 21}),
                ("logit_bias", TEXT, {"logit_bias": []}),
                ("logit_bias", TEXT, {"logit_bias": {"a": 1}}),
                ("logit_bias", TEXT, {"logit_bias": {"5": 101}}),
                ("logit_bias", TEXT, {"logit_bias": {str(i): 1 for i in range(301)}}),
                ("echo", TEXT, {"echo": True}), ("suffix", TEXT, {"suffix": "x"}),
                ("best_of", TEXT, {"best_of": 2})):
            body = {**hello, **fields} if path == CHAT else {"prompt": "Hello", **fields}
            self.refused(400, param, path, body)


del Calls

if __name__ == "__main__":
    unittest.main()
