"""junto recipe: the list, a small recipe from file to verdict, and every recipe of the
library in miniature."""

import json
import signal
import time
import unittest

from harness import ROOT, CommandTest, start

RECIPE = """
title = "Two ways"
paper = "None"
text = "One learns, one does not."
seeds = 2
table = ["loss", "loss@k=1"]
[data]
domains = 2
vocab = 32
classes = 2
documents = 40
length = 24
[base.model]
layers = 1
width = 16
heads = 2
experts = 4
expert_width = 8
vocab = 32
[base.data]
seq_len = 24
held_out = 0.2
[base.train]
steps = 20
batch = 4
[[variant]]
name = "still"
text = "no rate"
set = { "optim.lr" = 1e-9 }
[[variant]]
name = "moving"
probe = ["k:1"]
set = { "optim.lr" = 0.02 }
[[claim]]
text = "training helps"
holds = "moving.loss < still.loss"
[[claim]]
text = "one expert is enough"
holds = "moving.loss@k=1 < moving.loss"
"""


REAL = RECIPE.replace("domains = 2\nvocab = 32\nclasses = 2\ndocuments = 40\nlength = 24",
                      "vocab = 300").replace("[data]", "[corpus]", 1).replace(
                          "expert_width = 8\nvocab = 32", "expert_width = 8")
WORDS = {"one": "the cat sat on the mat and", "two": "in der Stube sitzt ein Kater und"}


class RecipeTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.recipe = self.folder / "two.toml"
        self.recipe.write_text(RECIPE)

    def corpus(self):
        """A folder as tools/corpus writes it, of a few kilobytes."""
        folder = self.folder / "corpus"
        folder.mkdir()
        for name, words in WORDS.items():
            (folder / f"{name}.txt").write_text(
                "".join(f"{words} {i % 7} {words}\n<|endoftext|>\n" for i in range(60)))
        return folder


class List(RecipeTest):
    def test_all(self):
        names = sorted(p.parent.name for p in (ROOT / "recipes").glob("*/recipe.toml"))
        listed = self.good("recipe", "--json").json()["recipes"]
        self.assertEqual(sorted(entry["name"] for entry in listed), names)
        text = self.good("recipe").text()
        self.assertEqual(sorted(line.split()[0] for line in text.splitlines()), names)
        self.assertEqual(self.good("recipe", "--list").text(), text)

    def test_every_recipe_has_a_page(self):
        for folder in (ROOT / "recipes").glob("*/"):
            self.assertIn(f"junto recipe {folder.name}", (folder / "README.md").read_text())

    def test_one(self):
        text = self.good("recipe", self.recipe, "--list").text()
        for part in ["Two ways", "no rate", "2 seeds, 20 steps", "moving.loss < still.loss"]:
            self.assertIn(part, text)
        plan = self.good("recipe", self.recipe, "--list", "--json").json()
        self.assertEqual(plan["variants"], {"still": "no rate", "moving": None})
        self.assertEqual(plan["claims"][0]["text"], "training helps")


class Run(RecipeTest):
    def test_table_and_verdicts(self):
        got = self.good("recipe", self.recipe)
        self.assertRegex(got.text(), r"\| loss +\| [\d.]+ ± [\d.]+ +\| [\d.]+ ± [\d.]+ +\|\n")
        self.assertRegex(got.text(), r"\| loss@k=1 +\| - +\| [\d.]+ ± ")
        self.assertIn("over 2 seeds", got.text())
        self.assertRegex(got.text(), r"- \*\*shown\*\*: training helps\n  \(`moving\.loss < "
                                     r"still\.loss`: in 2 of 2 seeds, margin [\d.]+ ± ")
        self.assertIn("moving, seed 2 (2 of 2): loss ", got.err)

    def test_real_text(self):
        self.recipe.write_text(REAL)
        self.assertIn("2 seeds, 20 steps, real text (--corpus DIR)",
                      self.good("recipe", self.recipe, "--list").text())
        self.bad(2, "tools/corpus DIR", "recipe", self.recipe)
        out = self.folder / "kept"
        got = self.good("recipe", self.recipe, "--corpus", self.corpus(), "-o", out,
                        "--first-seed", "101", "--json")
        self.assertIn("moving, seed 102 (2 of 2): loss ", got.err)
        self.assertEqual(got.json()["first_seed"], 101)
        self.assertEqual(got.json()["claims"][0]["verdict"], "shown")
        self.good("info", out / "moving-102" / "model.gguf")
        self.good("tokenize", out / "data" / "vocabulary.gguf", "-p", "cat")

    def test_json(self):
        got = self.good("recipe", self.recipe, "--json", "--seeds", "1", "--steps", "5",
                        "-q").json()
        self.assertEqual(got["seeds"], 1)
        self.assertEqual(len(got["variants"]["still"]["loss"]["seeds"]), 1)
        self.assertEqual(got["claims"][0]["verdict"], "not judged")

    def test_part_of_it_kept(self):
        out = self.folder / "kept"
        got = self.good("recipe", self.recipe, "--only", "moving", "--seeds", "1", "-o", out,
                        "--set", "train.steps=4", "--json").json()
        self.assertEqual(list(got["variants"]), ["moving"])
        log = [json.loads(line) for line in (out / "moving-1" / "log.jsonl").open()]
        self.assertEqual([line["step"] for line in log], [1, 2, 3, 4])
        self.good("info", out / "moving-1" / "model.gguf")

    def test_interrupted(self):
        running = start("recipe", self.recipe, "--steps", "1000000")
        time.sleep(1)
        running.send_signal(signal.SIGINT)
        self.assertEqual(running.wait(timeout=60), 130)
        running.communicate()

    def test_every_recipe_measures_what_it_claims(self):
        """In miniature: too short for verdicts, but every claim has its numbers."""
        corpus = self.corpus()
        for entry in self.good("recipe", "--json").json()["recipes"]:
            with self.subTest(entry["name"]):
                text = ["--corpus", corpus] if entry["corpus"] else []
                got = self.good("recipe", entry["name"], *text,
                                "--seeds", "1", "--steps", "100",
                                "--set", "train.steps=4", "--set", "train.batch=1",
                                "--set", "train.accumulate=1", "--set", "eval.batches=1",
                                "--set", "data.seq_len=32", "--json").json()
                self.assertTrue(got["claims"])
                for claim in got["claims"]:
                    self.assertEqual(claim["judged"], 1, claim["condition"])


class Mistakes(RecipeTest):
    def test_usage(self):
        for culprit, *args in [
                ("no recipe 'nothing'", "nothing"),
                ("no variant 'x'", self.recipe, "--only", "x"),
                ("model.heads", self.recipe, "--set", "model.heads=3"),
                ("synthetic text, no corpus", self.recipe, "--corpus", self.folder),
                ("--first-seed: '0' is out of range", self.recipe, "--first-seed", "0"),
                ("--seeds: '-1' is out of range", self.recipe, "--seeds", "-1")]:
            with self.subTest(args=args):
                self.bad(2, culprit, "recipe", *args)
        self.bad(1, "absent.toml", "recipe", self.folder / "absent.toml")
        self.recipe.write_text(RECIPE.replace("moving.loss < still", "moving.loss < stil"))
        self.bad(2, "there is no variant 'stil'", "recipe", self.recipe)


if __name__ == "__main__":
    unittest.main()
