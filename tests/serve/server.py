"""A server for tests: start it, ask it, stop it.

Python's standard library only. The environment gives JUNTO (the command).
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

JUNTO = os.environ["JUNTO"]
MODEL = str(Path(__file__).resolve().parents[2] / "models" / "junto-mini.gguf")
PATIENCE = 170  # seconds: sanitizers are slow, and other tests run beside


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.data = response.read()

    def json(self):
        return json.loads(self.data)

    def error(self):
        return self.json()["error"]


class Server:
    """A running `junto serve` on a port of its own."""

    def __init__(self, *flags, env=None, models=(MODEL,)):
        self.log = tempfile.TemporaryFile()
        environment = {k: v for k, v in os.environ.items() if k != "JUNTO_API_KEY"}
        self.process = subprocess.Popen(
            [JUNTO, "serve", *map(str, models), "--port", "0", "-t", "2", *map(str, flags)],
            stderr=self.log, stdin=subprocess.DEVNULL,
            env={**environment, **(env or {})})
        line = self.wait_for("listening", "url=")
        self.port = int(line.rsplit(":", 1)[1])
        self.wait_for("ready")

    def wait_for(self, *words):
        """The first line of the log with these words."""
        for _ in range(1200):
            for line in self.lines():
                if all(word in line for word in words):
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"no line with {words}: {self.lines()}")

    def lines(self):
        return os.pread(self.log.fileno(), 1 << 20, 0).decode().splitlines()

    def request(self, method, path, body=None, headers=None, timeout=PATIENCE, address="127.0.0.1"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout,
                                                source_address=(address, 0))
        try:
            connection.request(method, path, body, headers or {})
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.request("GET", path, headers=headers)

    def post(self, path, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data,
                            {"Content-Type": "application/json", **headers})

    def text(self, prompt, **fields):
        """What follows a prompt, at temperature 0 unless fields say otherwise."""
        reply = self.post("/v1/completions",
                          {"prompt": prompt, "max_tokens": 24, "temperature": 0, **fields})
        assert reply.status == 200, reply.data
        return reply.json()["choices"][0]["text"]

    def events(self, path, body):
        """The data of all events of a stream."""
        reply = self.post(path, {**body, "stream": True})
        assert reply.status == 200, reply.data
        assert reply.headers["Content-Type"] == "text/event-stream"
        events = reply.data.decode().split("\n\n")
        assert events.pop() == "", events
        assert all(event.startswith("data: ") for event in events), events
        assert events[-1] == "data: [DONE]", events
        return [json.loads(event[6:]) for event in events[:-1]]

    def open(self, path, body):
        """A socket on which a request has been sent, and nothing read."""
        data = json.dumps(body).encode()
        head = (f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(data)}\r\n\r\n")
        client = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        client.sendall(head.encode() + data)
        return client

    def open_get(self, path):
        """A socket on which this has been asked for, and nothing read."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return client

    def figure(self, name):
        for line in self.get("/metrics").data.decode().splitlines():
            if line.startswith(f"junto_{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no figure {name}")

    def wait_figure(self, name, value):
        for _ in range(6000):
            if self.figure(name) == value:
                return
            time.sleep(0.005)  # a reply may be over soon
        raise AssertionError(f"{name} is {self.figure(name)}, expected {value}")

    def stop(self, how=signal.SIGTERM):
        """End it, if it has not ended, and see that it ends well. A failure shows its log,
        where sanitizers report as well."""
        if self.log.closed:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.ended(-how if how == signal.SIGKILL else 0)
        finally:
            self.log.close()

    def ended(self, expected=0):
        """It ends by itself, with this exit code."""
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = f"none in a minute, then {self.process.wait()}"
        if code != expected:
            log = "\n".join(self.lines())
            raise AssertionError(f"the exit code is {code}, not {expected}; the log:\n{log}")


def at_once(calls):
    """Call all of them at the same time; their results in order."""
    results = [None] * len(calls)

    def run(i):
        results[i] = calls[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class ServerTest(unittest.TestCase):
    """One server for all tests of a class."""
    flags = ()
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def server_with(self, *flags, **more):
        server = Server(*flags, **more)
        self.addCleanup(server.stop)
        return server

    def refused(self, status, param, path, body, **headers):
        """The answer is an error of this status about this field; its object."""
        reply = self.server.post(path, body, **headers)
        self.assertEqual(reply.status, status, reply.data)
        self.assertEqual(set(reply.error()), {"message", "type", "param", "code"})
        self.assertEqual(reply.error()["param"], param, reply.data)
        return reply.error()
