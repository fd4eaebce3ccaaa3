"""Verbs that measure and make: info, logits, perplexity, bench, and what writes models."""

import re
import unittest
from pathlib import Path

from harness import DENSE, GOLDEN, MIXTURE, TEXT, CommandTest, read_npy


class Info(CommandTest):
    def test_text(self):
        text = self.good("info", MIXTURE).text()
        self.assertRegex(text, r"(?m)^experts +8 of width 24, 2 used$")
        self.assertRegex(text, r"(?m)^family +llama$")
        lists = self.good("info", MIXTURE, "--keys", "--tensors").text()
        self.assertTrue(lists.startswith(text))
        self.assertIn("  llama.expert_count = 8\n", lists)
        self.assertRegex(lists, r"tokenizer.ggml.tokens = \[.*\] \(272 items\)\n")
        self.assertRegex(lists, r"blk.0.ffn_up_exps.weight +F32 +\[8, 24, 32\] 24 KiB\n")

    def test_json(self):
        got = self.good("info", MIXTURE, "--json").json()
        self.assertEqual((got["experts"], got["experts_used"], got["layers"]), (8, 2, 2))
        self.assertEqual(sum(got["type_bytes"].values()), 4 * got["params"])
        self.assertLess(got["active_params"], got["params"])
        self.assertNotIn("keys", got)
        got = self.good("info", MIXTURE, "--json", "--keys", "--tensors").json()
        keys = {item["key"]: item["value"] for item in got["keys"]}
        self.assertEqual(keys["llama.expert_count"], 8)
        self.assertEqual(keys["general.name"], "golden mixtral")
        self.assertEqual(sum(t["bytes"] for t in got["tensors"]),
                         sum(got["type_bytes"].values()))

    def test_every_family(self):
        for path in GOLDEN.glob("*.gguf"):
            if not path.name.endswith(".ref.gguf"):
                self.good("info", path, "--json").json()


class Logits(CommandTest):
    def test_shape_and_chunks(self):
        path = self.folder / "x.npy"
        self.good("logits", MIXTURE, "--tokens", "1,2,3,4,5", "-o", path)
        shape, whole = read_npy(path)
        self.assertEqual(shape, (5, 272))
        self.assertEqual(len(whole), 5 * 272)
        self.good("logits", MIXTURE, "--tokens", "1 2 3 4 5", "-o", path, "--chunk", "2")
        _, parts = read_npy(path)
        top = max(map(abs, whole))
        self.assertLess(max(abs(a - b) for a, b in zip(whole, parts)), 1e-4 * top)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["x.npy"])

    def test_prompt(self):
        tokens = self.good("tokenize", MIXTURE, "-p", "Hello").text().strip()
        self.good("logits", MIXTURE, "--tokens", tokens, "-o", self.folder / "a.npy")
        self.good("logits", MIXTURE, "-p", "Hello", "-o", self.folder / "b.npy")
        self.assertEqual((self.folder / "a.npy").read_bytes(),
                         (self.folder / "b.npy").read_bytes())

    def test_limits(self):
        path = self.folder / "x.npy"
        self.bad(2, "--tokens", "logits", MIXTURE, "--tokens", ",".join(["1"] * 129),
                 "-o", path)
        self.bad(2, "empty", "logits", MIXTURE, "-p", "", "-o", path)
        self.assertFalse(path.exists())


