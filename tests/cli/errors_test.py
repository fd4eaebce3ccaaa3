"""Bad input: every mistake ends in one line that names the culprit, and no file."""

import os
import resource
import signal
import unittest
from pathlib import Path

from harness import DENSE, MIXTURE, TEXT, CommandTest, junto

LOADERS = [("run", "-p", "x"), ("info",), ("tokenize", "-p", "x"), ("bench",),
           ("logits", "--tokens", "1", "-o", "unused.npy"), ("perplexity", "-f", TEXT)]


class Usage(CommandTest):
    def test_numbers(self):
        for culprit, *args in [
                ("-n: 'x' is not a whole number", "run", "m", "-p", "x", "-n", "x"),
                ("--temp: 'hot' is not a number", "run", "m", "--temp", "hot"),
                ("--top-p: '1.5' is out of range", "run", "m", "--top-p", "1.5"),
                ("-t: '0' is out of range", "run", "m", "-t", "0"),
                ("--seed: 'x' is not a whole number", "run", "m", "--seed", "x"),
                ("--tokens: 'a' is not a whole number", "logits", "m", "--tokens", "1,a",
                 "-o", "x"),
                ("--ctx: '1' is out of range", "perplexity", "m", "-f", "x", "--ctx", "1"),
                ("--stream: 'much' is not a size", "bench", "m", "--stream", "much"),
                ("-t: '0' is out of range", "bench", "m", "-t", "1,0"),
                ("--router: 'good' is not one of random|zero", "upcycle", "a", "b",
                 "--router", "good"),
                ("--cpu: 'z80' is not one of", "run", "m", "--cpu", "z80")]:
            with self.subTest(args=args):
                self.bad(2, culprit, *args)

    def test_missing_and_stray(self):
        for culprit, *args in [
                ("MODEL is missing", "run"),
                ("MODEL is missing", "info", "--json"),
                ("-p needs a value", "run", "m", "-p"),
                ("unexpected argument 'b'", "info", "a", "b"),
                ("unknown flag '--jsn' (did you mean '--json'?)", "info", "a", "--jsn"),
                ("--output is missing", "logits", "m", "--tokens", "1"),
                ("either --tokens or --prompt", "logits", "m", "-o", "x"),
                ("--file is missing", "perplexity", "m"),
                ("FILE... is missing", "train-tokenizer", "-o", "x"),
                ("--output is missing", "train-tokenizer", "a", "b"),
                ("260 tokens", "train-tokenizer", TEXT, "-o", "x", "--vocab-size", "260",
                 "--special", "a<", "--special", "b<", "--special", "c<",
                 "--special", "d<", "--special", "e<"),
                ("no pre-tokenizer 'x'", "train-tokenizer", TEXT, "-o", "x", "--pre", "x"),
                ("OUT.gguf is missing", "upcycle", "a", "--experts", "4"),
                ("--experts is missing", "upcycle", "a", "b", "--top-k", "1"),
                ("--top-k: 3 is more than the 2 experts", "upcycle", "a", "b",
                 "--experts", "2", "--top-k", "3"),
                ("give a prompt", "run", "m"),
                ("only one of --prompt and --file", "run", "m", "-p", "x", "-f", "y"),
                ("does not go with --json", "run", "m", "-i", "--json"),
                ("nothing to measure", "bench", "m", "-p", "0", "-n", "0"),
                ("only one of", "tokenize", "m", "-p", "x", "--decode", "1")]:
            with self.subTest(args=args):
                self.bad(2, culprit, *args)

    def test_values_that_the_model_refuses(self):
        self.bad(2, "outside the vocabulary", "tokenize", MIXTURE, "--decode", "1,272")
        self.bad(2, "outside the vocabulary", "logits", MIXTURE, "--tokens", "272", "-o",
                 self.folder / "x.npy")
        self.bad(2, "'morse' is not a known template", "run", MIXTURE, "-p", "x",
                 "--chat-format", "morse")


