"""The audit: text and JSON, what is wrong."""

import unittest

from harness import DENSE, MIXTURE, ROOT, TEXT, CommandTest

MINI = str(ROOT / "models" / "junto-mini.gguf")


class Audit(CommandTest):
    def texts(self):
        """C of this project, and a page of it."""
        a, b = self.folder / "a.txt", self.folder / "b.txt"
        a.write_bytes((ROOT / "src" / "base" / "file.c").read_bytes()[:6000])
        b.write_bytes((ROOT / "docs" / "architecture.md").read_bytes()[:6000])
        return a, b

    def test_what_one_text_uses_more(self):
        a, b = self.texts()
        args = ("audit", MINI, "--harmful", a, "--benign", b, "-c", "64", "--percent",
                "5,20", "--draws", "2", "--windows", "16", "--neurons", "0",
                "-t", "1")
        got = self.good(*args, "--json").json()
        self.assertEqual([p["masked"] for p in got["points"]], [7, 29])
        self.assertEqual(len(got["experts"]), 144)
        rates = [e["disparity"] for e in got["experts"]]
        self.assertEqual(rates, sorted(rates, reverse=True))
        self.assertGreater(got["auc"], 0.9)
        self.assertAlmostEqual(sum(layer["share"] for layer in got["layers"]), 1, places=6)
        for layer in range(6):
            used = [e["rate_a"] for e in got["experts"] if e["layer"] == layer]
            self.assertAlmostEqual(sum(used), 4, places=6)
        text = self.good(*args, "--top", "3").text()
        self.assertGreater(got["shift"], 2 * got["shift_chance"])
        self.assertIn(f"{100 * got['shift']:.1f}% of the routing", text)
        self.assertIn(f"{got['concentration']:.3f} (by chance", text)
        self.assertIn(f"{got['points'][0]['top']['kept']:.4f}", text)
        self.assertNotEqual(self.good(*args, "--json", "--mode", "zero").json()["points"],
                            got["points"])

    def test_neurons_and_a_related_model(self):
        a, b = self.texts()
        small = self.folder / "small.gguf"
        self.good("quantize", MINI, small, "--type", "q4_0")
        got = self.good("audit", small, "--before", MINI, "--harmful", a, "--benign", b,
                        "-c", "64", "--percent", "5,20", "--draws", "2", "--windows", "8",
                        "--neurons", "3", "-t", "1", "--json").json()
        inside, change = got["inside"], got["change"]
        self.assertEqual(inside["experts"], 4)
        self.assertEqual(len(inside["neurons"]), 4 * 64)
        self.assertEqual([p["masked"] for p in inside["points"]], [13, 51])
        d = [n["d"] for n in inside["neurons"]]
        self.assertEqual(d, sorted(d, reverse=True))
        first = {(e["layer"], e["expert"]) for e in got["experts"][:4]}
        self.assertEqual({(n["layer"], n["expert"]) for n in inside["neurons"]}, first)
        self.assertGreater(change["correlation"], 0.9)
        self.assertEqual(len(change["kept"]), 2)
        text = self.good("audit", MINI, "--before", MINI, "--harmful", a, "--benign", b,
                         "-c", "64", "--percent", "5", "--draws", "2", "--windows", "8",
                         "--neurons", "0", "-t", "1").text()
        self.assertIn("correlation of the disparities 1.000, overlap of the first tenth "
                      "1.000", text)
        self.assertRegex(text, r"(?m)^harder +no$")
        self.assertNotIn("neurons of the first", text)
        self.bad(2, "other layers or experts", "audit", MINI, "--before", MIXTURE,
                 "--harmful", a, "--benign", b, "-c", "64", "--windows", "8", "--percent",
                 "5", "--draws", "2", "--neurons", "0")

    def test_what_is_wrong_is_named(self):
        a, b = self.texts()
        short = self.folder / "short.txt"
        short.write_text("a few words")
        self.bad(2, "text B has", "audit", MINI, "--harmful", a, "--benign", short)
        self.bad(1, "none.txt", "audit", MINI, "--harmful", "none.txt", "--benign", b)
        self.bad(1, "nothing to audit", "audit", DENSE, "--harmful", TEXT, "--benign", TEXT,
                 "-c", "16")
        self.bad(2, "rise", "audit", MIXTURE, "--harmful", TEXT, "--benign", TEXT,
                 "-c", "16", "--percent", "5,2")


if __name__ == "__main__":
    unittest.main()
