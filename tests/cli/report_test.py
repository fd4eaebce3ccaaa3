"""Reports: figures as text and JSON, and a page that is whole, safe and alone. And the
routes of two models side by side."""

import html.parser
import math
import re
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from harness import DENSE, MIXTURE, ROOT, TEXT, CommandTest

MINI = str(ROOT / "models" / "junto-mini.gguf")
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Tags must close in order; notes tags, attributes and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data):
        self.words.append(data)


class Report(CommandTest):
    def trace(self, name, *more, model=MIXTURE, text=TEXT):
        path = self.folder / name
        self.good("perplexity", model, "-f", text, "--ctx", "64", "--trace", path, "-q",
                  *more)
        return path

    def page(self, *traces, more=()):
        path = self.folder / "report.html"
        self.good("report", *traces, "-o", path, *more)
        return path.read_text(encoding="utf-8")

    def test_figures(self):
        path = self.trace("a.trace", "--trace-scores")
        info = self.good("trace", "info", path, "--json").json()
        got = self.good("report", path, "-m", MIXTURE, "--json").json()
        (one,) = got["traces"]
        self.assertEqual((one["model"], one["tokens"]),
                         (info["model"], info["tokens"]))
        self.assertEqual(one["texts"], info["tokens"] // 64)
        self.assertEqual(sum(c["tokens"] for c in one["classes"]), info["tokens"])
        for layer in one["layers"]:
            self.assertEqual(sum(layer["load"]), 2 * info["tokens"])
            self.assertEqual(layer["picks"], 2 * info["tokens"])
            self.assertEqual(sum(map(sum, layer["class"]["counts"])), layer["picks"])
            for which in "locality", "shuffled":
                hits = layer[which]["hits"]
                self.assertEqual(set(hits), {"LRU", "LFU", "Belady", "SCH 4", "SCH 16",
                                             "SCH 64", "SCH 256"})
                for rates in hits.values():
                    self.assertEqual(rates, sorted(rates))
                    self.assertEqual(rates[-1], 1.0)
                for rates in zip(hits["Belady"], hits["SCH 16"], hits["LRU"]):
                    self.assertGreaterEqual(rates[0] + 1e-12, max(rates[1:]))
                self.assertEqual([s["span"] for s in layer[which]["srp"]], [4, 16, 64])
            self.assertGreaterEqual(layer["congestion"]["gamma"], 0)
        text = self.good("report", path).text()
        self.assertRegex(text, r"(?m)^  SRP of 16  tokens +0\.\d+ +0\.\d+ ")
        self.assertRegex(text, r"(?m)^  Belady +0\.\d+ ")

    def test_trained_router_is_local(self):
        """Two kinds of text after each other: far above the same tokens shuffled."""
        text = self.folder / "two.txt"
        prose = (ROOT / "docs" / "training.md").read_bytes()[:20000]
        code = (ROOT / "src" / "watch" / "report.c").read_bytes()[:20000]
        text.write_bytes(prose + code)
        path = self.trace("x.trace", model=MINI, text=text)
        (one,) = self.good("report", path, "--json").json()["traces"]
        srp = [[s["srp"] for s in one[w]["srp"]] for w in ("locality", "shuffled")]
        for real, shuffled in zip(*srp):
            self.assertGreater(real, shuffled + 0.02)
        for cache in "LRU", "SCH 16", "Belady":
            real, shuffled = (one[w]["hits"][cache] for w in ("locality", "shuffled"))
            self.assertGreater(real[7], shuffled[7] + 0.02)

    def test_page(self):
        a, b = self.trace("a.trace", "--trace-scores"), self.trace("b.trace")
        for traces, more in (((a,), ()), ((a, b), ()), ((a,), ("-m", MIXTURE))):
            text = self.page(*traces, more=more)
            page = Page(text)
            self.assertNotIn("script", page.tags)
            self.assertFalse({"link", "img", "iframe", "object"} & set(page.tags))
            self.assertFalse([v for k, v in page.attributes
                              if k in ("src", "href") and not v.startswith("#")])
            self.assertNotRegex(text, r"url\(|@import|\bon[a-z]+=|\bnan\b|\binf\b")
            self.assertIn("prefers-color-scheme:dark", text)
            self.assertGreaterEqual(page.tags.count("svg"), 8)
            self.assertEqual(page.tags.count("svg"), page.tags.count("title") - 1)
            root = ElementTree.fromstring(text.replace("<!DOCTYPE html>", ""))
            for svg in root.iter("svg"):
                self.assertTrue(svg.find("title").text)
                self.assertTrue([t for t in svg.iter("text") if t.text])
            words = "".join(page.words)
            self.assertIn("Congestion", words)
            self.assertEqual("letters" in words, bool(more))

    def test_labels(self):
        """Each text of perplexity is a label; experts tell prose from code."""
        prose, code = self.folder / "<b>prose.txt", self.folder / "code.txt"
        prose.write_bytes((ROOT / "docs" / "training.md").read_bytes()[:20000])
        code.write_bytes((ROOT / "src" / "watch" / "report.c").read_bytes()[:20000])
        path = self.folder / "both.trace"
        self.good("perplexity", MINI, "-f", prose, "-f", code, "--ctx", "64", "--trace",
                  path, "-q")
        (one,) = self.good("report", path, "--json").json()["traces"]
        self.assertEqual([label["name"] for label in one["labels"]],
                         [str(prose), str(code)])
        for layer in one["layers"]:
            label = layer["label"]
            self.assertGreater(label["information"], 5 * label["shuffled"])
        page = Page(self.page(path))
        self.assertNotIn("b", page.tags)
        self.assertIn("<b>prose.txt", "".join(page.words))

    def test_names_are_text(self):
        evil = self.folder / "<script>alert('x')&.txt"
        evil.write_bytes((ROOT / "docs" / "trace.md").read_bytes())
        path = self.folder / "<img src=x>.trace"
        self.good("perplexity", MIXTURE, "-f", evil, "--ctx", "64", "--trace", path,
                  "-q")
        page = Page(self.page(path))
        self.assertNotIn("img", page.tags)
        self.assertNotIn("script", page.tags)
        self.assertIn("<img src=x>.trace", "".join(page.words))
        (one,) = self.good("report", path, "--json").json()["traces"]
        self.assertEqual(one["labels"][0]["name"], str(evil))

    def test_bad_input(self):
        path = self.trace("a.trace")
        other = self.trace("mini.trace", model=MINI)
        page = self.folder / "x.html"
        self.bad(1, "mini.trace' is a trace of another model", "report", path, other,
                 "-o", page)
        self.assertFalse(page.exists())
        self.bad(1, "trace of another model", "report", path, "-m", MINI)
        self.bad(1, "another model", "report", path, "-m", DENSE)
        self.bad(1, "not a trace", "report", MIXTURE)
        self.bad(1, "no/such.trace", "report", "no/such.trace")
        self.bad(1, "no/such/x.html", "report", path, "-o", "no/such/x.html")
        self.bad(2, "--json and --text", "report", path, "--json", "--text")
        self.bad(2, "9 traces", "report", *[path] * 9)
        data = bytearray(path.read_bytes())
        cut = self.folder / "cut.trace"
        cut.write_bytes(data[:-5])
        done = self.good("report", cut, "--json")
        self.assertIn("was cut", done.err)
        (one,) = done.json()["traces"]
        self.assertEqual(one["tokens"] % 256, 0)
        data[-1] ^= 1
        cut.write_bytes(data)
        self.bad(1, "cut.trace': block", "report", cut, "-o", page)
        self.assertFalse(page.exists())


class Compare(CommandTest):
    def test_itself_and_a_quantisation(self):
        q4 = self.folder / "q4.gguf"
        self.good("quantize", MIXTURE, q4, "--type", "q4_0", "-q")
        args = ("-f", TEXT, "-c", "64", "--json")
        same = self.good("compare", MIXTURE, MIXTURE, *args).json()
        self.assertEqual(same["perplexity_a"], same["perplexity_b"])
        self.assertEqual((same["flips"], same["correlation"]), ([], None))
        for layer in same["layers"]:
            self.assertEqual((layer["same"], layer["top1"], layer["kl"]),
                             (layer["tokens"], layer["tokens"], 0))
        got = self.good("compare", MIXTURE, q4, *args, "--top", "3").json()
        tokens = sum(b["tokens"] for b in got["agreement"])
        self.assertEqual(tokens, got["scored"])
        for which in "ab":
            loss = sum(b["tokens"] * b[f"nll_{which}"] for b in got["agreement"])
            self.assertAlmostEqual(math.exp(loss / tokens), got[f"perplexity_{which}"],
                                   places=4)
        self.assertEqual(len(got["flips"]), 3)
        flips = [f["agreement"] for f in got["flips"]]
        self.assertEqual(flips, sorted(flips))
        text = Path(TEXT).read_text()
        for flip in got["flips"]:
            self.assertGreater(flip["layers"], 0)
            self.assertIn(flip["text"].strip(), text)
        scored = self.good("diff", MIXTURE, q4, "-f", TEXT, "-c", "64", "--no-tensors",
                           "--json").json()["text"]
        self.assertEqual((scored["kl"], scored["scored"]), (got["kl"], got["scored"]))
        self.assertEqual([layer["same"] for layer in scored["layers"]],
                         [layer["same"] for layer in got["layers"]])

    def test_text(self):
        q4 = self.folder / "q4.gguf"
        self.good("quantize", MIXTURE, q4, "--type", "q4_0", "-q")
        text = self.good("compare", MIXTURE, q4, "-f", TEXT, "-c", "64", "--top",
                         "2").text()
        self.assertRegex(text, r"(?m)^perplexity +A [\d.]+  B [\d.]+ \([+-][\d.]+%\)$")
        self.assertRegex(text, r"(?m)^1 +[\d.]+% +0\.\d+ +[\d.]+% +0\.\d+$")
        self.assertEqual(len(re.findall(r"(?m)^ +\d+ +[\d.]+ +\d .*\[.*\]", text)), 2)
        dense = self.good("compare", DENSE, DENSE, "-f", TEXT, "-c", "64").text()
        self.assertIn("no routes to compare", dense)

    def test_bad_input(self):
        self.bad(2, "--file", "compare", MIXTURE, MIXTURE)
        self.bad(1, "no/such", "compare", MIXTURE, "no/such.gguf", "-f", TEXT)
        self.bad(2, "other tokens", "compare", MIXTURE, MINI, "-f", TEXT)
        short = self.folder / "short.txt"
        short.write_text("short")
        self.bad(2, "a window takes 64", "compare", MIXTURE, MIXTURE, "-f", short, "-c",
                 "64")


if __name__ == "__main__":
    unittest.main()
