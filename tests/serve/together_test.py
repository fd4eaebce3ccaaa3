"""Many users at once: what each gets does not depend on the others."""

import json
import socket
import subprocess
import tempfile
import unittest

from server import JUNTO, ServerTest, at_once

PROMPTS = ["The king said", "Once upon a time there was", "In the beginning",
           "My dear friend, " * 40, "She went to the window and looked out", "It was " * 90]


def asks(server):
    """Replies of several kinds, all at temperature 1."""
    return [lambda p=p, i=i: server.text(p, temperature=1, seed=i, max_tokens=20 + 7 * i)
            for i, p in enumerate(PROMPTS)]


def wait_for_tokens(client, count):
    while count > 0:
        data = client.recv(65536)
        assert data
        count -= data.count(b"data: {")


class Together(ServerTest):
    flags = ("-c", 512, "-b", 32, "--prefill", "chunked")

    def test_a_text_does_not_depend_on_the_others(self):
        alone = [ask() for ask in asks(self.server)]
        self.assertEqual(at_once(asks(self.server)), alone)
        self.assertEqual(at_once(asks(self.server)[::-1])[::-1], alone)

    def test_nor_on_how_prompts_are_run(self):
        whole = self.server_with("-c", 512, "-b", 64, "--prefill", "whole", "-np", 2)
        layered = self.server_with("-c", 512, "-b", 32, "--prefill", "layered")
        expected = at_once(asks(self.server))
        self.assertEqual(at_once(asks(whole)), expected)
        self.assertEqual(at_once(asks(layered)), expected)

    def test_layers_load_fewer_experts_than_chunks(self):
        def loads(server):
            before = server.figure("expert_loads_total")
            server.text("It was the best of times, " * 40, max_tokens=1)
            return server.figure("expert_loads_total") - before
        layered = self.server_with("-c", 512, "-b", 32, "--prefill", "layered")
        self.assertLess(2 * loads(layered), loads(self.server))

    def test_replies_go_on_while_a_prompt_is_run(self):
        for how in "chunked", "layered":
            server = self.server_with("-c", 1024, "-b", 512, "--prefill", how, "-np", 2)
            reply = server.open("/v1/completions", {"prompt": "The king said", "stream": True,
                                                    "max_tokens": 1000, "ignore_eos": True})
            self.addCleanup(reply.close)
            wait_for_tokens(reply, 20)
            before = server.figure("passes_total")
            server.text("It was the best of times, " * 100, max_tokens=1)
            passes = server.figure("passes_total") - before
            tokens = reply.recv(1 << 20, socket.MSG_DONTWAIT).count(b"data: {")
            self.assertGreater(passes, 4, how)
            self.assertGreater(tokens, 2, how)

    def test_who_leaves_halfway_leaves_nothing_behind(self):
        server = self.server_with("-c", 1024, "-b", 8, "--prefill", "layered", "-np", 1)
        text = server.text("My dear friend, " * 100, max_tokens=5)
        for _ in range(5):
            server.open("/v1/completions", {"prompt": "And they came, " * 100}).close()
        self.assertEqual(server.text("My dear friend, " * 100, max_tokens=5), text)

    def test_nor_on_policies_of_others(self):
        plain = self.server.text("The king said")
        steered = self.server.text("The king said", junto={"policy": ["topk:k=1"]})
        calls = [lambda: self.server.text("The king said"),
                 lambda: self.server.text("The king said", junto={"policy": ["topk:k=1"]})]
        self.assertEqual(at_once(calls * 3), [plain, steered] * 3)

    def test_passes_are_shared(self):
        def passes(calls):
            before = self.server.figure("passes_total")
            at_once(calls)
            return self.server.figure("passes_total") - before
        calls = [lambda s=s: self.server.text("The king said", seed=s, max_tokens=200,
                                              ignore_eos=True) for s in range(4)]
        alone = passes(calls[:1])
        self.assertLess(passes(calls), 3 * alone)


