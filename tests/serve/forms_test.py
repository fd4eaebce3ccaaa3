"""Replies in a given form: grammars and JSON schemas."""

import json
import unittest

from server import ServerTest, at_once

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
PERSON = {"type": "object", "required": ["name", "age", "tags"], "additionalProperties": False,
          "properties": {"name": {"type": "string", "maxLength": 20},
                         "age": {"type": "integer", "minimum": 0, "maximum": 120},
                         "tags": {"type": "array", "items": {"enum": ["old", "young"]},
                                  "minItems": 1, "maxItems": 3}}}


def chat(**fields):
    return {"messages": [{"role": "user", "content": "Who is the king?"}], "max_tokens": 200,
            "seed": 1, **fields}


def schema(of):
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": of}}


class Forms(ServerTest):
    flags = ("-c", 1024)

    def content(self, path=CHAT, **fields):
        reply = self.server.post(path, chat(**fields) if path == CHAT else fields)
        self.assertEqual(reply.status, 200, reply.data)
        choice = reply.json()["choices"][0]
        self.assertEqual(choice["finish_reason"], "stop", choice)
        return choice["message"]["content"] if path == CHAT else choice["text"]

    def check_person(self, text):
        person = json.loads(text)
        self.assertEqual(list(person), ["name", "age", "tags"])
        self.assertLessEqual(len(person["name"]), 20)
        self.assertIn(person["age"], range(121))
        self.assertIn(len(person["tags"]), (1, 2, 3))
        self.assertLessEqual(set(person["tags"]), {"old", "young"})

    def test_schemas(self):
        for temperature in (0, 1, 2):
            for seed in range(4):
                self.check_person(self.content(temperature=temperature, seed=seed, top_k=0,
                                               response_format=schema(PERSON)))
        self.check_person(self.content(TEXT, prompt="The king:", json_schema=PERSON))

    def test_objects(self):
        ended = 0
        for seed in range(6):
            reply = self.server.post(CHAT, chat(response_format={"type": "json_object"},
                                                temperature=2, seed=seed, max_tokens=100))
            choice = reply.json()["choices"][0]
            if choice["finish_reason"] == "stop":
                self.assertIsInstance(json.loads(choice["message"]["content"]), dict)
                ended += 1
            self.assertEqual(choice["message"]["content"][0], "{")
        self.assertGreater(ended, 0)

    def test_grammars(self):
        text = self.content(TEXT, prompt="The king said", seed=4,
                            grammar='root ::= " " [a-z]{3,9} (" " [a-z]{1,7}){2} "."')
        self.assertRegex(text, r"^ [a-z]{3,9}( [a-z]{1,7}){2}\.$")
        text = self.content(TEXT, prompt="Say", grammar='root ::= "\u00e4\u20ac\U0001f600"')
        self.assertEqual(text, "\u00e4\u20ac\U0001f600")

    def test_a_stream_says_the_same(self):
        body = chat(response_format=schema(PERSON), temperature=1)
        events = self.server.events(CHAT, body)
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
        self.assertEqual(text, self.server.post(CHAT, body).json()
                         ["choices"][0]["message"]["content"])
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "stop")

    def test_choices_and_others_in_between(self):
        body = chat(response_format=schema(PERSON), n=4, temperature=1)
        free = {"prompt": "The king said", "max_tokens": 60, "temperature": 0}
        replies = at_once([lambda: self.server.post(CHAT, body),
                           lambda: self.server.post(TEXT, free)] * 2)
        for reply in replies[::2]:
            for choice in reply.json()["choices"]:
                self.check_person(choice["message"]["content"])
        self.assertEqual(replies[1].json()["choices"], replies[3].json()["choices"])
        self.assertEqual(replies[0].json()["choices"], replies[2].json()["choices"])

    def test_a_form_that_is_cut_off_says_so(self):
        reply = self.server.post(CHAT, chat(response_format=schema(PERSON), max_tokens=4))
        self.assertEqual(reply.json()["choices"][0]["finish_reason"], "length")

    def test_wrong_forms(self):
        for param, fields in (
                ("response_format.type", {"response_format": {"type": "xml"}}),
                ("response_format.type", {"response_format": {}}),
                ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
                ("response_format", {"response_format": schema({"type": "text"})}),
                ("response_format", {"response_format": schema({"not": {}})}),
                ("grammar", {"grammar": "root ::= x"}),
                ("grammar", {"grammar": 5}),
                ("grammar", {"grammar": 'root ::= "a"', "response_format": schema({})}),
                ("json_schema", {"json_schema": {}, "response_format": schema({})})):
            error = self.refused(400, param, CHAT, chat(**fields))
            self.assertEqual(error["type"], "invalid_request_error")

    def test_what_is_too_ambiguous_is_an_error_of_its_own(self):
        free = {"prompt": "The king said", "max_tokens": 8, "temperature": 0}
        before = self.server.post(TEXT, free).json()["choices"]
        hard = 'root ::= ' + ' '.join(f'(x{{0,900}} "{c}" | x{{0,900}})' for c in "abcdefgh") + \
            '\nx ::= . | .. | ...'
        reply = self.server.post(TEXT, {"prompt": "a", "grammar": hard})
        self.assertEqual(reply.status, 400)
        self.assertIn("ambiguous", reply.error()["message"])
        self.assertEqual(self.server.post(TEXT, free).json()["choices"], before)


if __name__ == "__main__":
    unittest.main()
