#!/usr/bin/env python3
"""How cost grows with experts, tokens, context, sequences and threads: docs/performance.md.

    bench/growth.py models            write the models (3.9 GB) under build/bench
    bench/growth.py PART...           measure: experts, tokens, context, sequences, threads
    bench/growth.py report            put tables and picture under docs/
    bench/growth.py                   all of it, some five minutes

Parts may be measured one at a time, in minutes when the machine does nothing else; what
was measured is kept in build/bench/growth.json. Every figure is a median of rounds of
`junto bench --json`, which measures what the machine can do around each of them.
"""

import json
import math
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
KEPT = BUILD / "bench" / "growth.json"
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance.svg"

SHAPE = {"layers": 4, "width": 1024, "heads": 8, "kv_heads": 2, "used": 8,
         "expert_width": 768, "vocab": 32768, "context": 36864}
EXPERTS = [8, 32, 64, 128, 512]
USUAL = 64
TOKENS = [1, 4, 16, 64, 256, 1024, 4096]
CONTEXT = [0, 1024, 4096, 8192, 16384, 32768]
SEQUENCES = [1, 2, 4, 8, 16]
THREADS = [1, 2]
CHUNK = 256  # tokens of a prompt that go through the model at once
# Three matrices in Q4_K, 144 bytes for 256 values.
EXPERT_BYTES = 3 * SHAPE["width"] * SHAPE["expert_width"] * 144 // 256


def model(experts):
    path = BUILD / "bench" / f"growth-{experts}.gguf"
    if not path.exists():
        keys = [f"{key}={value}" for key, value in SHAPE.items()]
        subprocess.run([BUILD / "bench/synth", path, f"experts={experts}", *keys],
                       check=True)
    return path


def bench(experts, **options):
    """The report of `junto bench`: one of its runs, or a list for several threads."""
    words = [f"--{name}={value}" for name, value in options.items()]
    command = [BUILD / "junto", "bench", model(experts), "--json", "--quiet", *words]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    report = json.loads(out)
    for run in report["runs"]:
        run["active_bytes"] = report["active_bytes"]
    return report["runs"] if "," in str(options["threads"]) else report["runs"][0]


def touched(experts, tokens):
    """Bytes of routed experts that so many tokens meet in all layers, as if each chose
    evenly and for itself."""
    met = experts * (1 - (1 - SHAPE["used"] / experts) ** tokens)
    return SHAPE["layers"] * EXPERT_BYTES * met


def weights(run, experts, tokens):
    """Bytes of all weights that so many tokens meet when they go through together."""
    return run["active_bytes"] - touched(experts, 1) + touched(experts, tokens)


# ---- measuring ----

def measure_experts():
    rows = []
    for n in EXPERTS:
        prefill = bench(n, prompt=512, gen=1, repeat=3, threads=2)
        decode = bench(n, prompt=0, gen=64, repeat=5, threads=2)
        rows.append({"x": n, "prefill": prefill, "decode": decode})
    return rows


def measure_tokens():
    return [{"x": n, "run": bench(USUAL, prompt=n, gen=1, threads=2,
                                  repeat=9 if n < 256 else 3)} for n in TOKENS]


def measure_context():
    return [{"x": n, "run": bench(USUAL, prompt=0, gen=32, depth=n, threads=2, repeat=5)}
            for n in CONTEXT]


def measure_sequences():
    return [{"x": n, "run": bench(USUAL, prompt=1, gen=32, parallel=n, threads=2,
                                  repeat=5)} for n in SEQUENCES]


def measure_threads():
    threads = ",".join(map(str, THREADS))
    prefill = bench(USUAL, prompt=512, gen=0, threads=threads, repeat=5)
    decode = bench(USUAL, prompt=0, gen=64, threads=threads, repeat=5)
    return [{"x": n, "prefill": p, "decode": d}
            for n, p, d in zip(THREADS, prefill, decode)]


# ---- tables ----

def rate(run, phase):
    return run[phase]["tokens_per_second"]["median"]


def spread(run, phase):
    values = run[phase]["tokens_per_second"]
    low, high = values["min"], values["max"]
    return f"{rate(run, phase):.0f} ({low:.0f} .. {high:.0f})"


def mega(value):
    return f"{value / 1e6:.0f} MB" if value >= 1e6 or not value else f"{value / 1e3:.0f} kB"


def percent(value):
    return f"{100 * value:.0f}%"


def peak_rate(run):
    """Prompt tokens per second at the int8 peak."""
    return rate(run, "prefill") / run["prefill_peak_share"]


def read_rate(run, experts, tokens):
    """Prompt tokens per second if their weights were read at the bandwidth."""
    chunk = min(tokens, CHUNK)
    return chunk * run["bandwidth_bytes_per_second"] / weights(run, experts, chunk)


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |"
                     for line in lines)


