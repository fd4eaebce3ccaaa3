"""junto train: a run from configuration to model, its mistakes, and how it is stopped."""

import json
import re
import resource
import signal
import time
import unittest
import xml.etree.ElementTree as xml

from harness import MIXTURE, ROOT, CommandTest, start

CONFIG = f"""
[model]
width = 32
layers = 2
heads = 2
experts = 4
expert_width = 32
[data]
tokenizer = "{MIXTURE}"
seq_len = 32
[[data.source]]
path = "books.txt"
separator = ""
[[data.source]]
path = "code.txt"
domain = "code"
separator = ""
[train]
steps = 6
batch = 2
threads = 1
[eval]
every = 3
batches = 2
"""


class TrainTest(CommandTest):
    def setUp(self):
        super().setUp()
        self.config = self.folder / "run.toml"
        self.out = self.folder / "out"
        self.config.write_text(CONFIG)
        text = "\n\n".join(f"It was the {n}th night, and the moon was up." for n in range(80))
        (self.folder / "books.txt").write_text(text)
        (self.folder / "code.txt").write_text(text.replace(" ", "_"))

    def log(self):
        return [json.loads(line) for line in (self.out / "log.jsonl").open()]


class Trace(TrainTest):
    def traced(self, name, *more):
        path = self.folder / name
        self.good("train", self.config, "--set", f"output.dir='{self.folder / name}-out'",
                  "--trace", path, *more)
        return path, self.good("trace", "info", path, "--json").json()

    def test_every_token_with_its_domain(self):
        path, info = self.traced("x.trace")
        self.assertEqual(info["tokens"], 6 * 2 * 32)
        self.assertEqual(info["labels"], ["books.txt", "code"])
        self.good("trace", "export", path, "-o", self.folder / "csv", "--csv")
        lines = (self.folder / "csv/trace.csv").read_text().splitlines()[1::2]
        labels = [line.split(",")[1] for line in lines]
        self.assertEqual({tuple(set(labels[i:i + 32])) for i in range(0, 384, 32)},
                         {('"books.txt"',), ('"code"',)})
        self.good("report", path)

    def test_changes_nothing(self):
        self.traced("x.trace", "--trace-norms", "--set", "train.checkpoint_activations=true")
        self.good("train", self.config)
        self.assertEqual((self.out / "model.gguf").read_bytes(),
                         (self.folder / "x.trace-out/model.gguf").read_bytes())

    def test_some_steps_and_going_on(self):
        path, info = self.traced("x.trace", "--trace-every", "4")
        self.assertEqual(info["tokens"], 2 * 2 * 32)  # steps 1 and 5
        self.bad(2, "is there: a run that goes on", "train", self.config, "--resume",
                 "--set", f"output.dir='{path}-out'", "--set", "train.steps=8", "--trace",
                 path)


