"""Who works: live routing of all replies, and traces of single ones."""

import csv
import json
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from server import JUNTO, ServerTest, at_once

TEXT = "/v1/completions"
CHAT = "/v1/chat/completions"
LAYERS, EXPERTS, USED = 6, 24, 4  # of models/junto-mini.gguf


class Onlooker(threading.Thread):
    """Gathers events until the server ends the stream, or `count` have come."""

    def __init__(self, server, query="", count=None):
        super().__init__()
        self.count, self.list, self.first = count, [], threading.Event()
        self.client = server.open_get("/v1/junto/routing" + query)
        self.start()

    def run(self):
        with self.client, self.client.makefile("rb") as lines:
            for line in lines:
                if not line.startswith(b"data: "):
                    continue
                self.list.append(json.loads(line[6:]))
                self.first.set()
                if len(self.list) == self.count:
                    return

    def sums(self):
        """Of the counts of all events but the first, by layer."""
        return [sum(sum(event["counts"][layer]) for event in self.list[1:])
                for layer in range(LAYERS)]


class Routing(ServerTest):
    def test_counts_are_those_of_the_tokens(self):
        look = Onlooker(self.server, "?interval=20")
        self.assertTrue(look.first.wait(20))
        before = self.server.figure("pass_tokens_total")
        at_once([lambda s=s: self.server.text("The king said", seed=s, ignore_eos=True,
                                              max_tokens=200) for s in range(3)])
        tokens = self.server.figure("pass_tokens_total") - before
        self.assertGreater(tokens, 3 * 199)
        for _ in range(400):
            if sum(event["tokens"] for event in look.list[1:]) == tokens:
                break
            threading.Event().wait(0.05)
        self.assertEqual(sum(event["tokens"] for event in look.list[1:]), tokens)
        self.assertEqual(look.sums(), [USED * tokens] * LAYERS)
        self.assertGreater(len(look.list), 2)
        first = look.list[0]
        self.assertEqual(first["layers"], [{"layer": i, "experts": EXPERTS}
                                           for i in range(LAYERS)])
        self.assertEqual(first["model"], "junto-mini")
        for event in look.list[1:]:
            self.assertEqual([len(row) for row in event["counts"]], [EXPERTS] * LAYERS)
            for row, entropy, load in zip(event["counts"], event["entropy"], event["load"]):
                if sum(row) == 0:  # told in the middle of a pass, which goes on after it
                    self.assertEqual((entropy, load), (0, 0))
                    continue
                self.assertTrue(0 < entropy <= 1, event)
                self.assertTrue(1 <= load <= EXPERTS / USED, event)
            self.assertLessEqual(event["running"], 3)
            self.assertNotIn("store", event)
        look.client.close()

    def test_intervals(self):
        for bad in ("x", "", "0", "1e3", "100000"):
            reply = self.server.get(f"/v1/junto/routing?interval={bad}")
            self.assertEqual((reply.status, reply.error()["param"]), (400, "interval"))
        self.assertEqual(self.server.post("/v1/junto/routing", {}).status, 405)
        look = Onlooker(self.server, "?interval=60000")
        self.assertTrue(look.first.wait(20))
        self.server.text("The king said")
        self.assertEqual(len(look.list), 1)

    def test_an_onlooker_does_not_hold_the_end_up(self):
        server = self.server_with("--grace", 60)
        look = Onlooker(server)
        self.assertTrue(look.first.wait(20))
        server.stop()
        look.join(20)
        self.assertFalse(look.is_alive())


