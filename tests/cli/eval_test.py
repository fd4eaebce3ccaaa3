"""Questions for a model: scores, going on after a stop, policies, mistakes."""

import json
import signal
import subprocess
import time
import unittest

from harness import MIXTURE, ROOT, CommandTest, junto, start

MINI = str(ROOT / "models" / "junto-mini.gguf")
TASKS = ROOT / "tasks"


class Eval(CommandTest):
    def task(self, name, *records):
        path = self.folder / name
        path.write_text("".join(json.dumps(r) + "\n" for r in records))
        return path

    def choices(self, n):
        return self.task("t.jsonl", *(
            {"question": f"Number {i}", "choices": [" a", " b", " c"], "gold": i % 3}
            for i in range(n)))

    def test_a_small_model_is_above_chance(self):
        got = self.good("eval", MINI, TASKS / "copy.jsonl", TASKS / "kinds.jsonl",
                        TASKS / "texts.jsonl", "--json").json()["tasks"]
        for task in got[:2]:
            score = task["all"]
            self.assertGreater(score["accuracy"] - 2 * score["error"], score["chance"])
        self.assertEqual([t["kind"] for t in got], ["choice", "choice", "text"])
        domains = {d["name"]: d["perplexity"] for d in got[2]["domains"]}
        self.assertEqual(sorted(domains), ["c", "english", "french", "german", "json"])
        self.assertLess(domains["c"], domains["french"])

    def test_the_tasks_are_what_the_script_writes(self):
        subprocess.run([ROOT / "tools" / "tasks", self.folder / "x"], check=True)
        for path in TASKS.glob("*.jsonl"):
            self.assertEqual(path.read_bytes(), (self.folder / "x" / path.name).read_bytes())

    def test_text_and_json_agree(self):
        task = self.choices(6)
        text = self.good("eval", MIXTURE, task, "-c", "64").text()
        score = self.good("eval", MIXTURE, task, "-c", "64", "--json").json()["tasks"][0]
        self.assertIn(f"{100 * score['all']['accuracy']:.2f}%", text)
        self.assertIn("chance 33.33%", text)
        limited = self.good("eval", MIXTURE, task, "-c", "64", "-n", "2", "--json").json()
        self.assertEqual(limited["tasks"][0]["all"]["questions"], 2)

    def test_a_run_that_was_stopped_goes_on(self):
        task, kept, whole = self.choices(4000), self.folder / "a", self.folder / "b"
        args = ("eval", MIXTURE, task, "-c", "64", "-t", "1", "--json")
        process = start(*args, "-o", kept)
        while not kept.exists() or kept.read_bytes().count(b"\n") < 20:
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn(b"run it again to go on", err)
        self.assertFalse(out)
        before = kept.read_bytes()
        self.assertLess(before.count(b"\n"), 4001)
        again = self.good(*args, "-o", kept)
        self.assertTrue(kept.read_bytes().startswith(before))
        known = before.count(b"\n") - 1
        self.assertEqual((again.json()["known"], again.json()["questions"]), (known, 4000))
        self.assertEqual(self.good(*args, "-o", whole).json()["tasks"],
                         again.json()["tasks"])
        self.assertEqual(kept.read_bytes(), whole.read_bytes())

    def test_replies_and_policies(self):
        task = self.task("r.jsonl", {"task": {"max_tokens": 5, "name": "r"}},
                         *({"question": q, "answer": "x"} for q in ("a", "the sea", "b c")))
        replies = {}
        for flags in (("--parallel", "1"), ("--parallel", "3"), ("--policy", "topk:k=2"),
                      ("--policy", "topk:k=1")):
            out = self.folder / "-".join(flags).replace(":", "")
            self.good("eval", MIXTURE, task, "-c", "64", "-o", out, *flags)
            lines = [json.loads(line) for line in out.read_text().splitlines()[1:]]
            replies[flags[1]] = {r["line"]: r["reply"] for r in lines}
        self.assertEqual(replies["1"], replies["3"])
        self.assertEqual(replies["1"], replies["topk:k=2"])
        self.assertNotEqual(replies["1"], replies["topk:k=1"])
        self.bad(2, "not 'ctx 64", "eval", MIXTURE, task, "-c", "64", "-o", out)

    def test_what_is_wrong_is_named(self):
        broken = self.task("b.jsonl", {"question": "a", "choices": ["b", "c"], "gold": 2})
        self.bad(1, "line 1: \"gold\"", "eval", MIXTURE, broken)
        self.bad(1, "none.jsonl", "eval", MIXTURE, "none.jsonl")
        self.bad(2, "--policy", "eval", MIXTURE, self.choices(1), "--policy", "no:k=1")
        self.assertEqual(junto("eval", MIXTURE).code, 2)
        other = self.folder / "precious"
        other.write_text("mine\n")
        self.bad(1, "precious", "eval", MIXTURE, self.choices(1), "-c", "64", "-o", other)
        self.assertEqual(other.read_text(), "mine\n")


if __name__ == "__main__":
    unittest.main()
