"""Models larger than memory: one store for all users, who get what they get without it."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from server import JUNTO, MODEL, Server, ServerTest, at_once

TEXT = "/v1/completions"
PROMPTS = ["The king said", "Once upon a time there was", "In the beginning",
           "My dear friend, " * 40, "She went to the window and looked out", "It was " * 90]
GOLDEN = Path(MODEL).parents[1] / "tests" / "golden"
SIZES = ("-c", 512, "-b", 64, "--prefix-cache", "1M", "--connections", 16)


def asks(server):
    """Replies of several kinds; one has a policy, one is watched."""
    more = [{}, {"junto": {"policy": ["topk:k=1"]}}, {"junto": {"trace": True}}, {}, {"n": 2}, {}]
    return [lambda p=p, i=i: server.text(p, temperature=1, seed=i, max_tokens=12 + 5 * i, **more[i])
            for i, p in enumerate(PROMPTS)]


def smallest(*flags, models=(MODEL,)):
    """The smallest budget in MiB, as the refusal tells it."""
    done = subprocess.run([JUNTO, "serve", *map(str, models), "--port", "0", "-t", "2",
                           *map(str, flags), "--ram", "1M"], capture_output=True, timeout=60)
    words = done.stderr.decode()
    assert done.returncode == 1, words
    return int(words.split("the smallest budget is ")[1].split()[0]), words


class Store(ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.least, cls.words = smallest(*SIZES)
        cls.flags = (*SIZES, "--ram", f"{cls.least}M")
        super().setUpClass()

    def test_what_a_budget_must_cover_is_told(self):
        self.assertIn("4 contexts of 512 tokens", self.words)
        self.assertGreater(smallest(*SIZES, "-np", 16)[0], self.least)
        self.assertGreater(smallest(*SIZES, "-c", 1024)[0], self.least)
        self.assertGreater(smallest(*SIZES, "--connections", 512)[0], self.least)

    def test_texts_are_the_same(self):
        mapped = self.server_with(*SIZES)
        expected = at_once(asks(mapped))
        self.assertEqual(at_once(asks(self.server)), expected)
        self.assertEqual([ask() for ask in asks(self.server)], expected)
        for how in "layered", "whole":
            flags = (*SIZES, "--prefill", how, "--io", "buffered", "--prefetch", "router")
            server = self.server_with(*flags, "--ram", f"{smallest(*flags)[0]}M")
            self.assertEqual(at_once(asks(server)), expected, how)
        vectors = [s.post("/v1/embeddings", {"input": PROMPTS}).json()["data"]
                   for s in (mapped, self.server)]
        self.assertEqual(*vectors)

    def test_a_golden_mixture(self):
        model = GOLDEN / "mixtral.gguf"
        servers = [Server(*flags, models=[model]) for flags in ((), ("--ram", "512M"))]
        for server in servers:
            self.addCleanup(server.stop)
        texts = [at_once([lambda s=s, i=i: s.text(list(range(3, 9 + 5 * i)), ignore_eos=True)
                          for i in range(4)]) for s in servers]
        self.assertEqual(*texts)
        self.assertGreater(servers[1].figure("store_misses_total"), 0)

    def test_replies_go_on_while_a_prompt_is_run(self):
        server = self.server_with("-c", 1024, "-np", 2, "--ram", "256M")
        reply = server.open(TEXT, {"prompt": "The king said", "stream": True,
                                   "max_tokens": 1000, "ignore_eos": True})
        self.addCleanup(reply.close)
        count = 0
        while count < 20:
            count += reply.recv(65536).count(b"data: {")
        before = server.figure("passes_total")
        server.text("It was the best of times, " * 100, max_tokens=1)
        self.assertGreater(server.figure("passes_total") - before, 4)

    def test_figures(self):
        names = ("hits_total", "hits_ahead_total", "misses_total", "read_bytes_total",
                 "stall_seconds_total", "ahead_total", "ahead_used_total")

        def look():
            return {name: self.server.figure(f"store_{name}") for name in names}
        before, loads = look(), self.server.figure("expert_loads_total")
        self.server.text("The king said", max_tokens=40, ignore_eos=True)
        after = look()
        grown = {name: after[name] - before[name] for name in names}
        loads = self.server.figure("expert_loads_total") - loads
        self.assertEqual(grown["hits_total"] + grown["hits_ahead_total"]
                         + grown["misses_total"], loads)
        self.assertGreater(grown["misses_total"], 0)
        self.assertGreater(grown["read_bytes_total"], 0)
        self.assertGreater(grown["stall_seconds_total"], 0)
        self.assertLessEqual(after["ahead_used_total"], after["ahead_total"])
        slots = self.server.figure("store_slots")
        self.assertTrue(8 <= slots < 6 * 24)
        self.assertGreater(self.server.figure("store_bytes"), slots * 50000)

    def test_users_share_what_is_read(self):
        """Eight who ask the same read much less than eight, however late some come."""
        server = self.server_with(*SIZES, "-np", 8, "--prefetch", "off",
                                  "--ram", f"{smallest(*SIZES, '-np', 8)[0]}M")

        def asked(users):
            before = server.figure("store_misses_total")
            at_once([lambda: server.text("The king said", max_tokens=100, ignore_eos=True)]
                    * users)
            return server.figure("store_misses_total") - before
        self.assertLess(asked(8), 6 * asked(1))

    def test_onlookers_see_hits(self):
        with self.server.open_get("/v1/junto/routing?interval=20") as look, \
                look.makefile("rb") as lines:
            events = (json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
            first = next(events)["store"]
            self.assertEqual(set(first), {"hits", "misses"})
            self.server.text("The king said")
            event = next(events)
            self.assertGreater(event["store"]["hits"] + event["store"]["misses"], 0)


class Several(unittest.TestCase):
    def test_each_model_has_a_budget(self):
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "serve.conf"
            config.write_text(f"model = a={MODEL}\nmodel = b={MODEL}\nram = 128M\nctx-size = 512\n"
                              "parallel = 2\nmax-loaded = 2\n")
            server = Server("--config", config, models=[])
            self.addCleanup(server.stop)
            texts = at_once([lambda m=m: server.text("The king said", model=m) for m in "abab"])
            self.assertEqual(len(set(texts)), 1)
            self.assertGreater(server.figure("store_misses_total"), 0)
            self.assertGreater(server.figure("store_slots"), 2 * 6 * 24 - 1)  # all of both

    def test_a_budget_that_is_too_small(self):
        server = Server("--ram", "1M", models=[f"a={MODEL}", f"b={MODEL}"])
        self.addCleanup(server.stop)
        reply = server.post(TEXT, {"prompt": "x", "model": "b"})
        self.assertEqual((reply.status, reply.error()["code"]), (500, "model_not_loaded"))
        self.assertIn("the smallest budget is", server.wait_for("failed", "model=b"))


class Faults(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "model.gguf"
        shutil.copy(MODEL, self.path)
        self.server = Server(*SIZES, "--ram", f"{smallest(*SIZES)[0]}M", models=[self.path])
        self.addCleanup(self.server.stop)

    def test_a_file_that_shrinks(self):
        server = self.server
        whole = server.text("The king said")
        stream = server.open(TEXT, {"prompt": "Once upon", "stream": True, "max_tokens": 450,
                                    "ignore_eos": True})
        self.addCleanup(stream.close)
        data = b""
        while data.count(b"data: {") < 5:
            data += stream.recv(65536)
        times = os.stat(self.path)
        size = times.st_size
        os.truncate(self.path, size // 2)
        while b"data: [DONE]" not in data:
            more = stream.recv(65536)
            self.assertTrue(more, data[-300:])
            data += more
        events = [json.loads(line[6:]) for line in data.decode().splitlines()
                  if line.startswith("data: {")]
        self.assertRegex(events[-1]["error"]["message"], r"experts? .*of layer \d+: .* has changed")
        replies = at_once([lambda: server.post(TEXT, {"prompt": "The king said"})] * 3)
        for reply in replies:
            self.assertEqual(reply.status, 500)
            self.assertEqual(reply.error()["type"], "server_error")
            self.assertRegex(reply.error()["message"], r"of layer \d+: .* it had \d+ bytes")
        self.assertEqual(server.get("/health").status, 200)
        self.assertEqual(server.post("/tokenize", {"content": "The king"}).status, 200)
        server.wait_for("warn", "failed", "of layer")
        self.assertTrue(whole)


SANITIZED = any(name in Path(JUNTO).read_bytes() for name in (b"__asan_init", b"__tsan_init"))


@unittest.skipIf(SANITIZED, "a sanitizer takes memory of its own")
class Memory(unittest.TestCase):
    def test_it_stays_within_its_budget(self):
        """Eight users, long prompts, and contexts that are kept: the peak of the process."""
        flags = ("-c", 512, "-np", 8, "--prefix-cache", "4M", "--connections", 32)
        least = smallest(*flags)[0]
        server = Server(*flags, "--ram", f"{least}M")
        self.addCleanup(server.stop)
        at_once([lambda i=i: [server.text(f"{i} {k} " + "It was a dark night. " * 40,
                                          max_tokens=30, ignore_eos=True) for k in range(2)]
                 for i in range(8)])
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0])
        self.assertLess(peak, least << 10)


if __name__ == "__main__":
    unittest.main()
