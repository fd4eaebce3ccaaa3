"""Several models: loaded when they are wanted, gone when they are not; junto ps; flags
from a file."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from server import JUNTO, MODEL, Server, ServerTest, at_once

TEXT = "/v1/completions"
MIXTURE = str(Path(MODEL).parents[1] / "tests" / "golden" / "mixtral.gguf")


def two(*flags, **more):
    return Server(*flags, models=[f"mini={MODEL}", f"tiny={MIXTURE}"], **more)


class Several(unittest.TestCase):
    def serve(self, *flags, **more):
        server = two("-c", 128, *flags, **more)
        self.addCleanup(server.stop)
        return server

    def ask(self, server, model, **fields):
        body = {"prompt": "The king", "max_tokens": 4, "temperature": 0, **fields}
        return server.post(TEXT, {**body, **({"model": model} if model else {})})

    def states(self, server):
        done = subprocess.run([JUNTO, "ps", "--json", "--url", f"http://127.0.0.1:{server.port}"],
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return {m["id"]: m["junto"]["state"] for m in json.loads(done.stdout)["data"]}

    def wait(self, server, wanted):
        for _ in range(400):
            if self.states(server) == wanted:
                return
            threading.Event().wait(0.05)
        self.assertEqual(self.states(server), wanted)

    def test_models_come_when_they_are_wanted(self):
        server = self.serve()
        self.assertEqual(self.states(server), {"mini": "absent", "tiny": "absent"})
        self.assertEqual(server.get("/health").status, 200)
        reply = self.ask(server, "tiny").json()
        self.assertEqual(reply["model"], "tiny")
        self.assertEqual(self.states(server), {"mini": "absent", "tiny": "loaded"})
        self.assertEqual(self.ask(server, None).json()["model"], "mini")
        self.assertEqual(self.states(server), {"mini": "loaded", "tiny": "loaded"})
        error = self.ask(server, "nope")
        self.assertEqual((error.status, error.error()["code"]), (404, "model_not_found"))
        tokens = [server.post("/tokenize", {"content": "The king", "model": m}).json()["tokens"]
                  for m in ("mini", "tiny")]
        self.assertNotEqual(*tokens)
        for body in (b"{", b"", b"5"):
            self.assertEqual(server.post(TEXT, body).status, 400)
        loaded, absent = [m for m in server.get("/v1/models").json()["data"]][:2]
        self.assertEqual(loaded["meta"]["n_ctx"], 128)

    def test_many_ask_for_both_at_once(self):
        server = self.serve()
        alone = {m: self.ask(server, m).json()["choices"] for m in ("mini", "tiny")}
        names = ["mini", "tiny"] * 6
        replies = at_once([lambda m=m: self.ask(server, m).json() for m in names])
        for name, reply in zip(names, replies):
            self.assertEqual((reply["model"], reply["choices"]), (name, alone[name]))

    def test_idle_models_leave(self):
        server = self.serve("--keep-alive", 1)
        first = self.ask(server, "tiny").json()["choices"]
        counted = server.figure("tokens_total")
        self.wait(server, {"mini": "absent", "tiny": "absent"})
        self.assertEqual(server.figure("tokens_total"), counted)  # counters only grow
        self.assertEqual(self.ask(server, "tiny").json()["choices"], first)
        server.wait_for("unloaded model=tiny")

    def test_one_makes_room_for_another(self):
        server = self.serve("--max-loaded", 1)
        for name, other in (("mini", "tiny"), ("tiny", "mini"), ("mini", "tiny")):
            self.assertEqual(self.ask(server, name).status, 200)
            self.assertEqual(self.states(server), {name: "loaded", other: "absent"})
        names = ["mini", "tiny"] * 3
        for reply in at_once([lambda m=m: self.ask(server, m) for m in names]):
            self.assertEqual(reply.status, 200, reply.data)

    def test_who_looks_on_keeps_no_model(self):
        server = self.serve("--keep-alive", 1)
        with server.open_get("/v1/junto/routing?model=mini") as look:
            server.open_get("/v1/junto/routing?model=mini").close()
            self.assertEqual(self.states(server), {"mini": "absent", "tiny": "absent"})
            self.ask(server, "mini")
            data = b""
            while b"junto.routing" not in data:
                data += look.recv(65536)
            self.wait(server, {"mini": "absent", "tiny": "absent"})
            while not data.endswith(b"0\r\n\r\n"):  # the stream has ended
                data += look.recv(65536)

    def test_a_model_that_cannot_be_loaded_fails_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            bad = Path(folder) / "bad.gguf"
            bad.write_bytes(b"GGUF nonsense")
            server = Server(models=[MODEL, bad])
            self.addCleanup(server.stop)
            error = self.ask(server, "bad")
            self.assertEqual((error.status, error.error()["code"]), (500, "model_not_loaded"))
            self.assertEqual(self.ask(server, "junto-mini").status, 200)
            shutil.copy(MIXTURE, bad)
            self.assertEqual(self.ask(server, "bad").status, 200)

    def test_the_end(self):
        server = self.serve("--grace", 60)
        look = server.open_get("/v1/junto/routing?model=mini")
        body = {"prompt": "The king", "max_tokens": 100, "ignore_eos": True, "stream": True,
                "model": "mini"}
        with server.open(TEXT, body) as client, look:
            server.wait_figure("slots_busy", 1)
            server.process.send_signal(signal.SIGTERM)
            data = b""
            while more := client.recv(65536):
                data += more
            self.assertIn(b"data: [DONE]", data)
        server.ended()

    def test_the_shelf(self):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "o", "m").mkdir(parents=True)
            shutil.copy(MIXTURE, Path(folder, "o", "m", "tiny.gguf"))
            shutil.copy(MODEL, Path(folder, "mini.gguf"))
            env = {"JUNTO_MODELS": folder}
            server = Server(models=[], env=env)
            self.addCleanup(server.stop)
            self.assertEqual(self.states(server), {"mini": "absent", "o/m/tiny": "absent"})
            self.assertEqual(self.ask(server, "o/m/tiny").status, 200)
            named = Server(models=["tiny"], env=env)
            self.addCleanup(named.stop)
            self.assertEqual(self.ask(named, "any").status, 200)


class Config(ServerTest):
    def run_with(self, text, *flags):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "serve.conf"
            path.write_text(text)
            done = subprocess.run([JUNTO, "serve", "--config", str(path), *map(str, flags)],
                                  capture_output=True, timeout=60)
            return done.returncode, done.stderr.decode()

    def test_flags_from_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "serve.conf"
            path.write_text(f"# for all\nmodel = {MODEL}\nalias = of the file\npredict = 3\n\n"
                            "  parallel=2 # two\n")
            server = Server("--config", path, "--predict", 5, models=[])
            self.addCleanup(server.stop)
            reply = server.post(TEXT, {"prompt": "The king", "ignore_eos": True}).json()
            self.assertEqual(reply["model"], "of the file")
            self.assertEqual(reply["usage"]["completion_tokens"], 5)  # the command line wins
            self.assertEqual(server.figure("slots"), 2)

    def test_the_example(self):
        """contrib/serve.conf, with a log of JSON."""
        example = Path(MODEL).parents[1] / "contrib" / "serve.conf"
        log = tempfile.TemporaryFile()
        process = subprocess.Popen([JUNTO, "serve", MODEL, MIXTURE, "--config", str(example),
                                    "--port", "0"], stderr=log)
        for _ in range(400):
            lines = os.pread(log.fileno(), 1 << 20, 0).decode().splitlines()
            if any('"ready"' in line for line in lines):
                break
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 0)
        lines = os.pread(log.fileno(), 1 << 20, 0).decode().splitlines()
        events = [json.loads(line) for line in lines]
        self.assertEqual([e["event"] for e in events],
                         ["listening", "ready", "stopping", "stopped"])
        self.assertEqual((events[1]["models"], events[1]["slots"], events[1]["level"]),
                         ("2", "4", "info"))
        log.close()

    def test_what_is_wrong_is_named(self):
        for text, code, words in (("port = x", 2, "--port"), ("nope = 1", 2, "--nope"),
                                  ("a b = c", 1, "line 1"), ("\nport =", 1, "line 2"),
                                  ("config = x", 1, "line 1"), ("= 5", 1, "line 1")):
            got = self.run_with(text, MODEL)
            self.assertEqual(got[0], code, got)
            self.assertIn(words, got[1])
        done = subprocess.run([JUNTO, "serve", "--config", "/no/such"], capture_output=True)
        self.assertEqual(done.returncode, 1)

    def test_ps_without_a_server(self):
        done = subprocess.run([JUNTO, "ps", "--url", "http://127.0.0.1:1"], capture_output=True)
        self.assertEqual(done.returncode, 1)
        done = subprocess.run([JUNTO, "ps", "--url", f"http://127.0.0.1:{self.server.port}"],
                              capture_output=True, timeout=60)
        self.assertRegex(done.stdout.decode(), r"^junto-mini +loaded +running 0\n$")


if __name__ == "__main__":
    unittest.main()
