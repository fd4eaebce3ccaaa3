"""What the server refuses, and how it ends."""

import json
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from server import JUNTO, MODEL, ServerTest

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


class Errors(ServerTest):
    flags = ("-c", 128, "--max-body", "64K", "--predict", 32)

    def test_what_is_no_json(self):
        for body in (b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"prompt": "\xff"}',
                     b'{"prompt": "\\ud800"}', b'{"prompt": "a", "prompt": "b"}',
                     b'{"n": NaN}', b"[" * 60000, b'{"a":' * 10000):
            self.assertEqual(self.refused(400, None, TEXT, body)["code"], "invalid_json")

    def test_wrong_fields(self):
        good = {"prompt": "Hello"}
        for field, value in (("temperature", "hot"), ("temperature", -1), ("top_p", 1.5),
                             ("n", 0), ("n", 17), ("n", 1.5), ("max_tokens", -2),
                             ("max_tokens", 1e99), ("seed", "x"), ("stream", 1),
                             ("stop", 5), ("stop", ["a", 5]), ("stop", ["a"] * 17),
                             ("stream_options", []), ("junto", "x"), ("prompt", None),
                             ("prompt", []), ("prompt", ["a", None]), ("prompt", [1, "b"]),
                             ("prompt", ["a"] * 2049), ("prompt", [[]]), ("prompt", [["a"]]),
                             ("prompt", [1 << 40]), ("prompt", [-1]), ("prompt", {}),
                             ("logprobs", 9), ("suffix", "x")):
            self.refused(400, field, TEXT, {**good, field: value})
        self.refused(400, "junto.policy", TEXT, {**good, "junto": {"policy": "nope"}})
        self.refused(400, "junto.policy", TEXT, {**good, "junto": {"policy": "topk:k=99"}})
        self.refused(400, "junto.trace", TEXT, {"prompt": ["a", "b"], "junto": {"trace": True}})

    def test_wrong_messages(self):
        for messages in (None, [], "Hello", [5], [{}], [{"role": 5}],
                         [{"role": "user", "content": [{"type": "image_url",
                                                        "image_url": {"url": "file:///"}}]}]):
            self.refused(400, "messages", CHAT, {"messages": messages})
        hello = [{"role": "user", "content": "Hello"}]
        self.refused(400, "tools", CHAT, {"messages": hello, "tools": {}})
        self.refused(400, "tool_choice", CHAT, {"messages": hello, "tool_choice": "required"})

    def test_null_is_silence(self):
        silent = {name: None for name in ("temperature", "n", "stop", "seed", "tools",
                                          "logprobs", "stream_options", "junto")}
        self.assertEqual(self.server.post(TEXT, {"prompt": "Hello", **silent}).status, 200)

    def test_no_request_opens_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = Path(folder) / "pipe"
            subprocess.run(["mkfifo", str(pipe)], check=True)  # to open it would hang
            body = {"prompt": "Hello", "junto": {"policy": f"modes:file={pipe},skip=0.5"}}
            error = self.refused(400, "junto.policy", TEXT, body)
            self.assertIn("reads a file", error["message"])

    def test_lengths(self):
        for prompt in ([300] * 128, ["Hello", [300] * 128]):
            error = self.refused(400, "prompt", TEXT, {"prompt": prompt})
        self.assertEqual(error["code"], "context_length_exceeded")
        reply = self.server.post(TEXT, {"prompt": [300] * 100, "ignore_eos": True}).json()
        self.assertEqual(reply["usage"]["completion_tokens"], 29)  # the context is full
        self.assertEqual(reply["choices"][0]["finish_reason"], "length")
        reply = self.server.post(TEXT, {"prompt": "Hello", "ignore_eos": True,
                                        "max_tokens": 100}).json()
        self.assertEqual(reply["usage"]["completion_tokens"], 32)  # --predict
        self.assertEqual(self.server.text("Hello", max_tokens=0), "")

    def test_paths_and_methods(self):
        self.assertEqual(self.server.get("/v1/nope").status, 404)
        self.assertEqual(self.server.get("/v1/../health").status, 404)
        reply = self.server.get(TEXT)
        self.assertEqual((reply.status, reply.headers["Allow"]), (405, "POST"))
        self.assertEqual(self.server.post("/health", {}).status, 405)
        form = self.server.request("POST", TEXT, b"{}", {"Content-Type": "text/plain"})
        self.assertEqual(form.status, 415)
        self.assertNotIn("Access-Control-Allow-Origin", form.headers)

    def test_large_bodies(self):
        head = (f"POST {TEXT} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                "{}\r\n\r\n")
        for way in ("Content-Length: 99999999", "Transfer-Encoding: chunked"):
            with socket.create_connection(("127.0.0.1", self.server.port), 30) as client:
                client.sendall(head.format(way).encode())
                if "chunked" in way:
                    client.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
                    client.sendall((b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 3 + b"0\r\n\r\n")
                self.assertIn(b" 413 ", client.recv(4096).split(b"\r\n")[0])

    def test_large_heads(self):
        reply = self.server.request("GET", "/health", headers={"X-Much": "x" * 100000})
        self.assertGreaterEqual(reply.status, 400)
        self.assertEqual(self.server.get("/health").status, 200)

    def test_garbage(self):
        for garbage in (b"\0" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01"):
            with socket.create_connection(("127.0.0.1", self.server.port), 30) as client:
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                client.recv(4096)
        self.assertEqual(self.server.get("/health").status, 200)


class Clients(ServerTest):
    """Without keys whoever has an address is a client."""
    flags = ("-np", 1, "--per-client", 6)

    def ends(self, first, second):
        """Four replies of the first and, when they have begun, one of the second: the order
        in which they end."""
        ends = []

        def ask(name, address, **fields):
            body = {"prompt": "The king", "ignore_eos": True, **fields}
            reply = self.server.request("POST", TEXT, json.dumps(body).encode(),
                                        {"Content-Type": "application/json"}, address=address)
            ends.append((name, reply.status))

        much = threading.Thread(target=ask, args=("first", first[0]), kwargs={
            "user": first[1], "n": 4, "max_tokens": 200})
        much.start()
        self.server.wait_figure("slots_busy", 1)
        # long enough for the end of the first to be read before it
        ask("second", second[0], user=second[1], max_tokens=60)
        much.join()
        return ends

    def test_addresses_take_turns(self):
        self.assertEqual(self.ends(("127.0.0.1", "a"), ("127.0.0.2", "a")),
                         [("second", 200), ("first", 200)])

    def test_users_of_an_address_take_turns(self):
        self.assertEqual(self.ends(("127.0.0.1", "a"), ("127.0.0.1", "b")),
                         [("second", 200), ("first", 200)])

    def test_of_one_user_who_came_first_is_first(self):
        self.assertEqual(self.ends(("127.0.0.1", "a"), ("127.0.0.1", "a")),
                         [("first", 200), ("second", 200)])

    def test_users_share_what_their_address_may_have(self):
        body = {"prompt": ["a"] * 7, "max_tokens": 1}
        self.assertEqual(self.server.post(TEXT, body).error()["code"], "rate_limit_exceeded")


class Keys(ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        path = Path(cls.folder.name) / "key"
        path.write_text("secret key\n\nanother\n")
        cls.flags = ("--api-key-file", path)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    def test_who_has_no_key_gets_nothing(self):
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer secret"},
                        {"Authorization": "Bearer secret keys"}, {"Authorization": "secret key"},
                        {"Authorization": "Bearer "}, {"Authorization": "Bearer secret key\tanother"}):
            reply = self.server.request("GET", "/v1/models", headers=headers)
            self.assertEqual(reply.status, 401)
            self.assertEqual(reply.error()["code"], "invalid_api_key")
        self.assertEqual(self.server.get("/metrics").status, 401)
        self.assertEqual(self.server.get("/nope").status, 401)
        self.assertEqual(self.server.get("/health").status, 200)
        for key in ("secret key", "another"):
            good = self.server.get("/v1/models", Authorization="Bearer " + key)
            self.assertEqual(good.status, 200)

    def test_keys_take_turns(self):
        """Who asks for much at once keeps nobody else waiting, and can be bounded."""
        server = self.server_with(*self.flags, "-np", 1, "--per-client", 4)
        keys = {key: {"Authorization": "Bearer " + key} for key in ("secret key", "another")}
        ends = []

        def ask(key, **fields):
            reply = server.post(TEXT, {"prompt": "The king", "ignore_eos": True, **fields},
                                **keys[key])
            ends.append((key, reply.status))
            return reply

        much = threading.Thread(target=ask, args=("secret key",),
                                kwargs={"n": 4, "max_tokens": 240})
        much.start()
        while b"junto_slots_busy 1" not in server.get("/metrics", **keys["another"]).data:
            time.sleep(0.01)
        error = ask("secret key", max_tokens=1)
        self.assertEqual(error.error()["code"], "rate_limit_exceeded")
        ask("another", max_tokens=4)
        much.join()
        self.assertEqual(ends, [("secret key", 429), ("another", 200), ("secret key", 200)])
        self.assertEqual(ask("secret key", n=4, max_tokens=1).status, 200)

    def test_tokens_of_a_key(self):
        server = self.server_with(*self.flags, "--per-client-tokens", 120)
        mine, other = ({"Authorization": "Bearer " + key} for key in ("secret key", "another"))
        body = {"prompt": [300] * 20, "ignore_eos": True}
        reply = server.post(TEXT, {**body, "max_tokens": 60}, **mine)
        self.assertEqual(reply.headers["x-ratelimit-limit-tokens"], "120")
        self.assertIn(int(reply.headers["x-ratelimit-remaining-tokens"]), range(40, 45))
        self.assertRegex(reply.headers["x-ratelimit-reset-tokens"], r"^(40|39)\.\d+s$")
        reply = server.post(TEXT, {**body, "max_tokens": 60}, **mine)
        error = reply.error()
        self.assertEqual(reply.status, 429)
        self.assertEqual((error["type"], error["code"]), ("tokens", "rate_limit_exceeded"))
        self.assertIn(int(reply.headers["Retry-After"]), range(5, 21))
        self.assertEqual(server.post(TEXT, {**body, "max_tokens": 60}, **other).status, 200)
        # What is not said beforehand is counted when it has been written.
        self.assertEqual(server.post(TEXT, {**body, "stop": "\n"}, **mine).status, 200)
        self.assertEqual(server.post(TEXT, {**body, "max_tokens": 60}, **mine).status, 429)
        reply = server.post("/v1/embeddings", {"input": [[300] * 121]}, **other)
        self.assertEqual((reply.status, reply.headers["Retry-After"]), (429, None))

    def test_a_key_of_the_environment(self):
        server = self.server_with(env={"JUNTO_API_KEY": "other"})
        self.assertEqual(server.get("/v1/models").status, 401)
        self.assertEqual(server.get("/v1/models", Authorization="Bearer other").status, 200)


class Endings(ServerTest):
    LONG = {"prompt": "The king said", "max_tokens": 700, "ignore_eos": True, "stream": True}

    def read_all(self, client):
        data = b""
        while more := client.recv(65536):
            data += more
        return data

    def test_what_runs_may_end(self):
        for how in (signal.SIGTERM, signal.SIGINT):
            server = self.server_with("--grace", 60)
            with server.open(TEXT, self.LONG) as client:
                server.wait_figure("slots_busy", 1)
                server.process.send_signal(how)
                self.assertIn(b"data: [DONE]", self.read_all(client))
            server.ended()

    def test_but_not_longer_than_the_grace(self):
        server = self.server_with("--grace", 0, "-np", 1)
        with server.open(TEXT, {**self.LONG, "n": 8}) as client:
            server.wait_figure("slots_busy", 1)
            server.process.send_signal(signal.SIGTERM)
            self.assertNotIn(b"data: [DONE]", self.read_all(client))
        server.ended()

    def test_a_silent_client_is_sent_away(self):
        server = self.server_with("--timeout", 1)
        with socket.create_connection(("127.0.0.1", server.port), 30) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\n")
            start = time.monotonic()
            self.assertEqual(client.recv(100), b"")
            self.assertLess(time.monotonic() - start, 20)

    def test_a_body_that_drips_is_cut_off(self):
        server = self.server_with("--timeout", 1)
        with socket.create_connection(("127.0.0.1", server.port), 30) as client:
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n"
                           b"Content-Type: application/json\r\n\r\n")
            with self.assertRaises(OSError):
                for _ in range(100):
                    client.sendall(b" ")
                    time.sleep(0.1)

    def test_a_port_that_is_taken(self):
        done = subprocess.run([JUNTO, "serve", MODEL, "--port", str(self.server.port)],
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot listen on 127.0.0.1", done.stderr)
        done = subprocess.run([JUNTO, "serve", MODEL, "--host", "example.org"],
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 2)

    def test_the_log(self):
        self.server.text("The king said", max_tokens=3)
        line = self.server.wait_for(" info reply ", "tokens=3")
        self.assertNotIn("king", line)


if __name__ == "__main__":
    unittest.main()
