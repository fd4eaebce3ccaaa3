"""Traces: run, perplexity and others write them, trace reads them, also what a kill left."""

import csv
import signal
import struct
import unittest
from pathlib import Path

from harness import DENSE, MIXTURE, TEXT, CommandTest, read_npy, start, with_context


def read_ints(path):
    data = Path(path).read_bytes()
    assert b"'<i4'" in data[:128]
    return struct.unpack(f"<{(len(data) - 128) // 4}i", data[128:])


class Trace(CommandTest):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "x.trace"

    def run_traced(self, *more):
        return self.good("run", MIXTURE, "-p", "Hello", "-n", "20", "--ignore-eos",
                         "--seed", "3", "--json", "--trace", self.path, *more).json()

    def test_policies_that_use_more_experts(self):
        got = self.run_traced("--policy", "topk:k=5,layers=1")
        info = self.good("trace", "info", self.path, "--json").json()
        self.assertEqual([layer["slots"] for layer in info["layers"]], [2, 5])
        self.assertEqual(sum(got["layers"][1]["counts"]), 5 * info["tokens"])
        report = self.good("report", self.path, "--json").json()
        self.assertEqual([layer["picks"] for layer in report["traces"][0]["layers"]],
                         [2 * info["tokens"], 5 * info["tokens"]])

    def test_counts_are_those_of_the_run(self):
        got = self.run_traced()
        info = self.good("trace", "info", self.path, "--json").json()
        self.assertEqual((info["model"], info["family"]), ("golden mixtral", "llama"))
        self.assertEqual(info["tokens"], got["layers"][0]["tokens"])
        self.assertEqual(info["layers"],
                         [{"layer": i, "experts": 8, "rows": 8, "slots": 2}
                          for i in range(2)])
        self.assertEqual(set(info["column_bytes"]), {"token", "position", "label",
                                                     "expert", "weight", "entropy"})
        out = self.folder / "out"
        self.good("trace", "export", self.path, "-o", out, "--npy", "--csv")
        expert = read_ints(out / "expert.npy")
        with (out / "trace.csv").open() as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(len(rows), 2 * info["tokens"])
        for layer in range(2):
            counts = [0] * 8
            for at, e in enumerate(expert):
                if at // 2 % 2 == layer:
                    counts[e] += 1
            self.assertEqual(counts, got["layers"][layer]["counts"])
            named = [row[f"expert{j}"] for row in rows for j in range(2)
                     if row["layer"] == str(layer)]
            self.assertEqual(counts, [named.count(str(e)) for e in range(8)])
        _, weight = read_npy(out / "weight.npy")
        self.assertAlmostEqual(sum(weight), len(rows), delta=0.01 * len(rows))

    def test_more_columns_change_no_text(self):
        plain = self.run_traced()
        self.assertEqual(self.run_traced("--trace-scores", "--trace-norms")["text"],
                         plain["text"])
        text = self.good("trace", "info", self.path).text()
        self.assertRegex(text, r"(?m)^layers +2, each with 2 of 8 experts$")
        self.assertRegex(text, r"(?m)^  score +[\d.]+ bytes per token$")
        self.assertRegex(text, r"(?m)^  norm +[\d.]+ bytes per token$")

    def test_residency(self):
        self.run_traced("--ram", "1G", "--prefetch", "off", "--trace-residency")
        out = self.folder / "out"
        self.good("trace", "export", self.path, "-o", out, "--npy", "--csv")
        expert, there = (read_ints(out / f"{name}.npy") for name in ("expert", "residency"))
        known = set()  # all fit, so what was used once stays
        tokens = len(expert) // 4
        first = len(self.good("tokenize", MIXTURE, "-p", "Hello").text().split(","))
        for t in range(tokens):
            for at in range(4 * t, 4 * t + 4):
                key = (at // 2 % 2, expert[at])
                if key in known:
                    self.assertEqual(there[at], 2)
                elif t >= first:  # those of the prompt are chosen in one pass
                    self.assertLess(there[at], 2)
            known.update((at // 2 % 2, expert[at]) for at in range(4 * t, 4 * t + 4)
                         if t >= first - 1)
            if t == first - 1:
                known.update((at // 2 % 2, expert[at]) for at in range(4 * first))
        self.assertIn(0, there)
        self.assertIn(2, there)
        with (out / "trace.csv").open() as file:
            self.assertEqual([int(row[f"residency{j}"]) for row in csv.DictReader(file)
                              for j in range(2)], list(there))
        self.bad(2, "nothing without --ram", "run", MIXTURE, "-p", "x", "-n", "1", "-q",
                 "--trace", self.path, "--trace-residency")

    def test_perplexity_labels_its_text(self):
        args = ("perplexity", MIXTURE, "-f", TEXT, "--ctx", "64", "--json")
        plain = self.good(*args).json()
        traced = self.good(*args, "--trace", self.path).json()
        self.assertEqual(plain["nll"], traced["nll"])
        info = self.good("trace", "info", self.path, "--json").json()
        self.assertEqual(info["tokens"], 64 * traced["windows"])
        self.assertEqual(info["labels"], [TEXT])

    def test_killed(self):
        """What a killed run leaves is readable, up to its last whole block."""
        model = with_context(self.folder / "m.gguf", 400000)
        run = start("run", model, "-p", "Hello", "-c", "400000", "--ignore-eos",
                    "--trace", self.path)
        while not self.path.exists() or self.path.stat().st_size < 10000:
            self.assertTrue(run.stdout.read(64))
        run.send_signal(signal.SIGKILL)
        run.communicate()
        info = self.good("trace", "info", self.path, "--json").json()
        self.assertGreaterEqual(info["tokens"], 256)
        self.assertEqual(info["tokens"] % 256, 0)
        self.path.write_bytes(self.path.read_bytes()[:-5])
        self.assertIn("was cut", self.good("trace", "info", self.path).err)

    def test_bad_input(self):
        self.run_traced()
        self.bad(1, "trace of another model", "trace", "info", self.path, "-m", DENSE)
        self.good("trace", "info", self.path, "-m", MIXTURE)
        data = bytearray(self.path.read_bytes())
        data[-1] ^= 1
        broken = self.folder / "broken.trace"
        broken.write_bytes(data)
        out = self.folder / "out"
        self.bad(1, "broken.trace': block 0", "trace", "export", broken, "-o", out,
                 "--npy")
        self.assertEqual(list(out.iterdir()), [])
        self.bad(1, "not a trace", "trace", "info", MIXTURE)
        self.bad(1, "no/such.trace", "trace", "info", "no/such.trace")
        self.bad(2, "--output", "trace", "export", self.path, "--npy")
        self.bad(2, "--npy or --csv", "trace", "export", self.path, "-o", out)
        self.bad(2, "info|export", "trace", "show", self.path)

    def test_what_is_not_traced(self):
        run = ("-p", "x", "-n", "2", "-q")
        model = self.folder / "m.gguf"
        model.write_bytes(Path(MIXTURE).read_bytes())
        self.bad(1, "no experts", "run", DENSE, *run, "--trace", self.path)
        self.bad(1, "is not a trace", "run", model, *run, "--trace", model)
        self.assertEqual(model.read_bytes(), Path(MIXTURE).read_bytes())
        self.bad(1, "no/such/x.trace", "run", MIXTURE, *run, "--trace",
                 "no/such/x.trace")
        self.bad(2, "--trace-scores does nothing without --trace", "run", MIXTURE, *run,
                 "--trace-scores")


if __name__ == "__main__":
    unittest.main()