def table_experts(rows):
    heads = ["experts", "routed weights", "decode, tokens/s", "of the bandwidth",
             "prefill of 512, tokens/s", "of the int8 peak", "of the bandwidth"]
    return table(heads, [[
        row["x"], mega(SHAPE["layers"] * EXPERT_BYTES * row["x"]),
        spread(row["decode"], "decode"), percent(row["decode"]["decode_roofline_share"]),
        spread(row["prefill"], "prefill"), percent(row["prefill"]["prefill_peak_share"]),
        percent(rate(row["prefill"], "prefill") / read_rate(row["prefill"], row["x"], 512)),
    ] for row in rows])


def table_tokens(rows):
    heads = ["tokens", "tokens/s", "time", "of the int8 peak", "weights read per pass",
             "of the bandwidth"]
    return table(heads, [[
        row["x"], spread(row["run"], "prefill"),
        f"{1000 * row['x'] / rate(row['run'], 'prefill'):.1f} ms",
        percent(row["run"]["prefill_peak_share"]),
        mega(weights(row["run"], USUAL, min(row["x"], CHUNK))),
        percent(rate(row["run"], "prefill") / read_rate(row["run"], USUAL, row["x"])),
    ] for row in rows])


def attention_share(run):
    return run["decode"]["stage_seconds"]["attention"] / run["decode"]["seconds"]


def table_context(rows):
    heads = ["tokens before", "decode, tokens/s", "keys and values", "read per token",
             "bandwidth", "of the bandwidth", "attention's share of the time"]
    return table(heads, [[
        row["x"], spread(row["run"], "decode"),
        mega(row["run"]["bytes_per_token"] - row["run"]["active_bytes"]),
        mega(row["run"]["bytes_per_token"]),
        f"{row['run']['bandwidth_bytes_per_second'] / 1e9:.0f} GB/s",
        percent(row["run"]["decode_roofline_share"]), percent(attention_share(row["run"])),
    ] for row in rows])


def together_rate(run, sequences):
    """Tokens per second of all sequences if what they meet were read at the bandwidth."""
    keys = (run["bytes_per_token"] - run["active_bytes"]) * sequences
    step = weights(run, USUAL, sequences) + keys
    return sequences * run["bandwidth_bytes_per_second"] / step


def table_sequences(rows):
    alone = rate(rows[0]["run"], "decode")
    heads = ["sequences", "tokens/s of all", "times one", "weights read per step",
             "of the bandwidth"]
    return table(heads, [[
        row["x"], spread(row["run"], "decode"), f"{rate(row['run'], 'decode') / alone:.1f}",
        mega(weights(row["run"], USUAL, row["x"])),
        percent(rate(row["run"], "decode") / together_rate(row["run"], row["x"])),
    ] for row in rows])


def table_threads(rows):
    heads = ["threads", "decode, tokens/s", "bandwidth", "of it",
             "prefill of 512, tokens/s", "int8 peak", "of it"]
    return table(heads, [[
        row["x"], spread(row["decode"], "decode"),
        f"{row['decode']['bandwidth_bytes_per_second'] / 1e9:.0f} GB/s",
        percent(row["decode"]["decode_roofline_share"]), spread(row["prefill"], "prefill"),
        f"{row['prefill']['peak_operations_per_second'] / 1e12:.2f} T/s",
        percent(row["prefill"]["prefill_peak_share"]),
    ] for row in rows])


# ---- the picture ----

STYLE = """
text { font: 12px sans-serif; fill: #444 }
.title { font-weight: bold; fill: #222 }
.grid { stroke: #ddd }
.is { stroke: #1f6fb4; fill: none; stroke-width: 2 }
.dot { fill: #1f6fb4 }
.may { stroke: #c0632b; fill: none; stroke-width: 1.5; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
  text { fill: #bbb } .title { fill: #eee } .grid { stroke: #444 }
  .is { stroke: #6db3ee } .dot { fill: #6db3ee } .may { stroke: #e89a68 }
}
"""
WIDE, HIGH, LEFT, TOP = 216, 130, 56, 66  # of a panel's plot, and what is beside it
STEP_X, STEP_Y = WIDE + 74, HIGH + 92


def nice(value):
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= value * 0.999)


def short(number):
    for unit, size in (("k", 1024), ("", 1)):
        if number >= size and number % size == 0:
            return f"{number // size}{unit}"
    return str(number)


def scale(number):
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


