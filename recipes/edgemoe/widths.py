#!/usr/bin/python3
"""A width for each expert of a real file, chosen by how much weight each has.

    recipes/edgemoe/widths.py JUNTO MODEL CALIBRATION HELD_OUT [TOLERANCE]

Adds up the weights that the routers of MODEL give each expert in CALIBRATION. Of the
experts, those with the least first, as many become narrow as keep the loss there within
TOLERANCE (0.01) of that with all experts wide. The files are written by `junto quantize --layout experts --rule`,
scored on HELD_OUT, and run through the store, which must read what it would from memory.
"""
import collections
import csv
import json
import os
import subprocess
import sys
import tempfile

# Types of gate and up, and of down, whose rows may be no whole blocks of 256.
WIDE, EVEN, NARROW = ("q8_0", "q8_0"), ("q4_0", "q4_0"), ("q2_k", "q4_0")


class Files:
    def __init__(self, junto, model, folder):
        self.junto, self.model = junto, model
        self.file = os.path.join(folder, "widths.gguf")

    def call(self, *args):
        return subprocess.run([self.junto, *args], check=True, capture_output=True).stdout

    def write(self, narrow, usual=WIDE):
        """The file in which the experts of `narrow`, (layer, expert), are narrow."""
        rules = []
        for part, names in enumerate(("gate|up", "down")):
            for layer in sorted({l for l, _ in narrow}):
                experts = "|".join(str(e) for l, e in narrow if l == layer)
                rules.append(rf"blk\.{layer}\.ffn_({names})\.({experts})\.={NARROW[part]}")
            rules.append(rf"blk\.\d+\.ffn_({names})\.\d+\.={usual[part]}")
        flags = [flag for rule in rules for flag in ("--rule", rule)]
        self.call("quantize", self.model, self.file, "-q", "--type", "q8_0", "--layout",
                  "experts", *flags)

    def loss(self, text):
        return json.loads(self.call("perplexity", self.file, "-f", text, "-q", "--json"))["nll"]

    def weights(self, text, folder):
        """What each (layer, expert) had of the text, in the model as it is."""
        trace, table = os.path.join(folder, "trace"), os.path.join(folder, "table")
        self.call("perplexity", self.model, "-f", text, "-q", "--trace", trace)
        self.call("trace", "export", trace, "-o", table, "--csv", "-q")
        sums = collections.Counter()
        with open(os.path.join(table, "trace.csv"), newline="") as file:
            for row in csv.DictReader(file):
                slot = 0
                while row.get(f"expert{slot}"):
                    expert = int(row["layer"]), int(row[f"expert{slot}"])
                    sums[expert] += float(row[f"weight{slot}"])
                    slot += 1
        return sums

    def stored(self):
        """What a run in the smallest budget reads, whose text must be the same."""
        run = ["run", self.file, "-p", "Once upon a time", "-n", "200", "--ignore-eos",
               "--temp", "0", "-q", "--json"]
        whole = json.loads(self.call(*run))
        apart = json.loads(self.call(*run, "--ram", "1G"))
        least = str(apart["store"]["budget"]["least"])
        apart = json.loads(self.call(*run, "--ram", least))
        assert apart["text"] == whole["text"]
        return apart["store"]["read_bytes"], apart["store"]["budget"]["slots"]


def main(junto, model, calibration, held_out, tolerance=0.01):
    info = json.loads(subprocess.run([junto, "info", model, "--json"], check=True,
                                     capture_output=True).stdout)
    layers, experts = info["layers"], info["experts"]
    everyone = [(l, e) for l in range(layers) for e in range(experts)]
    with tempfile.TemporaryDirectory() as folder:
        files = Files(junto, model, folder)
        files.write([])
        limit = (1 + float(tolerance)) * files.loss(calibration)
        weights = files.weights(calibration, folder)
        order = sorted(everyone, key=lambda expert: weights[expert])
        low, high = 0, len(order)
        while low < high:  # as many as the tolerance allows
            middle = (low + high + 1) // 2
            files.write(order[:middle])
            low, high = (middle, high) if files.loss(calibration) <= limit else (low, middle - 1)
        for name, narrow, usual in (("wide", [], WIDE), ("mixed", order[:low], WIDE),
                                    ("even", [], EVEN), ("worst", order[::-1][:low], WIDE),
                                    ("narrow", everyone, WIDE)):
            files.write(narrow, usual)
            read, slots = files.stored()
            print(json.dumps({"name": name, "narrow": len(narrow), "of": len(everyone),
                              "bytes": os.path.getsize(files.file),
                              "calibration": files.loss(calibration),
                              "held_out": files.loss(held_out), "read_bytes": read,
                              "slots": slots}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