class Run(TrainTest):
    def test_from_text_to_model(self):
        got = self.good("train", self.config)
        self.assertRegex(got.text(), r"(?m)^held out +loss +perplexity\n"
                                     r"  books\.txt +[\d.]+ +[\d.]+\n  code +[\d.]+ ")
        self.assertIn(f"model  {self.out / 'model.gguf'}\n", got.text())
        self.assertRegex(got.err, r"(?m)^step 1/6  loss [\d.]+  [\d.]+( K)? tokens/s  "
                                  r"balance [\d.]+  [\d.]+s left$")
        self.assertRegex(got.err, r"(?m)^step 3/6  held out [\d.]+  books.txt [\d.]+, code ")
        names = ["checkpoint.gguf", "config.json", "curves.svg", "log.jsonl", "model.gguf"]
        self.assertEqual(sorted(p.name for p in self.out.iterdir()), names)
        kinds = [(line["kind"], line["step"]) for line in self.log()]
        self.assertEqual(kinds, [("step", 1), ("step", 2), ("step", 3), ("eval", 3),
                                 ("step", 4), ("step", 5), ("step", 6), ("eval", 6)])
        self.assertEqual(list(self.log()[-1]["domains"]), ["books.txt", "code"])
        xml.parse(self.out / "curves.svg")
        for name in ["checkpoint.gguf", "model.gguf"]:
            self.assertTrue(self.good("run", self.out / name, "-p", "It", "-n", "3",
                                      "--ignore-eos").out)

    def test_json_and_quiet(self):
        got = self.good("train", "--config", self.config, "--json", "-q")
        self.assertEqual(got.err, "")
        got = got.json()
        self.assertEqual((got["steps"], got["tokens"]), (6, 6 * 2 * 32))
        self.assertEqual(got["model"], str(self.out / "model.gguf"))
        self.assertEqual(set(got["held_out"]["domains"]), {"books.txt", "code"})
        self.assertEqual(list(got), ["config", "model", "steps", "tokens", "loss",
                                     "held_out", "seconds", "tokens_per_second"])

    def test_settings(self):
        self.good("train", self.config, "--set", "train.steps=2", "--set=output.dir="
                  + str(self.folder / "other"), "--set", "router.null_experts=2")
        kept = json.loads((self.folder / "other" / "config.json").read_text())
        self.assertEqual((kept["train"]["steps"], kept["router"]["null_experts"]), (2, 2))
        self.assertFalse(self.out.exists())
        # What was kept is a configuration, too.
        again = self.folder / "kept.json"
        again.write_text(json.dumps(kept))
        self.good("train", again, "--set", f"output.dir={self.out}")
        self.assertEqual((self.out / "model.gguf").read_bytes(),
                         (self.folder / "other" / "model.gguf").read_bytes())

    def test_dry_run(self):
        text = self.good("train", self.config, "--dry-run").text()
        for part in ["parameters ", "active", "FLOPs per token", "memory ", "activations",
                     "time          about", "6 of 64 tokens: 384 tokens"]:
            self.assertIn(part, text)
        self.assertFalse(self.out.exists())
        got = self.good("train", self.config, "--dry-run", "--json").json()
        self.assertEqual((got["steps"], got["tokens"]), (6, 384))
        self.assertLess(got["active_params"], got["params"])
        self.assertEqual(got["total_bytes"],
                         sum(got[f"{part}_bytes"] for part in
                             ["weight", "gradient", "optimiser", "activation", "data"]))


class Resume(TrainTest):
    def test_same_as_without_a_stop(self):
        # A constant rate, as the length of the run is not known before it is stopped.
        more = ("--set", "train.steps=100000", "--set", "optim.schedule=constant",
                "--set", "optim.warmup=0", "--set", "eval.every=0")
        process = start("train", self.config, *more)
        for stream in [process.stdin, process.stdout, process.stderr]:
            self.addCleanup(stream.close)
        self.addCleanup(process.kill)
        while b"step 1/" not in (line := process.stderr.readline()):
            self.assertTrue(line)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual((process.returncode, out), (130, b""))
        self.assertRegex(err.decode(), r"interrupted after step \d+ of 100000\n.*--resume")
        done = int(re.search(rb"after step (\d+)", err).group(1))
        self.assertEqual(self.log()[-1]["step"], done)
        last = ("--set", f"train.steps={done + 3}")
        self.good("train", self.config, *more, *last, "--resume")
        stopped, stopped_log = (self.out / "model.gguf").read_bytes(), self.log()
        self.out = self.folder / "whole"
        self.good("train", self.config, *more, *last, "--set", f"output.dir={self.out}")
        self.assertEqual((self.out / "model.gguf").read_bytes(), stopped)
        for line in stopped_log + (whole_log := self.log()):
            line.pop("tokens_per_second", None)
        self.assertEqual(stopped_log, whole_log)

    def test_killed_at_any_moment(self):
        every = ("--set", "output.save_every=1", "--set", "train.steps=200",
                 "--set", "eval.every=50", "-q")
        checkpoint = self.out / "checkpoint.gguf"
        resume = ()
        for moment in (0.15, 0.05, 0.1, 0.2):
            process = start("train", self.config, *every, *resume)
            while not checkpoint.exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(moment)
            process.kill()
            process.communicate()
            resume = ("--resume",)
            self.good("info", checkpoint)  # whole, whenever it was
        self.good("train", self.config, *every, *resume)
        killed = (self.out / "model.gguf").read_bytes()
        steps = [line["step"] for line in self.log() if line["kind"] == "step"]
        self.assertEqual(steps, list(range(1, 201)))
        self.out = self.folder / "whole"
        self.good("train", self.config, *every, "--set", f"output.dir={self.out}")
        self.assertEqual((self.out / "model.gguf").read_bytes(), killed)

    def test_disk_full(self):
        self.good("train", self.config)
        before = (self.out / "checkpoint.gguf").read_bytes()

        def small_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            limit = len(before) // 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        process = start("train", self.config, "--resume", "--set", "train.steps=8",
                        preexec_fn=small_files)
        out, err = process.communicate(timeout=30)
        self.assertEqual((process.returncode, out), (1, b""))
        self.assertIn(b"checkpoint.gguf", err)
        self.assertEqual((self.out / "checkpoint.gguf").read_bytes(), before)
        self.assertFalse(list(self.out.glob("*.part")))
        self.good("train", self.config, "--resume", "--set", "train.steps=8")

    def test_neither_lost_nor_invented(self):
        self.bad(1, "checkpoint.gguf", "train", self.config, "--resume", "-q")
        self.good("train", self.config)
        before = (self.out / "checkpoint.gguf").read_bytes()
        self.bad(2, "--resume", "train", self.config)
        self.assertEqual((self.out / "checkpoint.gguf").read_bytes(), before)
        self.assertEqual(self.good("train", self.config, "--resume", "--json").json()["loss"],
                         None)


