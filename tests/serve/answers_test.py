"""What the server answers: replies, streams, tokens, models."""

import subprocess
import unittest

from server import JUNTO, MODEL, ServerTest

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
MESSAGES = [{"role": "user", "content": "Once upon a time"}]


def chat(**fields):
    return {"messages": MESSAGES, "max_tokens": 12, "temperature": 0, **fields}


class Answers(ServerTest):
    flags = ("-c", 512)

    def test_a_text_is_that_of_run(self):
        done = subprocess.run([JUNTO, "run", MODEL, "-p", "The king said", "-n", "24",
                               "--temp", "0", "-q"], capture_output=True, check=True)
        self.assertEqual(self.server.text("The king said"), done.stdout.decode())

    def test_a_reply(self):
        reply = self.server.post(CHAT, chat()).json()
        self.assertEqual(reply["object"], "chat.completion")
        self.assertTrue(reply["id"].startswith("chatcmpl-"))
        self.assertEqual(reply["model"], "junto-mini")
        (choice,) = reply["choices"]
        self.assertEqual(choice["index"], 0)
        self.assertEqual(choice["finish_reason"], "length")
        self.assertEqual(choice["message"]["role"], "assistant")
        usage = reply["usage"]
        self.assertEqual(usage["completion_tokens"], 12)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 12)

    def test_a_stream_says_the_same(self):
        whole = self.server.post(CHAT, chat()).json()
        events = self.server.events(CHAT, chat(stream_options={"include_usage": True}))
        first, last = events[0], events[-1]
        self.assertEqual(first["object"], "chat.completion.chunk")
        self.assertEqual(first["choices"][0]["delta"], {"role": "assistant", "content": ""})
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1])
        self.assertEqual(text, whole["choices"][0]["message"]["content"])
        reasons = [e["choices"][0]["finish_reason"] for e in events[:-1]]
        self.assertEqual(reasons[-1], "length")
        self.assertEqual(set(reasons[:-1]), {None})
        self.assertEqual({e["usage"] for e in events[:-1]}, {None})
        self.assertEqual(last["choices"], [])
        self.assertEqual(last["usage"]["completion_tokens"], 12)
        self.assertEqual(len({e["id"] for e in events}), 1)

    def test_an_answer_can_be_sent_back_whatever_its_bytes(self):
        # 188 is the byte 0, which no JSON text should hold.
        self.assertEqual(self.server.post("/detokenize", {"tokens": [188]}).json()["content"],
                         "\ufffd")
        answer = self.server.text("Once", logit_bias={"188": 100}, max_tokens=3)
        self.assertEqual(answer, "\ufffd" * 3)
        again = MESSAGES + [{"role": "assistant", "content": answer}] + MESSAGES
        self.assertEqual(self.server.post(CHAT, chat(messages=again)).status, 200)

    def test_figures_only_come_on_request(self):
        events = self.server.events(CHAT, chat())
        self.assertFalse(any("usage" in event for event in events))
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "length")

    def test_a_text_in_a_stream(self):
        body = {"prompt": "The king said", "max_tokens": 24, "temperature": 0}
        events = self.server.events(TEXT, body)
        text = "".join(event["choices"][0]["text"] for event in events)
        self.assertEqual(text, self.server.text("The king said"))
        self.assertEqual(events[0]["object"], "text_completion")

    def test_stop(self):
        whole = self.server.text("The king said")
        stop = whole.split()[3]
        body = {"prompt": "The king said", "max_tokens": 24, "temperature": 0, "stop": [stop]}
        (choice,) = self.server.post(TEXT, body).json()["choices"]
        self.assertEqual(choice["text"], whole[:whole.index(stop)])
        self.assertEqual(choice["finish_reason"], "stop")

    def test_seeds(self):
        def draw(seed):
            return self.server.text("The king said", temperature=1, seed=seed)
        self.assertEqual(draw(7), draw(7))
        self.assertGreater(len({draw(seed) for seed in range(4)}), 1)

    def test_several_replies(self):
        body = {"prompt": "The king said", "max_tokens": 8, "temperature": 1, "seed": 7,
                "n": 3}
        choices = self.server.post(TEXT, body).json()["choices"]
        self.assertEqual([c["index"] for c in choices], [0, 1, 2])
        alone = [self.server.text("The king said", max_tokens=8, temperature=1, seed=7 + i)
                 for i in range(3)]
        self.assertEqual([c["text"] for c in choices], alone)
        events = self.server.events(TEXT, body)
        for i in range(3):
            mine = [e["choices"][0] for e in events if e["choices"][0]["index"] == i]
            self.assertEqual("".join(c["text"] for c in mine), alone[i])
            self.assertEqual(mine[-1]["finish_reason"], "length")

    def test_several_prompts(self):
        """Each is answered as if it were alone."""
        tokens = self.server.post("/tokenize", {"content": "Once upon a time",
                                                "add_special": True}).json()["tokens"]
        prompts = ["The king said", tokens, "In the forest"]
        for n in (1, 2):
            fields = {"max_tokens": 8, "temperature": 1, "seed": 7, "n": n}
            alone = [self.server.post(TEXT, {**fields, "prompt": p}).json() for p in prompts]
            together = self.server.post(TEXT, {**fields, "prompt": prompts}).json()
            self.assertEqual([c["text"] for c in together["choices"]],
                             [c["text"] for reply in alone for c in reply["choices"]])
            self.assertEqual([c["index"] for c in together["choices"]], list(range(3 * n)))
            for figure in ("prompt_tokens", "completion_tokens", "total_tokens"):
                self.assertEqual(together["usage"][figure],
                                 sum(reply["usage"][figure] for reply in alone))
            events = self.server.events(TEXT, {**fields, "prompt": prompts,
                                               "stream_options": {"include_usage": True}})
            texts = [""] * (3 * n)
            for choice in (c for e in events for c in e["choices"]):
                texts[choice["index"]] += choice["text"]
            self.assertEqual(texts, [c["text"] for c in together["choices"]])
            self.assertEqual(events[-1]["usage"]["total_tokens"],
                             together["usage"]["total_tokens"])
        one = self.server.post(TEXT, {"prompt": [tokens], "max_tokens": 4}).json()
        self.assertEqual(len(one["choices"]), 1)

    def test_more_prompts_than_may_wait(self):
        server = self.server_with("-np", 2, "--queue", 2)
        reply = server.post(TEXT, {"prompt": ["Once"] * 9, "max_tokens": 2}).json()
        self.assertEqual(len(reply["choices"]), 9)

    def test_tokens_as_a_prompt(self):
        tokens = self.server.post("/tokenize", {"content": "The king said",
                                                "add_special": True}).json()["tokens"]
        self.assertEqual(self.server.text(tokens), self.server.text("The king said"))
        plain = self.server.post("/tokenize", {"content": "The king said"}).json()
        back = self.server.post("/detokenize", plain).json()
        self.assertEqual(back["content"], "The king said")

    def test_contents_may_be_parts(self):
        parts = [{"type": "text", "text": "Once upon"}, {"type": "text", "text": " a time"}]
        body = chat(messages=[{"role": "user", "content": parts}])
        self.assertEqual(self.server.post(CHAT, body).json()["choices"],
                         self.server.post(CHAT, chat()).json()["choices"])

    def test_a_prompt_is_remembered(self):
        prompt = "The old woman went into the forest to look for her goat. " * 4
        body = {"prompt": prompt, "max_tokens": 4, "temperature": 0}
        first = self.server.post(TEXT, body).json()
        again = self.server.post(TEXT, body).json()
        usage = again["usage"]
        self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"],
                         usage["prompt_tokens"] - 1)
        self.assertEqual(first["choices"], again["choices"])

    def test_policies(self):
        plain = self.server.text("The king said")
        steered = self.server.text("The king said", junto={"policy": "topk:k=1"})
        self.assertNotEqual(plain, steered)
        self.assertEqual(steered,
                         self.server.text("The king said", junto={"policy": ["topk:k=1"]}))
        self.assertEqual(plain, self.server.text("The king said"))

    def test_the_model(self):
        (model,) = self.server.get("/v1/models").json()["data"]
        self.assertEqual(self.server.get("/v1/models/" + model["id"]).json(), model)
        error = self.server.get("/v1/models/none/such")
        self.assertEqual((error.status, error.error()["code"]), (404, "model_not_found"))
        self.assertEqual(self.server.get("/v1/models/").status, 404)
        self.assertEqual(model["id"], "junto-mini")
        self.assertEqual(model["meta"]["n_ctx"], 512)
        self.assertEqual(self.server.get("/health").json(), {"status": "ok"})

    def test_figures(self):
        before = self.server.figure("tokens_total")
        self.server.text("The king said", max_tokens=5)
        self.assertEqual(self.server.figure("tokens_total"), before + 5)
        self.assertEqual(self.server.figure("slots"), 4)