class Prefixes(ServerTest):
    flags = ("-c", 1024, "-np", 2)
    LONG = "My dear friend, I have not forgotten what you told me. " * 12

    def ask(self, server, prompt, **fields):
        """The text, and how many tokens of the prompt were there already."""
        reply = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 12,
                                                "temperature": 0, **fields}).json()
        return (reply["choices"][0]["text"],
                reply["usage"]["prompt_tokens_details"]["cached_tokens"])

    def others(self, server):
        at_once([lambda i=i: self.ask(server, f"{i} It was a dark night. " * 30)
                 for i in range(4)])

    def test_a_beginning_outlives_its_slot(self):
        nothing = self.server_with("-c", 1024, "-np", 2, "--prefix-cache", 0)
        alone, held = self.ask(nothing, self.LONG + "The end")
        self.assertEqual(held, 0)
        self.ask(nothing, self.LONG)
        self.others(nothing)
        self.assertEqual(self.ask(nothing, self.LONG + "The end"), (alone, 0))
        self.ask(self.server, self.LONG)
        self.others(self.server)
        text, held = self.ask(self.server, self.LONG + "The end")
        self.assertEqual(text, alone)
        self.assertGreater(held, 100)

    def test_a_neighbour_lends_its_own(self):
        long = "And so it came to pass that the old house was sold. " * 12
        alone = self.ask(self.server_with("-c", 1024), long + "Then")[0]
        holder = self.server.open("/v1/completions", {"prompt": long, "stream": True,
                                                      "max_tokens": 500, "ignore_eos": True})
        self.addCleanup(holder.close)
        wait_for_tokens(holder, 2)
        text, held = self.ask(self.server, long + "Then")
        self.assertEqual(text, alone)
        self.assertGreater(held, 100)

    def test_policies_share_nothing(self):
        policy = {"junto": {"policy": ["topk:k=1"]}}
        alone = self.ask(self.server_with("-c", 1024), self.LONG, **policy)
        plain = self.ask(self.server, self.LONG)[0]
        self.assertEqual(self.ask(self.server, self.LONG, **policy), alone)
        self.assertEqual(alone[1], 0)
        text, held = self.ask(self.server, self.LONG)
        self.assertEqual(text, plain)
        self.assertGreater(held, 100)


class Trace(ServerTest):
    def test_what_everybody_asked_is_in_the_trace(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/x.trace"
            server = self.server_with("-c", 512, "-np", 3, "--trace", path)
            texts = at_once(asks(server))
            steered = server.text("The king said", junto={"policy": ["topk:k=6"]})
            ran = server.figure("pass_tokens_total")
            server.stop()
            out = subprocess.run([JUNTO, "trace", "info", path, "--json"], check=True,
                                 capture_output=True).stdout
        self.assertEqual(texts, at_once(asks(self.server)))
        self.assertTrue(steered)
        tokens = json.loads(out)["tokens"]
        self.assertLess(tokens, ran)  # of requests with policies there is nothing
        self.assertGreater(tokens, ran - 40)


class Leaving(ServerTest):
    flags = ("-np", 1, "--queue", 8)

    def long(self, **fields):
        return {"prompt": "The king said", "max_tokens": 900, "ignore_eos": True,
                "stream": True, **fields}

    def hold(self):
        """A client in the only slot."""
        client = self.server.open("/v1/completions", self.long(n=1))
        self.addCleanup(client.close)
        self.server.wait_figure("slots_busy", 1)
        return client

    def test_who_leaves_frees_the_slot(self):
        for stream in (True, False):
            before = self.server.figure("cancelled_total")
            client = self.server.open("/v1/completions", self.long(stream=stream, n=8))
            self.server.wait_figure("slots_busy", 1)
            client.close()
            self.server.wait_figure("slots_busy", 0)
            self.server.wait_figure("queue_length", 0)
            self.assertGreater(self.server.figure("cancelled_total"), before)
        self.assertTrue(self.server.text("The king said"))

    def test_a_full_queue_refuses(self):
        """It takes more than it has room for only from one who finds it empty."""
        clients = [self.hold(), self.server.open("/v1/completions", self.long(n=12))]
        self.server.wait_figure("queue_length", 12)
        reply = self.server.post("/v1/completions", self.long(n=1))
        self.assertEqual(reply.status, 429)
        self.assertEqual(reply.headers["Retry-After"], "1")
        self.assertEqual(reply.error()["code"], "queue_full")
        for client in clients:
            client.close()
        self.server.wait_figure("queue_length", 0)

    def test_a_slow_reader_holds_nobody_up(self):
        text = self.server.text("Once upon a time")
        slow = self.hold()
        self.server.wait_figure("slots_busy", 0)  # its reply is whole, and unread
        self.assertEqual(self.server.text("Once upon a time"), text)
        data = b""
        while b"data: [DONE]" not in data:
            more = slow.recv(65536)
            self.assertTrue(more, data[-200:])
            data += more
        events = [line for line in data.decode().splitlines() if line.startswith("data: {")]
        self.assertEqual(json.loads(events[-1][6:])["choices"][0]["finish_reason"], "length")


if __name__ == "__main__":
    unittest.main()