class Perplexity(CommandTest):
    def test_text_and_json(self):
        args = ("perplexity", MIXTURE, "-f", TEXT, "--ctx", "64")
        text = self.good(*args)
        got = self.good(*args, "--json").json()
        self.assertIn(f"perplexity  {got['perplexity']:.4f} +- ", text.text())
        self.assertRegex(text.err, r"tokens/s\n$")
        self.assertEqual(got["scored"], 63 * got["windows"])
        self.assertEqual(got["windows"], got["tokens"] // 64)
        self.assertGreater(got["perplexity"], 1)

    def test_several_texts(self):
        text = Path(TEXT).read_bytes()
        files = self.folder / "a.txt", self.folder / "b.txt"
        files[0].write_bytes(text[:len(text) // 3])
        files[1].write_bytes(text[len(text) // 3:])
        args = ("perplexity", MIXTURE, "--ctx", "64", "--json")
        one = [self.good(*args, "-f", f).json() for f in files]
        both = self.good(*args, "-f", files[0], "-f", files[1]).json()
        self.assertEqual(both["scored"], sum(o["scored"] for o in one))
        self.assertAlmostEqual(
            both["nll"], sum(o["scored"] * o["nll"] for o in one) / both["scored"])
        for text, single in zip(both["texts"], one):
            self.assertEqual(text["nll"], single["nll"])
        self.assertLess(both["error"], max(o["error"] for o in one))
        shown = self.good(*args[:-1], "-f", files[0], "-f", files[1]).text()
        self.assertRegex(shown, r"(?m)^ +[\d.]+ \+- [\d.]+  .*b\.txt\nperplexity ")

    def test_limits(self):
        path = self.folder / "short.txt"
        path.write_text("Hello")
        self.bad(1, "short.txt", "perplexity", MIXTURE, "-f", path, "--ctx", "64")
        self.bad(2, "--ctx", "perplexity", MIXTURE, "-f", TEXT, "--ctx", "129")


class Bench(CommandTest):
    args = ("bench", MIXTURE, "-p", "16", "-n", "8", "--stream", "8M", "-r", "3")

    def test_json(self):
        got = self.good(*self.args, "-t", "1,2", "--json").json()
        self.assertEqual((got["prompt"], got["gen"], got["repeat"]), (16, 8, 3))
        self.assertEqual([run["threads"] for run in got["runs"]], [1, 2])
        for key in ["load_seconds", "active_bytes", "file_bytes", "seed"]:
            self.assertGreaterEqual(got[key], 0)
        for run in got["runs"]:
            for key in ["bandwidth_bytes_per_second", "bytes_per_token", "peak_bytes",
                        "kv_bytes", "decode_roofline_share",
                        "peak_operations_per_second", "prefill_peak_share"]:
                self.assertGreater(run[key], 0)
            for phase in [run["prefill"], run["decode"]]:
                rates = phase["tokens_per_second"]
                self.assertLessEqual(rates["min"], rates["median"])
                self.assertLessEqual(rates["median"], rates["max"])
                self.assertEqual(set(phase["stage_seconds"]),
                                 {"attention", "score", "select", "dispatch", "apply",
                                  "combine", "dense", "head"})
                self.assertLessEqual(sum(phase["stage_seconds"].values()),
                                     1.05 * phase["seconds"])

    def test_budget(self):
        least = re.search(r"smallest budget is (\d+) MiB",
                          self.bad(1, "the smallest budget is", *self.args, "--ram", "1M").err)
        budget = f"{int(least[1]) + 1}M"
        run = self.good(*self.args, "--ram", budget, "--json").json()["runs"][0]
        self.assertIsNone(run["bandwidth_bytes_per_second"])
        self.assertIsNone(run["prefill_peak_share"])
        for phase in [run["prefill"], run["decode"]]:
            store = phase["store"]
            self.assertGreater(store["hits"] + store["hits_ahead"] + store["misses"], 0)
            self.assertGreaterEqual(store["guesses"], store["right_guesses"])
            self.assertGreaterEqual(store["ahead"], store["ahead_used"])
            self.assertGreater(store["compute_seconds_per_token"], 0)
            self.assertGreater(store["disk_bytes_per_second"], 0)
            self.assertLess(0, store["bound_share"])
        text = self.good(*self.args, "--ram", budget).text()
        self.assertIn("ahead of need", text)
        self.assertNotIn("roofline", text)

    def test_share_of_a_round(self):
        run = self.good(*self.args, "-r", "1", "--json").json()["runs"][0]
        share = (run["decode"]["tokens_per_second"]["median"] *
                 run["bytes_per_token"] / run["bandwidth_bytes_per_second"])
        self.assertAlmostEqual(run["decode_roofline_share"] / share, 1, places=5)

    def test_sequences_and_depth(self):
        run = self.good(*self.args, "-np", "3", "--json").json()["runs"][0]
        one = self.good(*self.args, "--json").json()["runs"][0]
        self.assertEqual(run["kv_bytes"], 3 * one["kv_bytes"])
        self.assertIsNone(run["decode_roofline_share"])  # experts overlap
        deep = self.good(*self.args, "-d", "64", "--json").json()
        self.assertEqual(deep["depth"], 64)
        self.assertGreater(deep["runs"][0]["bytes_per_token"], one["bytes_per_token"])
        self.bad(2, "--depth", *self.args, "-d", "100000")

    def test_table(self):
        text = self.good(*self.args, "-t1").text()
        self.assertRegex(text, r"decode +[\d.]+ +[\d.]+ +[\d.]+ tokens/s")
        self.assertRegex(text, r"roofline +[\d.]+% ")
        self.assertNotIn("decode", self.good(*self.args, "-n0").text())
        self.assertNotIn("prefill", self.good(*self.args, "-p", "0").text())

    def test_limits(self):
        self.bad(2, "--prompt and --gen", *self.args, "-p", "128")


class TrainTokenizer(CommandTest):
    def test_learns_the_words_of_its_texts(self):
        path, other = self.folder / "v.gguf", self.folder / "other.txt"
        other.write_text("zyxw " * 5000)
        got = self.good("train-tokenizer", TEXT, other, "-o", path, "--vocab-size", "300",
                        "--pre", "qwen2", "--special", "<end>", "--json").json()
        self.assertEqual((got["tokens"], got["merges"]), (300, 300 - 256 - 1))
        size = other.stat().st_size + len(Path(TEXT).read_bytes())
        self.assertEqual(got["bytes"], size)
        self.assertLess(got["text_tokens"], size)
        ids = self.good("tokenize", path, "-p", " zyxw<end>").text().strip().split(",")
        self.assertEqual((len(ids), ids[1]), (2, "299"))
        again = self.good("tokenize", path, "--decode", ",".join(ids)).text()
        self.assertEqual(again, " zyxw<end>")

    def test_says_when_there_is_nothing_to_merge(self):
        path, text = self.folder / "v.gguf", self.folder / "t.txt"
        text.write_text("abab")
        result = self.good("train-tokenizer", text, "-o", path)
        self.assertIn("only 260 tokens", result.err)


class Upcycle(CommandTest):
    def upcycle(self, name, *args):
        path = self.folder / name
        self.good("upcycle", DENSE, path, "--experts", "4", "--top-k", "2", *args)
        return path

    def logits(self, model):
        out = self.folder / "x.npy"
        self.good("logits", model, "--tokens", "1,2,3,4", "-o", out)
        return read_npy(out)[1]

    def test_same_logits_without_noise(self):
        dense = self.logits(DENSE)
        top = max(map(abs, dense))
        for router in ["random", "zero"]:
            mixture = self.logits(self.upcycle("m.gguf", "--router", router))
            self.assertLess(max(abs(a - b) for a, b in zip(dense, mixture)), 1e-4 * top)

    def test_noise_and_seed(self):
        noisy = self.upcycle("a.gguf", "--noise", "0.1", "--seed", "3").read_bytes()
        again = self.upcycle("b.gguf", "--noise", "0.1", "--seed", "3").read_bytes()
        other = self.upcycle("c.gguf", "--noise", "0.1", "--seed", "4").read_bytes()
        self.assertEqual(noisy, again)
        self.assertNotEqual(noisy, other)

    def test_the_mixture_runs(self):
        path = self.upcycle("m.gguf", "--noise", "0.02")
        got = self.good("run", path, "-p", "Hello", "-n", "8", "--ignore-eos",
                        "--json").json()
        self.assertEqual(len(got["layers"]), 2)
        self.assertEqual(len(got["layers"][0]["counts"]), 4)
        info = self.good("info", path, "--json").json()
        self.assertEqual((info["experts"], info["experts_used"]), (4, 2))

    def test_a_mixture_is_refused(self):
        out = self.folder / "m.gguf"
        self.bad(1, MIXTURE, "upcycle", MIXTURE, out, "--experts", "2", "--top-k", "1")
        self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
