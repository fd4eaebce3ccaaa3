"""Servers to be measured: start one, ask it, look at its memory.

Python's standard library only. Any server will do that speaks OpenAI's protocol, has
/health, and takes --port.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Answer:
    """What came, and when: `times` of the events that had text."""

    def __init__(self, text, times, began, usage):
        self.text, self.times, self.began, self.usage = text, times, began, usage
        self.tokens = usage["completion_tokens"]

    @property
    def first(self):
        return self.times[0] - self.began

    @property
    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]


class Server:
    def __init__(self, *command):
        self.port = free_port()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*map(str, command), "--port", str(self.port)],
                                        stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log)
        self.wait_health()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_health(self):
        while self.process.poll() is None:
            try:
                if self.request("GET", "/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"no server: {self.said()}")

    def said(self):
        return os.pread(self.log.fileno(), 1 << 24, 0).decode(errors="replace")

    def stop(self):
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def request(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            c.request(method, path, body and json.dumps(body),
                      {"Content-Type": "application/json"})
            response = c.getresponse()
            return response.status, response.read()
        finally:
            c.close()

    def ask(self, body, path="/v1/completions"):
        """The answer, as it is streamed."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        began = time.perf_counter()
        try:
            c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = c.getresponse()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {response.read()}")
            return self.read(response, began)
        finally:
            c.close()

    def read(self, response, began):
        """Events are read when all is there, so that reading costs the server little."""
        arrived = []
        for line in response:
            if line.startswith(b"data: {"):
                arrived.append((time.perf_counter(), line))
        text, times, usage = [], [], None
        for at, line in arrived:
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                piece = choice.get("text") or choice.get("delta", {}).get("content")
                if piece:
                    text.append(piece)
                    times.append(at)
        return Answer("".join(text), times, began, usage)

    def memory(self):
        """Bytes of the process in memory that no file backs."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) << 10 for line in f
                        if line.startswith("RssAnon:"))

    def figure(self, name):
        for line in self.request("GET", "/metrics")[1].decode().splitlines():
            if line.startswith(f"junto_{name} "):
                return float(line.split()[1])
        raise KeyError(name)


def random_prompt(n, seed, vocab=30000):
    """n tokens, the same for the same seed."""
    chance = random.Random(seed)
    return [chance.randrange(256, vocab) for _ in range(n)]


def at_once(calls):
    """Call all of them at the same time; what they return, in order. A failure of one
    is raised here."""
    results, failures = [None] * len(calls), []

    def run(i):
        try:
            results[i] = calls[i]()
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results
