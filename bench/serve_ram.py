#!/usr/bin/env python3
"""A server of a model larger than memory: many users, in a control group that enforces the
budget.

    bench/serve_ram.py --ram 2000M [--users 1 8] [--turns 1] [--prompts 32 600]
                       [--tokens 16] [--cgroup DIR] [--alone] -- MODEL [FLAGS OF THE SERVER]

Each of N users asks once at the same time, with prompts of any length between the two; then
again, with others. One line of JSON for each: tokens per second of all, and what the store did.
At the end the largest memory of the process and, with --cgroup (a folder of the memory
controller, version 1, that this may write to), of the group, page cache counted; nobody may
have been turned away. With --alone every question is asked again of a server without a budget:
the answers are the same.
"""

import argparse
import json
import pathlib
import re
import time

import serving

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIGURES = ("hits_total", "hits_ahead_total", "misses_total", "read_bytes_total",
           "stall_seconds_total", "ahead_total", "ahead_used_total")


def questions(o, users, turn):
    low, high = o.prompts
    return [{"prompt": serving.random_prompt(low + (high - low) * u // max(1, users - 1),
                                             100 * turn + u),
             "seed": u, "max_tokens": o.tokens, "temperature": 1, "ignore_eos": True}
            for u in range(users)]


def bytes_of(size):
    number, unit = re.fullmatch(r"(\d+)([KMG]?)", size).groups()
    return int(number) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]


def in_group(o, command):
    if not o.cgroup:
        return command
    (o.cgroup / "memory.limit_in_bytes").write_text(str(bytes_of(o.ram)))
    for name in ("memory.max_usage_in_bytes", "memory.failcnt"):
        (o.cgroup / name).write_text("0")
    return ["sh", "-c", f'echo $$ > {o.cgroup}/cgroup.procs; exec "$@"', "sh", *command]


def look(server):
    return {name: server.figure(f"store_{name}") for name in FIGURES}


def run(o, server, users, turn):
    before, began = look(server), time.perf_counter()
    answers = serving.at_once([lambda q=q: server.ask(q) for q in questions(o, users, turn)])
    took = time.perf_counter() - began
    grown = {name: value - before[name] for name, value in look(server).items()}
    asked = sum(grown[f"{name}_total"] for name in ("hits", "hits_ahead", "misses"))
    gaps = sorted(gap for a in answers for gap in a.gaps)
    print(json.dumps({
        "users": users, "turn": turn, "seconds": round(took, 2),
        "first_token_s": round(max(a.first for a in answers), 2),
        "gap_median_ms": round(1e3 * gaps[len(gaps) // 2], 1), "gap_max_ms": round(1e3 * gaps[-1], 1),
        "tokens_per_s": round(sum(a.tokens for a in answers) / took, 2),
        "hit_rate": round(1 - grown["misses_total"] / asked, 3),
        "ahead_rate": round(grown["hits_ahead_total"] / asked, 3),
        "read_gb": round(grown["read_bytes_total"] / 1e9, 2),
        "stall_share": round(grown["stall_seconds_total"] / took, 3)}), flush=True)
    return [a.text for a in answers]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("model")
    p.add_argument("--ram", required=True)
    p.add_argument("--users", type=int, nargs="+", default=[1, 8])
    p.add_argument("--turns", type=int, default=1)
    p.add_argument("--prompts", type=int, nargs=2, default=[32, 600])
    p.add_argument("--tokens", type=int, default=16)
    p.add_argument("--cgroup", type=pathlib.Path)
    p.add_argument("--alone", action="store_true")
    p.add_argument("--junto", default=str(ROOT / "build" / "junto"))
    p.add_argument("flags", nargs="*")
    o = p.parse_args()
    usual = [o.junto, "serve", o.model, "-np", max(o.users), "-c", 2 * o.prompts[1], *o.flags]
    turns = [(users, turn) for turn in range(o.turns) for users in o.users]
    with serving.Server(*in_group(o, [*map(str, usual), "--ram", o.ram])) as server:
        texts = [run(o, server, *turn) for turn in turns]
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        peak = {"process_peak_mib": int(re.search(r"VmHWM:\s+(\d+)", status)[1]) >> 10,
                "slots": server.figure("store_slots"), "ram_mib": bytes_of(o.ram) >> 20}
        if o.cgroup:
            peak["group_peak_mib"] = int((o.cgroup / "memory.max_usage_in_bytes").read_text()) >> 20
            peak["turned_away"] = int((o.cgroup / "memory.failcnt").read_text())
        print(json.dumps(peak), flush=True)
    if o.alone:
        with serving.Server(*usual) as server:
            same = all([server.ask(q).text for q in questions(o, *turn)] == t
                       for turn, t in zip(turns, texts))
            print(json.dumps({"same_texts": same}), flush=True)


if __name__ == "__main__":
    main()
