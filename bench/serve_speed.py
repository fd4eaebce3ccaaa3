#!/usr/bin/env python3
"""How fast a server is for many users: docs/performance.md.

    bench/serve_speed.py MODEL throughput [--users 1,16] [--peer LLAMA_SERVER]
    bench/serve_speed.py MODEL stalls     [--prompt 4000] [--users 4] [--prefill POLICY]
    bench/serve_speed.py MODEL prefix     [--prompt 2000]
    bench/serve_speed.py MODEL forms

throughput  users who ask one after the other, each with prompts of its own: tokens per
            second of all; `steady` while all of them write. With --peer llama.cpp's
            server in turn with this one, with --bench `junto bench -np` as well
stalls      times between the tokens of users while another one's long prompt comes
prefix      time to the first token of a long prompt, and of the next one that begins
            like it, with others in between
forms       what it costs that a reply has to fit a JSON schema

Lines of JSON. Models without a vocabulary cannot be served.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import threading
import time

import serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLING = {"temperature": 1, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "ignore_eos": True}


def show(**figures):
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v
                      for k, v in figures.items()}), flush=True)


def question(prompt, seed, tokens, **more):
    return {"prompt": prompt, "seed": seed, "max_tokens": tokens, **SAMPLING, **more}


def start(o, *flags):
    return serving.Server(o.junto, "serve", o.model, "-t", o.threads, *flags)


# ---- throughput ----

def steady(answers):
    """Tokens per second while all users write: no prompt runs beside them."""
    begin, end = max(a.times[0] for a in answers), min(a.times[-1] for a in answers)
    gaps = [gap for a in answers for t, gap in zip(a.times[1:], a.gaps)
            if begin < t - gap and t <= end]
    return len(answers) * len(gaps) / sum(gaps) if gaps else 0.0


def rate(server, users, tokens, turn, same):
    """Tokens per second of all: from the first question to the last answer, and steady."""
    def one(u):
        seed = turn * 1000 + (0 if same else u)
        prompt = serving.random_prompt(32, seed)
        return server.ask(question(prompt, seed, tokens, cache_prompt=False))
    began = time.perf_counter()
    answers = serving.at_once([lambda u=u: one(u) for u in range(users)])
    took = time.perf_counter() - began
    return sum(a.tokens for a in answers) / took, steady(answers)


def bench(o, users):
    """What the same passes give without a server: tokens per second of decoding."""
    done = subprocess.run([o.junto, "bench", o.model, "-np", str(users), "-p", "32",
                           "-n", str(o.tokens), "-r", "1", "-t", str(o.threads), "--json"],
                          check=True, capture_output=True)
    (run,) = json.loads(done.stdout)["runs"]
    show(bench=users, steady_tokens_per_s=run["decode"]["tokens_per_second"]["median"])


def throughput(o):
    most = max(o.users)
    servers = {"junto": start(o, "-np", most, "-c", 512, *o.flags)}
    if o.peer:
        servers["llama.cpp"] = serving.Server(
            o.peer, "-m", o.model, "-t", o.threads, "-tb", o.threads, "-np", most,
            "-c", 512 * most, "--no-webui")
    for server in servers.values():  # weights come into memory, and into tiles
        rate(server, most, 8, 99, False)
    for turn in range(o.turns):
        for users in o.users:
            for name, server in servers.items():
                whole, alone = rate(server, users, o.tokens, turn, o.same)
                show(server=name, users=users, turn=turn, tokens_per_s=whole,
                     steady_tokens_per_s=alone)
            if o.bench:
                bench(o, users)
    for server in servers.values():
        server.stop()


# ---- stalls ----

def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def stalls(o):
    users = o.users[-1]
    with start(o, "-np", users + 1, "-c", o.prompt + 512, "--prefill", o.prefill,
               *o.flags) as server:
        server.ask(question(serving.random_prompt(o.prompt, 1), 1, 1))  # tiles
        loads = server.figure("expert_loads_total")
        late = []

        def comes():
            time.sleep(o.after)
            late.append(server.ask(question(serving.random_prompt(o.prompt, 2), 2, 2)))
        thread = threading.Thread(target=comes)
        thread.start()
        answers = serving.at_once(
            [lambda u=u: server.ask(question(serving.random_prompt(32, 50 + u), u, o.tokens))
             for u in range(users)])
        thread.join()
        loads = server.figure("expert_loads_total") - loads
    a, b = late[0].began, late[0].times[0]
    gaps = [(t, gap) for x in answers for t, gap in zip(x.times[1:], x.gaps)]
    during = [gap for t, gap in gaps if a < t < b]
    calm = [gap for t, gap in gaps if t < a]
    everything = [gap for _, gap in gaps]
    show(prefill=o.prefill, users=users, prompt=o.prompt, first_token_s=b - a,
         expert_loads=loads, calm_median_ms=1e3 * statistics.median(calm),
         during=len(during), during_median_ms=1e3 * statistics.median(during),
         during_p99_ms=1e3 * quantile(during, 0.99), during_max_ms=1e3 * max(during),
         p99_over_median=quantile(during, 0.99) / statistics.median(during),
         p99_over_calm=quantile(during, 0.99) / statistics.median(calm),
         all_p99_over_median=quantile(everything, 0.99) / statistics.median(everything))


# ---- prefixes ----

def prefix(o):
    with start(o, "-np", 2, "-c", o.prompt + 256, *o.flags) as server:
        server.ask(question(serving.random_prompt(o.prompt, 9), 1, 1))
        for turn in range(o.turns):
            shared = serving.random_prompt(o.prompt, 10 + turn)

            def first(seed):
                tail = serving.random_prompt(16, 100 + seed)
                answer = server.ask(question(shared + tail, seed, 2))
                held = answer.usage["prompt_tokens_details"]["cached_tokens"]
                return answer.first, held
            alone, _ = first(1)
            again, kept = first(2)
            serving.at_once([lambda i=i: server.ask(question(  # others, in all slots
                serving.random_prompt(o.prompt, 1000 * turn + i), i, 2)) for i in range(4)])
            later, found = first(3)
            show(turn=turn, first_s=alone, again_s=again, kept=kept, later_s=later,
                 found=found, sooner=alone / again, sooner_later=alone / later)


# ---- forms ----

SCHEMA = {"type": "object", "required": ["name", "tags", "size"], "properties": {
    "name": {"type": "string"}, "size": {"type": "integer"},
    "tags": {"type": "array", "items": {"type": "string"}, "minItems": 100}}}


def forms(o):
    """Times between tokens, of the same server in turn: with a form, and without."""
    with start(o, "-np", 1, "-c", 2048, *o.flags) as server:
        def gaps(seed, **more):
            answer = server.ask(question("List:", seed, o.tokens, **more))
            return (answer.times[-1] - answer.times[0]) / (answer.tokens - 1), answer.text
        form = {"response_format": {"type": "json_schema",
                                    "json_schema": {"name": "x", "schema": SCHEMA}}}
        gaps(0, **form)
        pairs = []
        for seed in range(o.turns):
            with_form, text = gaps(seed, **form)
            without, _ = gaps(seed)
            pairs.append(with_form / without)
            show(seed=seed, form_ms=1e3 * with_form, free_ms=1e3 * without,
                 ratio=with_form / without, text=text[:60])
        show(ratio=statistics.median(pairs), least=min(pairs), most=max(pairs))


def numbers(text):
    return [int(n) for n in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parts = {f.__name__: f for f in (throughput, stalls, prefix, forms)}
    parser.add_argument("model")
    parser.add_argument("part", choices=parts)
    parser.add_argument("--junto", default=ROOT / "build" / "junto")
    parser.add_argument("--peer", help="llama.cpp's server")
    parser.add_argument("--bench", action="store_true", help="beside `junto bench`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--users", type=numbers, default=[1, 16])
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--same", action="store_true", help="all users ask the same")
    parser.add_argument("--prompt", type=int, default=4000)
    parser.add_argument("--after", type=float, default=2, help="seconds until it comes")
    parser.add_argument("--prefill", default="layered")
    parser.add_argument("flags", nargs="*", help="of junto serve")
    o = parser.parse_args()
    parts[o.part](o)


if __name__ == "__main__":
    main()
