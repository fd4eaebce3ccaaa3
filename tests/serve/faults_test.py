"""Hostile clients, accidents and kills: the server answers others all the while."""

import os
import random
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from server import JUNTO, MODEL, Server, ServerTest

TEXT = "/v1/completions"
CHAT = "/v1/chat/completions"
BODY = {"prompt": "The king said", "max_tokens": 700, "ignore_eos": True, "stream": True}
HEAD = ("POST {} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        "Content-Length: {}\r\n\r\n")


class Honest(threading.Thread):
    """A client that asks the same again and again, and wants the same answer."""

    def __init__(self, server):
        super().__init__()
        self.server, self.count, self.over = server, 0, threading.Event()
        self.wanted = server.text("Once upon a time", max_tokens=8)
        self.wrong, self.slowest = [], 0.0
        self.start()

    def run(self):
        while not self.over.is_set():
            start = time.monotonic()
            try:
                text = self.server.text("Once upon a time", max_tokens=8)
            except (OSError, AssertionError) as problem:
                text = repr(problem)
            self.slowest = max(self.slowest, time.monotonic() - start)
            self.count += 1
            if text != self.wanted:
                self.wrong.append(text)


class Hostile(ServerTest):
    """Somebody honest asks the same server all the while."""
    flags = ("-c", 512, "--max-body", "256K", "-np", 4, "--connections", 512)

    def setUp(self):
        self.honest = Honest(self.server)
        self.addCleanup(self.check)

    def wait_honest(self, more):
        """Somebody else is answered, so many times more."""
        wanted = self.honest.count + more
        for _ in range(600):
            if self.honest.count >= wanted:
                return
            time.sleep(0.05)
        self.fail("somebody honest waits for an answer")

    def check(self):
        """Somebody else was answered before, meanwhile and after; nothing is left."""
        try:
            self.wait_honest(3)
        finally:
            self.honest.over.set()
            self.honest.join(60)
        self.assertEqual(self.honest.wrong, [])
        self.server.wait_figure("slots_busy", 0)
        self.server.wait_figure("queue_length", 0)

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.server.port), timeout=30)
        self.addCleanup(client.close)
        return client


class Slow(Hostile):
    flags = (*Hostile.flags, "--timeout", 5)

    def test_slow_lorises(self):
        """Heads and bodies that come byte by byte hold their own connection only."""
        clients = [self.connect() for _ in range(60)]
        alive = dict.fromkeys(clients, 0)
        drips, end = clients[1::2], time.monotonic() + 60
        lines = ("GET /health HTTP/1.1\r\nHost: a\r\n" + "X-Slow: yes\r\n" * 99).encode()
        body = HEAD.format(TEXT, 100000).encode()
        for i, client in enumerate(clients):
            client.sendall(body if i % 2 else b"")
        while set(drips) & set(alive) and time.monotonic() < end:
            for i, client in enumerate(clients):
                try:
                    if client in alive:
                        client.sendall(b" " if i % 2 else lines[alive[client]:alive[client] + 1])
                        alive[client] += 1
                except OSError:
                    del alive[client]
            time.sleep(0.1)
        self.assertGreater(self.honest.count, 5)
        self.assertFalse(set(drips) & set(alive), "a body may drip for ever")


