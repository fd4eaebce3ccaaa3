#!/usr/bin/env python3
"""Many users for a long time: no error, no leak, and every answer that given alone.

    bench/serve_load.py [--users 64] [--seconds 600] [--slots 16] [--context 1024]
                        [--model FILE] [--junto build/junto] [-- FLAGS OF THE SERVER]

Users ask one after the other, each at random one of many questions of several kinds:
streams and whole replies, chats and texts, short and long prompts, JSON, log
probabilities, several replies at once, policies. Some leave in the middle. What each
question gets alone is asked first, and again from another server that runs nothing else.
Memory is looked at each second. Contexts take memory as they are filled: before the time
begins, every slot is once, and the prefix cache with them. From the second tenth of the
time to its last it must then not grow by more than one per cent.
"""

import argparse
import json
import pathlib
import random
import statistics
import sys
import threading
import time

import serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ["The king said", "Once upon a time there was", "In the beginning",
         "She went to the window and looked out", "My dear friend, ", "It was a dark night"]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
          "required": ["a", "b"]}


def can_be_steered(server):
    """Are there experts?"""
    body = {"prompt": "The", "max_tokens": 1, "junto": {"policy": ["topk:k=2"]}}
    return server.request("POST", "/v1/completions", body)[0] == 200


def questions(count, steer):
    """(path, body) of so many requests, all different, of several kinds."""
    chance = random.Random(1)
    asked = []
    for i in range(count):
        words = TEXTS[i % len(TEXTS)] * chance.choice([1, 1, 1, 4, 20])
        body = {"seed": i, "temperature": chance.choice([0, 0.8, 1]),
                "max_tokens": chance.choice([8, 16, 32, 64])}
        kind = i % 8
        if kind == 1:
            body["response_format"] = {"type": "json_object"}
        elif kind == 2:
            body["response_format"] = {"type": "json_schema",
                                       "json_schema": {"name": "x", "schema": SCHEMA}}
        elif kind == 3 and steer:
            body["junto"] = {"policy": ["topk:k=2"]}
        elif kind == 4:
            body["n"] = 2
        if kind == 5:
            body["logprobs"] = 2
        if i % 3:
            asked.append(("/v1/completions", {**body, "prompt": words}))
        else:
            body["logprobs"] = kind == 5
            asked.append(("/v1/chat/completions",
                          {**body, "messages": [{"role": "user", "content": words}]}))
    return asked


def what_counts(reply):
    """Of an answer all that must be the same each time."""
    return [{k: v for k, v in choice.items() if k != "junto"} for choice in reply["choices"]]


