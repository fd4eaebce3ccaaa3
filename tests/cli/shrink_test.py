"""junto quantize, imatrix and diff: what they write and print, and what is left when
they end early."""

import re
import resource
import signal
import time
import unittest
from pathlib import Path

from convert_test import sparse_folder
from harness import DENSE, MIXTURE, TEXT, CommandTest, junto, start


class Shrink(CommandTest):
    def left(self):
        return sorted(p.name for p in self.folder.iterdir())


class Quantize(Shrink):
    def test_dry_run(self):
        table = self.good("quantize", MIXTURE, "--dry-run", "--type", "q4_k_m")
        rows = table.text().splitlines()
        self.assertEqual(len(rows), 23)
        self.assertRegex(table.text(), r"ffn_gate_inp.weight +8 x 32 +F32 +-> F32 ")
        self.assertRegex(table.text(), r"ffn_down_exps.weight +8 x 32 x 24 .* F16 .*instead")
        self.assertIn("would write 23 tensors", table.err)
        self.assertEqual(self.left(), [])

    def test_json_is_what_is_written(self):
        out = self.folder / "q.gguf"
        args = ("quantize", MIXTURE, out, "--type", "q5_0", "--rule", "attn_=f16",
                "--rule", "attn_q=q4_0", "--json")
        plan = self.good(*args, "--dry-run").json()
        self.assertEqual(self.left(), [])
        done = self.good(*args).json()
        self.assertEqual(plan["tensors"], done["tensors"])
        self.assertEqual(plan["bytes_to"], sum(t["bytes_to"] for t in done["tensors"]))
        types = {t["name"]: t["to"] for t in done["tensors"]}
        self.assertEqual(types["blk.0.attn_q.weight"], "F16")  # the first rule counts
        self.assertEqual(types["blk.0.ffn_up_exps.weight"], "Q5_0")
        self.assertEqual(types["blk.0.attn_norm.weight"], "F32")
        self.good("run", out, "-p", "x", "-n", "3")

    def test_a_type_for_each_expert(self):
        plain, laid = self.folder / "plain.gguf", self.folder / "laid.gguf"
        matrix = self.folder / "imatrix.gguf"
        self.good("imatrix", MIXTURE, "-f", TEXT, "-c", "16", "-o", matrix)
        args = ("--type", "q4_0", "--imatrix", matrix, "--json")
        self.good("quantize", MIXTURE, plain, *args)
        self.good("quantize", MIXTURE, laid, *args, "--layout", "experts")
        same = self.good("diff", plain, laid, "--json").json()
        self.assertEqual({t["error"] for t in same["tensors"]}, {0})
        report = self.good("quantize", MIXTURE, laid, *args, "--layout", "experts",
                           "--rule", r"blk\.1\.ffn_up\.3\.=q8_0",
                           "--rule", "ffn_gate_exps=q5_0").json()
        types = {t["name"]: t["to"] for t in report["tensors"]}
        self.assertEqual(types["blk.1.ffn_up.3.weight"], "Q8_0")
        self.assertEqual(types["blk.1.ffn_up.4.weight"], "Q4_0")
        self.assertEqual(types["blk.1.ffn_gate.4.weight"], "Q5_0")
        self.assertRegex(self.good("info", laid, "--tensors").text(),
                         r"blk.1.ffn_up_exps.weight +mixed")
        run = ("run", laid, "-p", "x", "-n", "6", "--seed", "1", "-q")
        self.assertEqual(self.good(*run).out, self.good(*run, "--ram", "1G").out)
        self.bad(1, "different types", "convert", laid, self.folder / "no.gguf")
        self.bad(1, "different types", "convert", laid, self.folder / "no")
        self.bad(2, "no other layout", "quantize", MIXTURE, self.folder / "no.gguf",
                 "--layout", "experts", "--nested", "4")

    def test_wrong(self):
        out = self.folder / "q.gguf"
        self.bad(2, "q4_k_x", "quantize", MIXTURE, out, "--type", "q4_k_x")
        self.bad(2, "regex=type", "quantize", MIXTURE, out, "--rule", "attn")
        self.bad(2, "DST", "quantize", MIXTURE)
        self.bad(1, "no/such", "quantize", "no/such.gguf", out)
        self.bad(1, "no importance", "quantize", MIXTURE, out, "--imatrix", MIXTURE)
        self.assertEqual(self.left(), [])

    def test_full_disk(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

        result = junto("quantize", MIXTURE, self.folder / "out.gguf", "-q",
                       preexec_fn=limit, restore_signals=False)
        self.assertEqual(result.code, 1)
        self.assertIn("out.gguf", result.err)
        self.assertEqual(self.left(), [])

    def test_interrupted_and_killed(self):
        source = self.folder / "big"
        sparse_folder(source)
        for kill in [signal.SIGINT, signal.SIGKILL]:
            process = start("quantize", source, self.folder / "out.gguf")
            while process.poll() is None and not any(".part" in n for n in self.left()):
                time.sleep(0.001)
            process.send_signal(kill)
            process.communicate()
            left = [n for n in self.left() if n != "big"]
            if process.returncode == 0:  # it was faster
                self.good("info", self.folder / "out.gguf")
            elif kill == signal.SIGINT:
                self.assertEqual((process.returncode, left), (130, []))
            else:
                self.assertNotIn("out.gguf", left)
            for name in left:
                (self.folder / name).unlink()


class Imatrix(Shrink):
    def test_gather_and_use(self):
        matrix, out = self.folder / "i.gguf", self.folder / "q.gguf"
        seen = self.good("imatrix", MIXTURE, "-f", TEXT, "-c", "16", "-o", matrix,
                         "--json").json()
        self.assertGreater(seen["chunks"], 100)
        up = {e["name"]: e for e in seen["entries"]}["blk.0.ffn_up_exps.weight"]
        self.assertEqual(sum(up["counts"]), 2 * 16 * seen["chunks"])
        report = self.good("quantize", MIXTURE, out, "--type", "q4_0", "--imatrix",
                           matrix, "--json").json()
        weighted = {t["name"] for t in report["tensors"] if t["weighted"]}
        self.assertIn("blk.0.ffn_up_exps.weight", weighted)
        self.assertNotIn("token_embd.weight", weighted)

    def test_goes_on(self):
        matrix = self.folder / "i.gguf"
        args = ("imatrix", MIXTURE, "-f", TEXT, "-c", "16", "-o", matrix, "--json")
        whole = self.good(*args).json()
        windows = whole["chunks"]
        rest = self.good(*args, "--from-chunk", windows - 3).json()
        self.assertEqual(rest["chunks"], 3)
        again = self.good(*args, "--in", matrix).json()
        self.assertEqual(again["chunks"], windows + 3)
        self.bad(2, "windows", *args, "--from-chunk", windows)

    def test_unseen_experts_are_told(self):
        text = self.folder / "short.txt"
        text.write_text("x")
        told = self.good("imatrix", MIXTURE, "-f", text, "-c", "1", "-o",
                         self.folder / "i.gguf").text()
        self.assertRegex(told, r"blk.0.ffn_down_exps.weight: of 8 experts [4-6] saw no "
                               r"token \([\d ]+\), \d fewer than 64\n")
        quantised = self.good("quantize", MIXTURE, self.folder / "q.gguf", "--type",
                              "q4_0", "--imatrix", self.folder / "i.gguf")
        self.assertIn("saw no token: they count inputs by the mean", quantised.err)

    def test_interrupted(self):
        text = self.folder / "long.txt"
        text.write_bytes(Path(TEXT).read_bytes() * 400)
        out = self.folder / "i.gguf"
        process = start("imatrix", MIXTURE, "-f", text, "-c", "16", "-o", out)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        self.assertEqual(process.returncode, 130, err)
        if out.exists():
            done = int(re.search(rb"--from-chunk (\d+)", err).group(1))
            self.assertGreater(done, 0)
            self.good("quantize", MIXTURE, self.folder / "q.gguf", "--imatrix", out)

    def test_wrong(self):
        args = ("-f", TEXT, "-c", "16", "-o", self.folder / "i.gguf")
        self.bad(1, MIXTURE, "imatrix", MIXTURE, *args, "--in", MIXTURE)
        self.good("imatrix", MIXTURE, *args)
        self.bad(1, "importance", "imatrix", DENSE, "-f", TEXT, "-c", "16", "-o",
                 self.folder / "j.gguf", "--in", self.folder / "i.gguf")


class Diff(Shrink):
    def test_same_and_quantised(self):
        out = self.folder / "q.gguf"
        self.good("quantize", MIXTURE, out, "--type", "q8_0", "-q")
        args = ("-f", TEXT, "-c", "16", "--json")
        same = self.good("diff", MIXTURE, MIXTURE, *args).json()
        self.assertEqual({t["error"] for t in same["tensors"]}, {0})
        self.assertEqual(same["text"]["kl"]["largest"], 0)
        got = self.good("diff", MIXTURE, out, *args).json()
        errors = [t["error"] for t in got["tensors"]]
        self.assertEqual(errors, sorted(errors, reverse=True))
        self.assertTrue(0 < errors[0] < 0.01)
        self.assertTrue(0 < got["text"]["kl"]["mean"] < 0.05)
        self.assertEqual([x["layer"] for x in got["text"]["layers"]], [0, 1])
        text = self.good("diff", MIXTURE, out, "-f", TEXT, "-c", "16", "--top", "2").text()
        self.assertIn("and 21 more (--top 0)", text)
        self.assertRegex(text, r"KL divergence  mean 0\.\d+ .*\nsame top token ")
        self.assertRegex(text, r"layer 1 +same experts [\d.]+%  jaccard 0?1?\.\d+")

    def test_other_model(self):
        got = self.good("diff", MIXTURE, DENSE, "--json").json()
        self.assertTrue(any(o["what"] == "only in the first" for o in got["others"]))
        self.assertIsNone(got["text"])
        self.bad(1, "no/such", "diff", MIXTURE, "no/such.gguf")


if __name__ == "__main__":
    unittest.main()