class Faults(Hostile):
    def test_clients_that_leave_at_any_moment(self):
        dice = random.Random(1)
        before = self.server.figure("cancelled_total")
        for i in range(40):
            client = self.server.open(dice.choice((TEXT, CHAT)), {
                **BODY, "messages": [{"role": "user", "content": "Hello"}]})
            if i % 3 == 0:  # not closed, but torn off
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            time.sleep(dice.random() * 0.05)
            client.close()
        self.server.wait_figure("slots_busy", 0)
        self.assertGreater(self.server.figure("cancelled_total"), before)

    def test_half_open_connections(self):
        """Clients that are gone without a word, in every state of a request."""
        for begun in (b"", b"P", b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n",
                      HEAD.format(TEXT, 100).encode(), HEAD.format(TEXT, 100).encode() + b"{"):
            for _ in range(20):
                self.connect().sendall(begun)
        for _ in range(4):
            self.addCleanup(self.server.open(TEXT, BODY).close)  # and never read
        self.wait_honest(2)  # the first may have been asked before

    def test_huge_bodies(self):
        """A gigabyte: refused by what it says, or cut off when it is sent."""
        with self.connect() as client:
            client.sendall(HEAD.format(TEXT, 1 << 30).encode())
            self.assertIn(b" 413 ", client.recv(4096))
        with self.connect() as client:
            client.sendall(HEAD.format(TEXT, 0).replace("Content-Length: 0",
                                                        "Transfer-Encoding: chunked").encode())
            sent = 0
            try:
                while sent < 64 << 20:
                    client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                    sent += 65536
                client.sendall(b"0\r\n\r\n")
            except OSError:
                pass
            else:
                self.assertIn(b" 413 ", client.recv(4096))
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0])
        self.assertLess(peak, 400 << 10, "a large body was kept")

    def test_bytes_that_are_no_json(self):
        dice = random.Random(2)
        bodies = [b'{"prompt": "\xff\xfe"}', b'{"prompt": "\\ud800"}', b"[" * 200000,
                  b'{"a":' * 40000, b'{"prompt": "' + b"x" * 200000, b"\0" * 1000,
                  b'{"prompt": "a\\u0000b", "stop": "\\u0000"}',
                  b'{"messages": [{"role": "user", "content": "\xc0\x80"}]}']
        bodies += [dice.randbytes(200) for _ in range(20)]
        good = b'{"prompt": "The king", "max_tokens": 3, "junto": {"trace": true}}'
        for _ in range(60):
            body = bytearray(good)
            body[dice.randrange(len(body))] = dice.randrange(256)
            bodies.append(bytes(body))
        for body in bodies:
            for path in (TEXT, CHAT, "/tokenize"):
                reply = self.server.post(path, body)
                self.assertIn(reply.status, (200, 400), (path, body[:100], reply.data))

    def test_lines_that_are_no_http(self):
        dice = random.Random(3)
        for _ in range(100):
            client = self.connect()
            try:
                client.sendall(dice.randbytes(dice.randrange(1, 300)) + b"\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                client.recv(4096)
            except OSError:
                pass
            client.close()


class Floods(ServerTest):
    def test_more_connections_than_there_are_threads(self):
        """As many as this process may open; those beyond the limit wait or are closed."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wish = min(10000, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wish, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        server = self.server_with("--connections", 64, "--timeout", 2)
        clients, refused = [], 0
        for _ in range(wish - 200):
            client = socket.socket()
            client.settimeout(0.2)
            try:
                client.connect(("127.0.0.1", server.port))
                clients.append(client)
            except OSError:
                refused += 1
                client.close()
                if refused > 20:
                    break
        self.assertGreater(len(clients) + refused, 500)
        threads = len(os.listdir(f"/proc/{server.process.pid}/task"))
        self.assertLess(threads, 64 + 16)
        for client in clients:
            client.close()
        for _ in range(100):
            try:
                self.assertTrue(server.text("The king", max_tokens=3))
                break
            except OSError:
                time.sleep(0.1)
        else:
            self.fail("the server does not answer after the flood")


class Kills(ServerTest):
    def test_kill_and_restart(self):
        """Nothing is left behind that would keep the next one from starting at once."""
        text = self.server.text("The king said")
        first = self.server_with("-np", 1)
        port, client = first.port, first.open(TEXT, {**BODY, "n": 16})
        first.wait_figure("slots_busy", 1)
        first.stop(signal.SIGKILL)
        with client:
            data = b""
            try:
                while more := client.recv(65536):
                    data += more
            except OSError:
                pass
            self.assertNotIn(b"[DONE]", data)
        second = self.server_with("--port", port)
        self.assertEqual(second.port, port)
        self.assertEqual(second.text("The king said"), text)

    def test_a_disk_that_is_full_for_the_log(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("there is no /dev/full")
        with socket.socket() as free, open("/dev/full", "wb") as full:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            process = subprocess.Popen([JUNTO, "serve", MODEL, "--port", str(port), "-t", "2"],
                                       stderr=full, stdin=subprocess.DEVNULL)
        server = Server.__new__(Server)
        server.process, server.port, server.log = process, port, tempfile.TemporaryFile()
        self.addCleanup(server.stop)
        for _ in range(400):
            try:
                if server.get("/health").status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.05)
        self.assertEqual(server.text("The king said"), self.server.text("The king said"))


if __name__ == "__main__":
    unittest.main()