class Thoughts(ServerTest):
    """A template that opens a thought; the model does not know what that is."""
    flags = ("--chat-template", "{# </think> #}{% for m in messages %}{{ m.content }}"
             "{% endfor %}<think>")

    def test_thoughts_stand_apart(self):
        body = chat(thinking_budget_tokens=5, max_tokens=20, ignore_eos=True)
        reply = self.server.post(CHAT, body).json()
        message = reply["choices"][0]["message"]
        self.assertTrue(message["reasoning_content"])
        self.assertTrue(message["content"])
        self.assertNotIn("</think>", message["content"])
        self.assertEqual(reply["usage"]["completion_tokens_details"]["reasoning_tokens"], 5)
        deltas = [e["choices"][0]["delta"] for e in self.server.events(CHAT, body)]
        for key in ("reasoning_content", "content"):
            self.assertEqual("".join(d.get(key, "") for d in deltas), message[key])

    def test_tools_and_variables_reach_the_template(self):
        server = self.server_with("--chat-template", "{{ tools[0].function.name }} {{ word }}"
                                  "{{ messages[0].tool_calls[0].function.arguments.x }}")
        call = {"function": {"name": "f", "arguments": '{"x": "king"}'}}
        body = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}],
                "tools": [{"type": "function", "function": {"name": "The"}}],
                "chat_template_kwargs": {"word": "old "}, "max_tokens": 8, "temperature": 0}
        reply = server.post(CHAT, body).json()
        self.assertEqual(reply["choices"][0]["message"]["content"],
                         server.text("The old king", max_tokens=8))


if __name__ == "__main__":
    unittest.main()
