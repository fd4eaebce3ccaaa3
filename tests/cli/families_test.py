"""The list of families: what it says, and that documents and golden models agree."""

import unittest

from harness import GOLDEN, ROOT, CommandTest


class FamiliesTest(CommandTest):
    def test_json(self):
        rows = self.good("families", "--json").json()["families"]
        by_name = {row["name"]: row for row in rows}
        self.assertEqual(len(by_name), len(rows))
        mixtral = by_name["llama"]
        self.assertTrue(mixtral["dense"] and mixtral["mixture"] and mixtral["train"])
        self.assertEqual(mixtral["router"], "softmax, renormalised")
        self.assertIn("mixtral", mixtral["models"].split())
        self.assertEqual(by_name["phimoe"]["router"], "SparseMixer")
        self.assertFalse(by_name["phimoe"]["start"])
        self.assertEqual(by_name["gemma"]["router"], "")

    def test_text(self):
        text = self.good("families").text()
        self.assertRegex(text, r"(?m)^qwen3moe +mixture +run, train, start")
        self.assertIn("    router     sigmoid, renormalised\n", text)

    def test_every_golden_model_is_listed(self):
        names = {row["name"]
                 for row in self.good("families", "--json").json()["families"]}
        for path in GOLDEN.glob("*.gguf"):
            if not path.name.endswith(".ref.gguf"):
                info = self.good("info", path, "--json").json()
                self.assertIn(info["family"], names, path)

    def test_document(self):
        """`junto families --markdown` is the end of docs/families.md."""
        table = self.good("families", "--markdown").text()
        page = (ROOT / "docs" / "families.md").read_text()
        self.assertTrue(page.endswith(table), "docs/families.md is out of date")

    def test_wrong_usage(self):
        self.bad(2, "do not go together", "families", "--json", "--markdown")


if __name__ == "__main__":
    unittest.main()