class Traces(ServerTest):
    def trace(self, **fields):
        body = {"prompt": "The king said", "max_tokens": 12, "temperature": 0,
                "ignore_eos": True, **fields}
        body["junto"] = {"trace": True, **fields.get("junto", {})}
        reply = self.server.post(TEXT, body)
        self.assertEqual(reply.status, 200, reply.data)
        return reply.json()

    def check(self, tokens, first, count, used=USED):
        self.assertEqual([t["position"] for t in tokens], list(range(first, first + count)))
        for token in tokens:
            self.assertEqual(len(token["experts"]), LAYERS)
            for experts, weights in zip(token["experts"], token["weights"]):
                self.assertEqual((len(experts), len(set(experts))), (used, used))
                self.assertTrue(all(0 <= e < EXPERTS for e in experts))
                self.assertEqual(len(weights), used)
                self.assertTrue(all(0 < w <= 10 for w in weights), weights)

    def test_every_token_that_was_run(self):
        reply = self.trace()
        prompt = self.server.post("/tokenize", {"content": "The king said",
                                                "add_special": True}).json()["tokens"]
        self.assertEqual(reply["junto"]["prompt"], prompt)
        (choice,) = reply["choices"]
        tokens = choice["junto"]["tokens"]
        self.check(tokens, len(prompt), 11)  # the twelfth was sampled, not run
        text = "".join(token["text"] for token in tokens)
        self.assertTrue(choice["text"].startswith(text), (choice["text"], text))
        self.assertEqual(choice["text"], self.server.text("The king said", max_tokens=12,
                                                          ignore_eos=True))

    def test_streams_say_the_same(self):
        body = {"prompt": "The king said", "max_tokens": 12, "temperature": 0,
                "ignore_eos": True, "junto": {"trace": True}}
        whole = self.trace()
        events = self.server.events(TEXT, body)
        self.assertEqual((events[0]["choices"], events[0]["junto"]), ([], whole["junto"]))
        tokens = [token for event in events[1:] for choice in event["choices"]
                  for token in choice.get("junto", {}).get("tokens", [])]
        self.assertEqual(tokens, whole["choices"][0]["junto"]["tokens"])
        chat = self.server.events(CHAT, {"messages": [{"role": "user", "content": "Hello"}],
                                         "max_tokens": 5, "seed": 1, "ignore_eos": True,
                                         "junto": {"trace": True}})
        tokens = [token for event in chat[1:] for choice in event["choices"]
                  for token in choice.get("junto", {}).get("tokens", [])]
        self.check(tokens, len(chat[0]["junto"]["prompt"]), 4)

    def test_going_on_from_a_token(self):
        whole = self.trace()
        (choice,) = whole["choices"]
        ids = [token["id"] for token in choice["junto"]["tokens"]]
        again = self.trace(prompt=whole["junto"]["prompt"] + ids[:5], max_tokens=7)
        head = "".join(token["text"] for token in choice["junto"]["tokens"][:5])
        self.assertEqual(head + again["choices"][0]["text"], choice["text"])

    def test_policies_are_seen(self):
        plain = self.trace()["choices"][0]
        away = plain["junto"]["tokens"][0]["experts"][2][0]
        for policy, used in ((f"mask:experts={away},layers=2", USED), ("topk:k=2", 2)):
            steered = self.trace(junto={"policy": [policy]})["choices"][0]
            tokens = steered["junto"]["tokens"]
            self.check(tokens, tokens[0]["position"], 11, used)
            if policy.startswith("mask"):
                self.assertFalse([t for t in tokens if away in t["experts"][2]])

    def test_others_change_nothing(self):
        alone = self.trace(seed=3, temperature=1)["choices"]
        calls = [lambda: self.trace(seed=3, temperature=1)["choices"],
                 lambda: self.trace(junto={"policy": ["topk:k=1"]}),
                 lambda: self.server.text("Once upon a time", max_tokens=40),
                 lambda: self.trace(seed=3, temperature=1)["choices"]]
        for one in at_once(calls)[::3]:
            self.assertEqual(one, alone)

    def test_steered_replies_share_passes(self):
        def passes(calls):
            before = self.server.figure("passes_total")
            at_once(calls)
            return self.server.figure("passes_total") - before
        calls = [lambda k=k: self.trace(junto={"policy": [f"topk:k={k}"]}, max_tokens=200)
                 for k in (1, 2, 3, 4)]
        alone = passes(calls[:1])
        self.assertLess(passes(calls), 3 * alone)

    def test_the_server_and_the_request_saw_the_same(self):
        """A trace of all requests, and one of each: token by token the same experts."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "all.trace")
        server = self.server_with("-np", 3, "--trace", path)
        prompts = ["The king said", "int main(void)", "Once upon a time"]

        def ask(prompt, policies=()):
            reply = server.post(TEXT, {"prompt": prompt, "max_tokens": 12, "temperature": 0,
                                       "ignore_eos": True,
                                       "junto": {"trace": True, "policy": list(policies)}})
            self.assertEqual(reply.status, 200, reply.data)
            return reply.json()
        replies = at_once([lambda p=p: ask(p) for p in prompts])
        steered = ask("A steered one", ["topk:k=2"])["choices"][0]["junto"]["tokens"]
        self.check(steered, steered[0]["position"], 11, used=2)
        server.stop()
        subprocess.run([JUNTO, "trace", "export", path, "-o", folder.name, "--csv"],
                       check=True, capture_output=True)
        rows = {}
        with open(Path(folder.name, "trace.csv"), newline="") as lines:
            for line in csv.DictReader(lines):
                experts, weights = rows.setdefault(
                    (line["row"], int(line["token"]), int(line["position"])), ([], []))
                experts.append([int(line[f"expert{j}"]) for j in range(USED)])
                weights.append([float(line[f"weight{j}"]) for j in range(USED)])
        told = [token for reply in replies
                for token in reply["choices"][0]["junto"]["tokens"]]
        self.assertEqual(len(rows), len(told) + sum(len(r["junto"]["prompt"]) for r in replies))
        for token in told:  # the trace keeps the weights of each as F16
            seen = [of for (_, t, at), of in rows.items()
                    if (t, at) == (token["id"], token["position"])]
            self.assertIn(token["experts"], [experts for experts, _ in seen])
            weights = next(w for e, w in seen if e == token["experts"])
            for wants, gets in zip(token["weights"], weights):
                for want, got in zip(wants, gets):
                    self.assertAlmostEqual(want, got, delta=1e-2)

    def test_without_a_trace_there_is_none(self):
        reply = self.trace(junto={"trace": False})
        self.assertNotIn("junto", reply)
        self.assertNotIn("junto", reply["choices"][0])
        self.assertEqual(self.refused(400, "junto.trace", TEXT, {
            "prompt": "a", "junto": {"trace": 1}})["code"], "invalid_type")


if __name__ == "__main__":
    unittest.main()