class Mistakes(TrainTest):
    def test_arguments(self):
        self.bad(2, "CONFIG is missing", "train")
        self.bad(2, "unexpected argument 'b'", "train", "a", "b")
        self.bad(2, "--markdown goes with --help-keys", "train", "a", "--markdown")
        self.bad(1, "no/such.toml", "train", "no/such.toml")
        self.bad(2, "unknown key 'train.stpes' (did you mean 'train.steps'?)", "train",
                 self.config, "--set", "train.stpes=3")
        self.bad(2, "setting 'x' is not of the form key=value", "train", self.config,
                 "--set", "x")

    def test_configurations(self):
        for code, culprit, text in [
                (1, "line 2: expected a value, found the end", "\nx ="),
                (2, "line 3: train.steps: expected a whole number", "\n[train]\nsteps = 'x'"),
                (2, "line 2: unknown key 'modell'", "\nmodell.width = 3"),
                (2, "model.heads: 3 does not divide", CONFIG.replace("heads = 2", "heads = 3")),
                (1, "books.txt", CONFIG.replace("books.txt", "no-books.txt")),
                (1, "tok.gguf", CONFIG.replace(MIXTURE, "tok.gguf"))]:
            with self.subTest(culprit):
                self.config.write_text(text)
                for more in [(), ("--dry-run",)]:
                    self.bad(code, culprit, "train", self.config, *more)
                self.assertEqual(list(self.out.glob("*")), [])


class Documents(TrainTest):
    page = (ROOT / "docs" / "training.md").read_text()

    def test_keys_are_fresh(self):
        """`junto train --help-keys --markdown` is the end of docs/training.md."""
        keys = self.good("train", "--help-keys", "--markdown").text()
        self.assertEqual(self.page[self.page.index("### `[model]`"):], keys)

    def test_example(self):
        example = self.page.split("```toml\n")[1].split("```")[0]
        self.config.write_text(example)
        (self.folder / "questions.jsonl").write_text(
            '{"prompt": "What is red?", "completion": "A rose."}\n' * 20)
        self.good("train", self.config, "--dry-run", "--set", f"data.tokenizer={MIXTURE}")

    def test_printed_keys_are_a_configuration(self):
        self.config.write_text(self.good("train", "--help-keys").text())
        self.bad(2, "data.source.0.path: is missing", "train", self.config)
        self.good("train", self.config, "--dry-run", "--set", f"data.tokenizer={MIXTURE}",
                  "--set", f"data.source.0.path={self.folder / 'books.txt'}")


if __name__ == "__main__":
    unittest.main()