class Files(CommandTest):
    def test_missing(self):
        for verb, *rest in LOADERS:
            self.bad(1, "no/such.gguf", verb, "no/such.gguf", *rest)
        self.bad(1, "no/such.gguf", "upcycle", "no/such.gguf", self.folder / "o.gguf",
                 "--experts", "2", "--top-k", "1")
        self.bad(1, "no/such.txt", "run", MIXTURE, "-f", "no/such.txt")
        self.bad(1, "no/such.txt", "train-tokenizer", TEXT, "no/such.txt", "-o",
                 self.folder / "o.gguf")
        self.bad(1, "no/such.txt", "perplexity", MIXTURE, "-f", "no/such.txt")

    def test_directory(self):
        for verb, *rest in LOADERS:
            self.bad(1, str(self.folder), verb, self.folder, *rest)
        self.bad(1, str(self.folder), "run", MIXTURE, "-f", self.folder)

    @unittest.skipIf(os.geteuid() == 0, "root reads everything")
    def test_unreadable(self):
        path = self.folder / "secret.gguf"
        path.write_bytes(Path(MIXTURE).read_bytes())
        path.chmod(0)
        self.bad(1, str(path), "info", path)

    def test_truncated_at_many_places(self):
        whole = Path(MIXTURE).read_bytes()
        path = self.folder / "short.gguf"
        for size in [0, 3, 4, 8, 23, 24, 100, 1000, 5000, len(whole) // 2, len(whole) - 1]:
            path.write_bytes(whole[:size])
            with self.subTest(size=size):
                self.bad(1, "short.gguf", "info", path)

    def test_names_with_control_characters(self):
        result = self.bad(1, "?[31m", "info", "no/\x1b[31m\n.gguf")
        self.assertNotIn("\x1b", result.err)


class Output(CommandTest):
    """Nothing half-written stays, whatever stops the writer."""

    def left(self):
        return sorted(p.name for p in self.folder.iterdir())

    def writers(self, path):
        yield "logits", MIXTURE, "--tokens", ",".join(["1"] * 100), "-o", path
        yield "upcycle", DENSE, path, "--experts", "2", "--top-k", "1"
        yield "train-tokenizer", TEXT, "-o", path

    def test_unwritable_path(self):
        path = self.folder / "no" / "such" / "folder"
        for args in self.writers(path):
            self.bad(1, str(path), *args)
        for args in self.writers(self.folder):
            self.bad(1, str(self.folder), *args)
        self.assertEqual(self.left(), [])

    def test_no_room(self):
        """A limit on the size of files stands in for a full disk."""
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

        for args in self.writers(self.folder / "out"):
            self.bad(1, "out", *args, preexec_fn=limit, restore_signals=False)
        self.assertEqual(self.left(), [])

    def test_old_file_survives_failure(self):
        path = self.folder / "out"
        path.write_text("old")
        self.bad(1, "no/such.gguf", "upcycle", "no/such.gguf", path, "--experts", "2",
                 "--top-k", "1")
        self.assertEqual(path.read_text(), "old")
        self.assertEqual(self.left(), ["out"])

    @unittest.skipUnless(os.path.exists("/dev/full"), "/dev/full is not here")
    def test_full_standard_output(self):
        for args in [("help",), ("man",), ("run", "--help"), ("--version",),
                     ("info", MIXTURE), ("info", MIXTURE, "--json"),
                     ("run", MIXTURE, "-p", "x", "-n", "20", "-q"),
                     ("run", MIXTURE, "-p", "x", "-n", "20", "-q", "--json"),
                     ("tokenize", MIXTURE, "-p", "x"),
                     ("tokenize", MIXTURE, "--decode", "1,2")]:
            with self.subTest(args=args), open("/dev/full", "wb") as full:
                result = junto(*args, stdout=full)
                self.assertEqual(result.code, 1)
                self.assertIn("cannot write to standard output", result.err)
                self.assertEqual(result.err.count("\n"), 1)


if __name__ == "__main__":
    unittest.main()