class Load:
    def __init__(self, server, asked, expected):
        self.server, self.asked, self.expected = server, asked, expected
        self.lock = threading.Lock()
        self.replies = self.left = self.tokens = 0
        self.wrong = []
        self.seconds = []
        self.end = None

    def complain(self, what):
        with self.lock:
            self.wrong.append(what)

    def whole(self, i):
        path, body = self.asked[i]
        status, data = self.server.request("POST", path, body)
        if status != 200:
            return self.complain(f"question {i}: {status} {data[:200]}")
        reply = json.loads(data)
        if what_counts(reply) != self.expected[i]:
            self.complain(f"question {i}: {what_counts(reply)}, alone {self.expected[i]}")
        with self.lock:
            self.tokens += reply["usage"]["completion_tokens"]

    def stream(self, i):
        path, body = self.asked[i]
        answer = self.server.ask({**body, "n": 1, "logprobs": None}, path)
        choice = self.expected[i][0]
        alone = choice["text"] if "text" in choice else choice["message"]["content"]
        if answer.text != (alone or ""):
            self.complain(f"question {i}: streamed {answer.text!r}, alone {alone!r}")
        with self.lock:
            self.tokens += answer.tokens

    def leave(self, i, chance):
        """Ask, and go before the answer is there."""
        path, body = self.asked[i]
        data = json.dumps({**body, "stream": True, "max_tokens": 500, "ignore_eos": True})
        client = serving.socket.create_connection(("127.0.0.1", self.server.port))
        client.sendall((f"POST {path} HTTP/1.1\r\nHost: load\r\nContent-Type: "
                        f"application/json\r\nContent-Length: {len(data)}\r\n\r\n{data}"
                        ).encode())
        time.sleep(chance.random())
        client.close()
        with self.lock:
            self.left += 1

    def user(self, number):
        chance = random.Random(number)
        while time.monotonic() < self.end:
            i = chance.randrange(len(self.asked))
            began = time.monotonic()
            try:
                dice = chance.random()
                if dice < 0.02:
                    self.leave(i, chance)
                    continue
                (self.whole if dice < 0.5 else self.stream)(i)
            except Exception as e:  # whatever it was, it must not have been
                self.complain(f"question {i}: {e!r}")
            with self.lock:
                self.replies += 1
                self.seconds.append(time.monotonic() - began)

    def fill(self, slots, context):
        """Let the contexts of all slots be as long as they can."""
        for turn in range(3):
            serving.at_once([lambda u=u: self.server.ask(
                {"prompt": f"{turn} {u} " + TEXTS[u % len(TEXTS)] * 20, "seed": u,
                 "max_tokens": context, "ignore_eos": True}) for u in range(slots)])

    def run(self, users, seconds):
        """Memory, once a second."""
        self.end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.user, args=(u,)) for u in range(users)]
        for thread in threads:
            thread.start()
        memory = []
        while time.monotonic() < self.end:
            memory.append(self.server.memory())
            time.sleep(1)
        for thread in threads:
            thread.join()
        return memory


def growth(memory):
    """Of the last tenth over the second tenth: by then all users have come."""
    tenth = max(1, len(memory) // 10)
    return (statistics.median(memory[-tenth:]) /
            statistics.median(memory[tenth:2 * tenth] or memory[:1]) - 1)


def report(load, memory, users):
    took = sorted(load.seconds)
    for what in load.wrong[:10]:
        print(what, file=sys.stderr)
    print(json.dumps({
        "users": users, "seconds": len(memory), "replies": load.replies,
        "left": load.left, "tokens": load.tokens, "wrong": len(load.wrong),
        "median_seconds": round(statistics.median(took), 3),
        "p99_seconds": round(took[int(len(took) * 0.99)], 3),
        "memory_MB": [round(m / 1e6, 1) for m in memory[::max(1, len(memory) // 20)]],
        "growth": round(growth(memory), 5)}, indent=1))


def read_flags():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--context", type=int, default=1024, help="tokens of a slot")
    parser.add_argument("--model", default=ROOT / "models" / "junto-mini.gguf")
    parser.add_argument("--junto", default=ROOT / "build" / "junto")
    parser.add_argument("--grows", type=float, default=0.01, help="memory may, by this part")
    parser.add_argument("flags", nargs="*", help="of the server")
    return parser.parse_args()


def main():
    o = read_flags()
    command = [o.junto, "serve", o.model, "-c", str(o.context), "--prefix-cache", "16M", *o.flags]
    with serving.Server(*command, "-np", "1") as server:
        asked = questions(o.questions, can_be_steered(server))
        answers = [server.request("POST", *question) for question in asked]
    for (status, data), question in zip(answers, asked):
        if status != 200:
            raise SystemExit(f"{question}: {data}")
    expected = [what_counts(json.loads(data)) for _, data in answers]
    with serving.Server(*command, "-np", str(o.slots), "--queue", str(4 * o.users)) as server:
        load = Load(server, asked, expected)
        load.fill(o.slots, o.context)
        memory = load.run(o.users, o.seconds)
        busy = server.figure("slots_busy")
    report(load, memory, o.users)
    if server.process.returncode:
        print(server.said(), file=sys.stderr)
    if load.wrong or server.process.returncode or growth(memory) > o.grows or busy:
        raise SystemExit(f"{len(load.wrong)} wrong answers, exit "
                         f"{server.process.returncode}, {busy:.0f} slots busy")


if __name__ == "__main__":
    main()
