"""Steering: policies on the command line, their list, and thresholds from a text."""

import json
import unittest

from harness import DENSE, MIXTURE, ROOT, TEXT, CommandTest, read_npy


class Steer(CommandTest):
    def counts(self, *policies):
        flags = [word for p in policies for word in ("--policy", p)]
        got = self.good("run", MIXTURE, "-p", "Hello", "-n", "12", "--ignore-eos",
                        "--seed", "3", "--json", *flags).json()
        return got["layers"]

    def test_masks_and_numbers(self):
        plain = self.counts()
        masked = self.counts("mask:experts=0-3,layers=1", "topk:k=1,layers=0")
        self.assertEqual(sum(plain[0]["counts"]), 2 * plain[0]["tokens"])
        self.assertEqual(sum(masked[0]["counts"]), masked[0]["tokens"])
        self.assertEqual(masked[1]["counts"][:4], [0] * 4)
        self.assertEqual(sum(masked[1]["counts"]), 2 * masked[1]["tokens"])

    def test_what_is_wrong_is_named(self):
        for policy, code, says in (
                ("maks:k=1", 2, "there is no such policy; there are mask"),
                ("mask:experts=8", 2, "layer 0 has experts 0 to 7"),
                ("topk:k=2,layers=5", 2, "the model has 0 to 1"),
                ("mask:experts=0-7", 2, "no expert of layer 0 would be left"),
                ("modes:file=/none.json,skip=0.5", 1, "none.json")):
            self.bad(code, says, "run", MIXTURE, "-p", "x", "--policy", policy)
            self.bad(code, "--policy", "run", MIXTURE, "-p", "x", "--policy", policy)
        self.bad(1, "nothing to steer", "run", DENSE, "-p", "x", "--policy", "topk:k=1")

    def test_all_verbs_take_them(self):
        args = ("perplexity", MIXTURE, "-f", TEXT, "--ctx", "64", "--json")
        plain = self.good(*args).json()["nll"]
        self.assertNotEqual(self.good(*args, "--policy", "topk:k=1").json()["nll"], plain)
        same = self.good(*args, "--policy", "topk:k=2").json()
        self.assertEqual((same["nll"], same["experts_used"]), (plain, 2))
        self.bad(1, "taken out a token", *args, "--policy", "scmoe:weak=1")
        self.good(*args, "--policy", "scmoe:weak=1,alpha=0")
        self.good(*args, "--policy", "rewire:prompt=16,every=16,steps=1")
        out = self.folder / "x.npy"
        for policy in ("ranks:take=1", "scmoe:beta=0,alpha=0"):
            self.good("logits", MIXTURE, "--tokens", "1,2,3", "-o", out,
                      "--policy", policy)
            self.assertEqual(read_npy(out)[0][0], 3)
        self.good("bench", MIXTURE, "-p", "4", "-n", "4", "-r", "1", "--stream", "1M",
                  "--json", "--policy", "ser:least=1,t=0.5")

    def test_the_list(self):
        got = self.good("policies", "--json").json()["policies"]
        names = [p["name"] for p in got]
        for name in ("mask", "keep", "bias", "temperature", "topk", "top_p",
                     "min_weight", "ser", "ranks", "modes", "scmoe", "rewire"):
            self.assertIn(name, names)
        mask = got[names.index("mask")]
        self.assertEqual([k["name"] for k in mask["keys"]], ["experts", "mode", "layers"])
        self.assertTrue(mask["keys"][0]["required"])
        text = self.good("policies").text()
        for name in names:
            self.assertRegex(text, rf"(?m)^{name}$")

    def test_the_page_has_every_policy(self):
        page = (ROOT / "docs" / "steer.md").read_text()
        for policy in self.good("policies", "--json").json()["policies"]:
            self.assertIn(f"`{policy['name']}`", page)
            for key in policy["keys"]:
                self.assertIn(f"`{key['name']}`", page, policy["name"])

    def test_modes(self):
        path = self.folder / "m.json"
        got = self.good("modes", MIXTURE, "-f", TEXT, "-o", path, "--tokens", "128",
                        "--ctx", "64", "--skip", "0.25,0.5", "--grid", "20",
                        "--json").json()
        self.assertAlmostEqual(sum(got["importance"][0]), 1, places=5)
        kept = json.loads(path.read_text())
        for old, new in zip(kept["points"], got["points"], strict=True):
            self.assertAlmostEqual(old["tau"][0], new["tau"][0], places=6)
        for point in got["points"]:
            self.assertGreaterEqual(point["skipped"], point["target"])
        usage = self.counts(f"modes:file={path},skip=0.5")
        used = sum(sum(layer["counts"]) for layer in usage)
        self.assertLess(used, 2 * sum(layer["tokens"] for layer in usage))
        self.good("modes", MIXTURE, "-f", TEXT, "-o", path, "--tokens", "64",
                  "--ctx", "64", "--skip", "0.3", "--grid", "5")
        self.bad(2, "no list of shares", "modes", MIXTURE, "-f", TEXT, "-o", path,
                 "--skip", "a")
        self.bad(1, "nothing to steer", "modes", DENSE, "-f", TEXT, "-o", path)

    def test_rewiring_and_contrast_generate(self):
        for policy in ("rewire:every=4,steps=2", "scmoe:weak=1"):
            got = self.good("run", MIXTURE, "-p", "Hello there", "-n", "12", "--json",
                            "--ignore-eos", "--temp", "0", "--policy", policy).json()
            self.assertEqual(got["tokens"], 12)
        self.bad(1, "must not learn from guesses", "run", MIXTURE, "-p", "Hello", "--lookup",
                 "--policy", "rewire")

    def test_guessing_ahead_changes_no_text_of_a_contrast(self):
        args = ("run", MIXTURE, "-p", "Hello there", "-n", "24", "--json", "--ignore-eos",
                "--temp", "0", "--policy", "scmoe:weak=1")
        self.assertEqual(self.good(*args).json()["text"],
                         self.good(*args, "--lookup").json()["text"])


if __name__ == "__main__":
    unittest.main()