def line(kind, points):
    return (f'<polyline class="{kind}" points="'
            + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')


def panel(at, title, unit, xs, measured, limit):
    left, top = LEFT + at % 3 * STEP_X, TOP + at // 3 * STEP_Y
    step = nice(max(measured + limit) / 4)
    most = step * math.ceil(max(measured + limit) / step)
    place = [left + WIDE * (i + 0.5) / len(xs) for i in range(len(xs))]

    def height(value):
        return top + HIGH - HIGH * value / most

    out = [f'<text class="title" x="{left}" y="{top - 12}">{title}</text>']
    for i in range(round(most / step) + 1):
        y = height(i * step)
        out += [f'<line class="grid" x1="{left}" x2="{left + WIDE}" y1="{y}" y2="{y}"/>',
                f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">'
                f'{scale(i * step)}</text>']
    out += [f'<text x="{x:.1f}" y="{top + HIGH + 17}" text-anchor="middle">'
            f'{short(n)}</text>'
            for x, n in zip(place, xs)]
    out.append(f'<text x="{left + WIDE / 2}" y="{top + HIGH + 34}" '
               f'text-anchor="middle">{unit}</text>')
    out.append(line("may", zip(place, map(height, limit))))
    out.append(line("is", zip(place, map(height, measured))))
    out += [f'<circle class="dot" cx="{x:.1f}" cy="{height(v):.1f}" r="3"/>'
            for x, v in zip(place, measured)]
    return out


def decode_limit(run):
    return rate(run, "decode") / run["decode_roofline_share"]


def picture(kept):
    def column(part, f):
        return [f(row) for row in kept[part]]

    def xs(part):
        return [row["x"] for row in kept[part]]

    def prompt_limit(run, experts, tokens):
        return min(peak_rate(run), read_rate(run, experts, tokens))

    panels = [
        ("Decode, one sequence", "experts, 8 used", xs("experts"),
         column("experts", lambda r: rate(r["decode"], "decode")),
         column("experts", lambda r: decode_limit(r["decode"]))),
        ("Prompt of 512", "experts, 8 used", xs("experts"),
         column("experts", lambda r: rate(r["prefill"], "prefill")),
         column("experts", lambda r: prompt_limit(r["prefill"], r["x"], 512))),
        ("Prompt", "tokens", xs("tokens"),
         column("tokens", lambda r: rate(r["run"], "prefill")),
         column("tokens", lambda r: prompt_limit(r["run"], USUAL, r["x"]))),
        ("Decode far into a context", "tokens before", xs("context"),
         column("context", lambda r: rate(r["run"], "decode")),
         column("context", lambda r: decode_limit(r["run"]))),
        ("Decode together", "sequences", xs("sequences"),
         column("sequences", lambda r: rate(r["run"], "decode")),
         column("sequences", lambda r: together_rate(r["run"], r["x"]))),
        ("Decode", "threads", xs("threads"),
         column("threads", lambda r: rate(r["decode"], "decode")),
         column("threads", lambda r: decode_limit(r["decode"]))),
    ]
    wide, high = LEFT + 3 * STEP_X - 10, TOP + 2 * STEP_Y - 34
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" '
           f'width="{wide}" height="{high}" role="img">',
           "<title>Tokens per second, measured and allowed by the machine</title>",
           f"<style>{STYLE}</style>",
           f'<text x="{LEFT}" y="22">tokens per second:</text>',
           f'<line class="is" x1="{LEFT + 120}" x2="{LEFT + 150}" y1="18" y2="18"/>',
           f'<text x="{LEFT + 156}" y="22">measured</text>',
           f'<line class="may" x1="{LEFT + 230}" x2="{LEFT + 260}" y1="18" y2="18"/>',
           f'<text x="{LEFT + 266}" y="22">what the machine allows: its read bandwidth, '
           "for long prompts its int8 peak</text>"]
    for at, each in enumerate(panels):
        out += panel(at, *each)
    return "\n".join(out + ["</svg>", ""])


# ---- the command ----

PARTS = {
    "experts": (measure_experts, table_experts),
    "tokens": (measure_tokens, table_tokens),
    "context": (measure_context, table_context),
    "sequences": (measure_sequences, table_sequences),
    "threads": (measure_threads, table_threads),
}


def report(kept):
    page = PAGE.read_text()
    for name, (_, show) in PARTS.items():
        begin, end = f"<!-- growth: {name} -->\n", "\n<!-- end -->"
        head, rest = page.split(begin, 1)
        page = head + begin + "\n" + show(kept[name]) + "\n" + rest[rest.index(end):]
    PAGE.write_text(page)
    PICTURE.write_text(picture(kept))


def main(words):
    unknown = [word for word in words if word not in [*PARTS, "models", "report"]]
    if unknown:
        sys.exit(__doc__)
    words = words or ["models", *PARTS, "report"]
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for word in words:
        if word == "models":
            for experts in EXPERTS:
                model(experts)
        elif word == "report":
            report(kept)
        else:
            kept[word] = PARTS[word][0]()
            KEPT.write_text(json.dumps(kept, indent=1))


main(sys.argv[1:])
