"""junto tune, adapter and merge-adapter, and --adapter of the verbs that run a model."""

import json
import random
import re
import shutil
import unittest
from pathlib import Path

from harness import MIXTURE, ROOT, TEXT, CommandTest, read_npy

DATA = Path(__file__).parent.parent
LLAMA = DATA / "golden" / "hf" / "llama"
PEFT = DATA / "adapters" / "llama-lora"
DORA = DATA / "adapters" / "llama-dora"


class Adapters(CommandTest):
    def logits(self, model, *args):
        out = self.folder / "logits.npy"
        self.good("logits", model, "--tokens", "1,2,3,4,5", "-o", out, *args)
        return read_npy(out)[1]

    def apart(self, a, b):
        return max(abs(x - y) for x, y in zip(a, b))

    def data(self):
        path = self.folder / "sums.jsonl"
        rng = random.Random(1)
        with path.open("w") as file:
            for _ in range(60):
                a, b = rng.randrange(10), rng.randrange(10)
                print(json.dumps({"prompt": f"{a}+{b}=", "completion": str(a + b)}),
                      file=file)
        return path

    def tune(self, *more):
        out = self.folder / "run"
        return out, ("tune", MIXTURE, "--data", self.data(), "-o", out, "-n", "12", "-c",
                     "32", "-b", "2", "-r", "2", "--lr", "0.01", *more)


    def losses(self, out):
        """Held-out losses, evaluation by evaluation."""
        lines = (out / "log.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [e["loss"] for e in events if e["kind"] == "eval"]


class Tuning(Adapters):
    def test_made_kinds(self):
        more = ("--target", "attn_v[.]|ffn_down", "--set", "adapter.shards=2",
                "--set", "adapter.skills=2", "--set", "adapter.heads=2", "--json")
        for kind in ("mos", "poly", "bits", "mora"):
            out, args = self.tune(*more, "--method", kind)
            self.good(*args)
            adapter = out / "adapter.safetensors"
            info = self.good("adapter", "info", adapter, "--json").json()
            self.assertEqual(info["kind"], kind)
            self.assertEqual(info["tasks"], 1 if kind == "poly" else 0)
            self.assertGreater(self.apart(self.logits(MIXTURE),
                                          self.logits(MIXTURE, "--adapter", adapter)), 0)
            if kind == "poly":
                self.assertEqual(self.logits(MIXTURE, "--adapter", adapter),
                                 self.logits(MIXTURE, "--adapter", f"{adapter}@0:1"))
                self.bad(2, "has tasks 0 to 0, not 3", "logits", MIXTURE, "--tokens",
                         "1", "-o", self.folder / "x", "--adapter", f"{adapter}@3")
            kept = self.folder / f"{kind}.safetensors"
            adapter.rename(kept)
            shutil.rmtree(out)
        out, args = self.tune("--init", self.folder / "poly.safetensors", "--json")
        self.good(*args)
        self.bad(2, "cannot go on from", *args[:-1], "--method", "mos", "-o",
                 self.folder / "other")

    def test_tune_and_use(self):
        out, args = self.tune("--json", "--eval-every", "6")
        done = self.good(*args).json()
        self.assertTrue(done["model"].endswith("adapter.safetensors"), done)
        self.assertEqual(sorted(p.name for p in out.iterdir()),
                         ["adapter.safetensors", "checkpoint.gguf", "config.json",
                          "curves.svg", "log.jsonl"])
        losses = self.losses(out)
        self.assertEqual(len(losses), 2)
        self.assertLess(losses[1], losses[0])
        adapter = out / "adapter.safetensors"
        plain = self.logits(MIXTURE)
        tuned = self.logits(MIXTURE, "--adapter", adapter)
        self.assertGreater(self.apart(plain, tuned), 0.01)
        self.assertEqual(plain, self.logits(MIXTURE, "--adapter", f"{adapter}:0"))
        self.good("run", MIXTURE, "-p", "x", "-n", "3", "--adapter", adapter)
        text = self.good("perplexity", MIXTURE, "-f", TEXT, "-c", "64", "--adapter",
                         adapter, "--json").json()
        without = self.good("perplexity", MIXTURE, "-f", TEXT, "-c", "64",
                            "--json").json()
        self.assertNotEqual(text["nll"], without["nll"])

    def test_dry_run(self):
        out, args = self.tune("--dry-run", "--json")
        plan = self.good(*args).json()
        self.assertFalse(out.exists())
        self.assertGreater(plan["trained_params"], 1000)
        self.assertEqual(plan["gradient_bytes"], 4 * plan["trained_params"])

    def test_in_a_budget(self):
        # Experts on the disk: the same adapter, and as much memory as was said.
        out, args = self.tune("--recompute", "-q")
        args = (args[0], ROOT / "models" / "junto-mini.gguf", *args[2:])
        self.good(*args)
        adapter = (out / "adapter.safetensors").read_bytes()
        shutil.rmtree(out)
        least = self.bad(1, "the smallest budget is", *args, "--ram", "1M").err
        least = re.search(r"budget is (\d+) MiB \(weights and process \d+, gradients and "
                          r"optimiser \d+, activations \d+, a layer of 24 experts", least)
        ram = ("--ram", f"{least.group(1)}M")
        plan = self.good(*args, *ram, "--dry-run", "--json").json()
        self.assertEqual(plan["budget"]["ram"], int(least.group(1)) << 20)
        self.assertGreaterEqual(plan["budget"]["slots"], 24)
        shutil.rmtree(out, ignore_errors=True)
        text = self.good(*args, *ram, "--dry-run").text()
        self.assertRegex(text, r"memory .* of .*, of which the smallest would be ")
        self.assertRegex(text, r"  experts .*, \d+ of 144\n")
        done = self.good(*args, *ram, "--json").json()
        store = done["store"]
        self.assertEqual((out / "adapter.safetensors").read_bytes(), adapter)
        self.assertEqual(store["prefetch"], "order")
        self.assertGreater(store["hits_ahead"], store["misses"])
        self.assertGreater(store["read_bytes"], 0)
        shutil.rmtree(out)
        note = self.good(*(a for a in args if a != "-q"), *ram).err
        self.assertRegex(note, r"store \d+ of 144 experts in memory; .* a step read .* "
                               r"came ahead, of which [0-9.]+% was used")

    def test_virtual_tokens(self):
        for kind, text in ("soft-prompt", "1+1=2"), ("prefix", ""):
            out, args = self.tune("--method", kind, "--set", f"adapter.text={text}", "--set",
                                  "adapter.front=4", "--eval-every", "1", "--json")
            self.good(*args)
            losses = self.losses(out)
            self.assertLess(losses[-1], losses[0])
            kept = self.folder / f"{kind}.safetensors"
            (out / "adapter.safetensors").rename(kept)
            shutil.rmtree(out)
            self.assertEqual(self.good("adapter", "info", kept, "--json").json()["kind"], kind)
            self.assertGreater(self.apart(self.logits(MIXTURE),
                                          self.logits(MIXTURE, "--adapter", kept)), 0.01)
            self.bad(2, "adapter.front: is 3, and adapter.init has 4", *args[:-1], "--set",
                     "adapter.front=3", "--init", kept)
            shutil.rmtree(out)
            self.good(*args, "--init", kept)
            self.assertLess(self.losses(out)[-1], losses[0])
            shutil.rmtree(out)
            self.bad(2, "no room for 20 virtual ones: they must have 42", *args[:-1],
                     "--set", "adapter.front=20")

    def test_patience(self):
        # Nothing gets better after the first evaluation.
        out, args = self.tune("--eval-every", "2", "--patience", "2", "--lr", "0")
        self.good(*args)
        self.assertEqual(len(self.losses(out)), 3)
        self.assertTrue((out / "adapter.safetensors").exists())

    def test_wrong(self):
        out, args = self.tune("--target", "nothing")
        self.bad(2, "adapter.target", *args)
        self.bad(2, "--method", *self.tune("--method", "vera")[1])
        self.bad(2, "--data", "tune", MIXTURE, "-o", out)


class Files(Adapters):
    def test_info_and_formats(self):
        own, back = self.folder / "own.safetensors", self.folder / "peft"
        self.bad(2, "the model must be given", "adapter", "info", PEFT)
        self.good("adapter", "convert", PEFT, "-m", LLAMA, "-o", own)
        info = self.good("adapter", "info", own, "--json").json()
        self.assertEqual(info["kind"], "lora")
        self.assertEqual(len(info["targets"]), 14)
        self.assertEqual({t["scale"] for t in info["targets"]}, {2.0})
        self.assertIn("blk.0.attn_q.weight", self.good("adapter", "info", own).text())
        self.good("adapter", "convert", own, "-m", LLAMA, "-o", back, "--format", "peft")
        gguf = self.folder / "lora.gguf"
        self.good("adapter", "convert", own, "-m", LLAMA, "-o", gguf, "--format", "gguf")
        wanted = self.logits(LLAMA, "--adapter", PEFT)
        for path in own, back, gguf:
            self.assertLess(self.apart(self.logits(LLAMA, "--adapter", path), wanted),
                            1e-3)

    def test_types(self):
        exact, usual, rounded, none = (
            self.logits(LLAMA, *more) for more in (
                ("--adapter", PEFT, "--adapter-type", "exact"), ("--adapter", PEFT),
                ("--adapter", PEFT, "--adapter-type", "q8_0"), ("--adapter-type", "q8_0")))
        self.assertEqual(exact, usual)  # the weights are floats
        change = self.apart(exact, none)
        self.assertGreater(self.apart(exact, rounded), 0)
        self.assertLess(self.apart(exact, rounded), 0.02 * change)
        self.bad(2, "not one of", "logits", LLAMA, "--tokens", "1", "--adapter-type", "q9")

    def test_score(self):
        samples = self.folder / "samples.jsonl"
        samples.write_text('{"prompt": "a b", "completion": " c"}\n' * 3)
        bank = self.folder / "bank"
        bank.mkdir()
        out, args = self.tune()
        self.good(*args)
        for name in "one", "two":
            shutil.copy(out / "adapter.safetensors", bank / f"{name}.safetensors")
        found = self.good("adapter", "score", bank, "-m", MIXTURE, "--samples", samples,
                          "--first", "2", "--choose", "2", "--json").json()
        self.assertEqual(found["samples"], 2)
        one, two, none = found["scores"]
        self.assertEqual(one["nll"], two["nll"])
        self.assertNotEqual(one["nll"], none["nll"])
        self.assertIsNone(none["adapter"])
        self.assertAlmostEqual(found["similarity"][0][1], 1, 6)
        self.assertEqual(len(found["groups"]), 1)
        self.assertIn("one.safetensors", self.good("adapter", "score", bank, "-m", MIXTURE,
                                                   "--samples", samples).text())
        self.bad(2, "score needs", "adapter", "score", bank, "-m", MIXTURE)
        empty = self.folder / "empty"
        empty.mkdir()
        self.bad(2, "has no adapters", "adapter", "score", empty, "-m", MIXTURE,
                 "--samples", samples)

    def test_pick(self):
        """Texts of a pool that are like the samples: whole lines of it."""
        pool, samples = self.folder / "pool.jsonl", self.folder / "few.jsonl"
        lines = [json.dumps({"text": " ".join(str(i * j % 7) for j in range(9)), "n": i})
                 for i in range(12)]
        pool.write_text("\n".join(lines) + "\n")
        samples.write_text(lines[5] + "\n")
        out = self.folder / "picked.jsonl"
        call = ("adapter", "pick", pool, "-m", MIXTURE, "-o", out)
        self.bad(2, "pick needs", *call)
        self.good(*call, "--samples", samples, "--count", "4")
        picked = out.read_text().splitlines()
        self.assertEqual(picked[0], lines[5])
        self.assertTrue(set(picked) <= set(lines) and 1 <= len(picked) <= 4)
        self.bad(2, "needs -o", "adapter", "pick", pool, "-m", MIXTURE,
                 "--samples", samples)

    def test_join_and_merge(self):
        cat, merged = self.folder / "cat.safetensors", self.folder / "merged.gguf"
        self.good("adapter", "cat", f"{PEFT}:0.5", f"{PEFT}:0.25", "-m", LLAMA, "-o", cat)
        half = self.logits(LLAMA, "--adapter", f"{PEFT}:0.75")
        self.assertLess(self.apart(self.logits(LLAMA, "--adapter", cat), half), 1e-3)
        same = self.good("adapter", "diff", cat, PEFT, "-m", LLAMA, "--json").json()
        for target in same["targets"]:
            self.assertGreater(target["cosine"], 0.9999)
            self.assertAlmostEqual(target["first"] / target["second"], 0.75, 4)
        self.good("merge-adapter", LLAMA, f"{PEFT}:0.75", "-o", merged)
        self.assertLess(self.apart(self.logits(merged), half), 0.2)  # BF16 again
        out = self.folder / "found.safetensors"
        found = self.good("adapter", "extract", LLAMA, merged, "-r", "4", "-o", out)
        self.assertRegex(found.err, r"0\.\d+ % of the difference")

    def test_wrong(self):
        out = self.folder / "out"
        self.bad(2, "-o", "adapter", "cat", PEFT, "-m", LLAMA)
        self.bad(2, "no -o", "adapter", "info", PEFT, "-m", LLAMA, "-o", out)
        self.bad(2, "takes 2 files", "adapter", "diff", PEFT, "-m", LLAMA)
        self.bad(2, "cannot be joined", "adapter", "cat", DORA, PEFT, "-m", LLAMA, "-o",
                 out)
        self.bad(1, "'dora' in GGUF", "adapter", "convert", DORA, "-m", LLAMA, "-o", out,
                 "--format", "gguf")
        self.bad(1, "no/such", "run", MIXTURE, "-p", "x", "--adapter", "no/such")
        self.bad(2, "'x' is no scale", "run", MIXTURE, "-p", "x", "--adapter",
                 f"{PEFT}:x")
        self.bad(1, "the model has no weights", "logits", MIXTURE, "--tokens", "1", "-o",
                 out, "--adapter", DORA)
        self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
