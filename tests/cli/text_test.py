"""Text in and out: run, the chat, tokenize, and Ctrl-C."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import unittest

from harness import (DENSE, JUNTO, MIXTURE, TEXT, CommandTest, environment, start,
                     with_context)

# A reply that lasts until it is interrupted, on a model with a long context.
ENDLESS = ("-c", "400000", "--ignore-eos", "--seed", "1")


class Run(CommandTest):
    def test_same_seed_same_text(self):
        args = ("run", MIXTURE, "-p", "Hello", "-n", "30", "--ignore-eos")
        first = self.good(*args, "--seed", "7")
        self.assertTrue(first.out)
        self.assertEqual(self.good(*args, "-s7", "--predict=30").out, first.out)
        self.assertNotEqual(self.good(*args, "--seed", "8").out, first.out)
        self.assertIn("seed 7", first.err)

    def test_seed_of_the_system_can_be_repeated(self):
        args = ("run", MIXTURE, "-p", "Hello", "-n", "30", "--ignore-eos")
        first = self.good(*args)
        seed = re.search(r"seed (\d+)", first.err).group(1)
        self.assertEqual(self.good(*args, "--seed", seed).out, first.out)

    def test_greedy_needs_no_seed(self):
        args = ("run", MIXTURE, "-p", "Hello", "-n", "30", "--temp", "0", "--ignore-eos")
        self.assertEqual(self.good(*args).out, self.good(*args, "-b", "2", "-t1").out)

    def test_figures(self):
        err = self.good("run", MIXTURE, "-p", "Hello", "-n", "5", "--ignore-eos").err
        self.assertRegex(err, r"^prompt \d+ tokens, [\d.]+ tokens/s; generated 5 tokens, "
                              r"[\d.]+ tokens/s; finish: length; seed \d+\n$")
        self.assertEqual(self.good("run", MIXTURE, "-p", "x", "-n", "2", "-q").err, "")

    def test_json(self):
        args = ("run", MIXTURE, "-p", "Hello", "-n", "12", "--ignore-eos", "--seed", "5")
        got = self.good(*args, "--json").json()
        self.assertEqual(got["text"], self.good(*args).out.decode("utf-8", "replace"))
        self.assertEqual((got["tokens"], got["finish"], got["seed"]), (12, "length", 5))
        self.assertEqual([layer["layer"] for layer in got["layers"]], [0, 1])
        for layer in got["layers"]:
            self.assertEqual(len(layer["counts"]), 8)
            self.assertEqual(sum(layer["counts"]), 2 * layer["tokens"])
            self.assertAlmostEqual(sum(layer["weights"]), layer["tokens"], places=3)
        for key in ["prompt_seconds", "seconds", "load_seconds", "prompt_tokens", "cpu"]:
            self.assertIn(key, got)
        self.assertNotIn("layers", self.good("run", DENSE, *args[2:], "--json").json())

    def test_experts(self):
        args = ("run", MIXTURE, "-p", "Hello", "-n", "9", "--ignore-eos")
        self.assertNotIn("layer", self.good(*args).err)
        picture = self.good(*args, "--experts", "--color", "never").err
        self.assertRegex(picture, r"(?m)^ layer  experts +busiest\n     0  \S+ +\d +\d+%")
        self.assertNotIn("\033", picture)
        self.assertIn("\033[48;2;", self.good(*args, "--experts", "--color=always").err)
        self.assertNotIn("layer", self.good("run", DENSE, *args[2:], "--experts").err)

    def test_prompt_from_file_and_standard_input(self):
        path = self.folder / "prompt.txt"
        path.write_text("Hello\n")
        args = ("run", MIXTURE, "-n", "9", "--seed", "1")
        text = self.good(*args, "-e", "-p", r"Hello\n").out
        self.assertEqual(self.good(*args, "-p", "\x48ello\n").out, text)
        self.assertEqual(self.good(*args, "-e", "-p", r"\x48ello\x0a").out, text)
        self.assertEqual(self.good(*args, "-f", path).out, text)
        self.assertEqual(self.good(*args, "-f", "-", stdin=b"Hello\n").out, text)

    def test_display_prompt(self):
        args = ("run", MIXTURE, "-p", "Hello", "-n", "9", "--seed", "1")
        self.assertEqual(self.good(*args, "--display-prompt").out,
                         b"Hello" + self.good(*args).out)

    def test_stop(self):
        args = ("run", MIXTURE, "-p", "Hello", "-n", "40", "--ignore-eos", "--seed", "2")
        text = self.good(*args).out
        stop = re.search(rb"[a-z.,'(]", text[3:]).group()
        got = self.good(*args, "-r", "never in there", "--stop", stop.decode())
        self.assertEqual(got.out, text[:text.index(stop)])
        self.assertIn("finish: stop", got.err)

    def test_empty_and_long_prompts(self):
        self.bad(2, "--prompt: the prompt is empty", "run", MIXTURE, "-p", "")
        self.bad(1, "the prompt in '-' is empty", "run", MIXTURE, "-f", "-")
        self.bad(1, "context", "run", MIXTURE, "-p", "x" * 200)
        self.bad(1, "context", "run", MIXTURE, "-c", "8", "-f", TEXT)
        full = self.good("run", MIXTURE, "-p", "x" * 5, "-c", "8", "--ignore-eos").err
        self.assertIn("finish: context", full)

    def test_special_tokens_in_prompts(self):
        args = ("run", MIXTURE, "-n", "1", "--json", "-p", "<|im_start|>x")
        parsed = self.good(*args).json()["prompt_tokens"]
        plain = self.good(*args, "--no-special").json()["prompt_tokens"]
        self.assertGreater(plain, parsed + 5)

    def test_one_turn_of_a_chat(self):
        wrapped = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        system = "<|im_start|>system\nBe.<|im_end|>\n"
        args = ("run", MIXTURE, "-n", "20", "--seed", "3")
        chat = self.good(*args, "-p", "Hi", "--chat")
        self.assertEqual(chat.out, self.good(*args, "-p", wrapped).out)
        chat = self.good(*args, "-p", "Hi", "-sys", "Be.")
        self.assertEqual(chat.out, self.good(*args, "-p", system + wrapped).out)
        chat = self.good(*args, "-p", "Hi", "--chat-format", "plain")
        self.assertEqual(chat.out, self.good(*args, "-p", "Hi").out)


class Chat(CommandTest):
    args = ("run", MIXTURE, "-i", "--temp", "0", "-n", "6")

    def test_turns_share_the_context(self):
        first = self.good(*self.args, stdin=b"Hi\n").out
        self.assertTrue(first.endswith(b"\n"))
        both = self.good(*self.args, stdin=b"Hi\n\nHi\n").out
        self.assertTrue(both.startswith(first))
        self.assertNotEqual(both, first + first)

    def test_reset_forgets(self):
        first = self.good(*self.args, stdin=b"Hi\n").out
        again = self.good(*self.args, stdin=b"Hi\n/reset\nHi\n/exit\nHi\n").out
        self.assertEqual(again, first + first)

    def test_long_turns_and_first_turn(self):
        got = self.good(*self.args, stdin=b"a\\\nb\n/quit\n").out
        self.assertEqual(got, self.good(*self.args, "-p", "a\nb").out)

    def test_help(self):
        got = self.good(*self.args, stdin=b"/help\n")
        self.assertEqual(got.out, b"")
        self.assertIn("/reset", got.err)

    def test_full_context_is_survived(self):
        turns = b"x" * 500 + b"\nHi\n"
        got = self.good(*self.args, stdin=turns)
        self.assertIn("/reset", got.err)
        self.assertEqual(got.out, self.good(*self.args, stdin=b"Hi\n").out)


class Interrupt(CommandTest):
    def setUp(self):
        super().setUp()
        self.model = with_context(self.folder / "model.gguf", 400000)

    def begin(self, *args):
        process = start(*args)
        for stream in [process.stdin, process.stdout, process.stderr]:
            self.addCleanup(stream.close)
        self.addCleanup(process.kill)
        return process

    def test_text_so_far_is_kept(self):
        process = self.begin("run", self.model, "-p", "Hello", *ENDLESS)
        first = os.read(process.stdout.fileno(), 10)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        self.assertTrue(first)
        self.assertIn(b"finish: interrupted", err)
        whole = self.good("run", self.model, "-p", "Hello", *ENDLESS, "-n", "20").out
        shorter = min(len(first + rest), len(whole))
        self.assertEqual((first + rest)[:shorter], whole[:shorter])

    def test_json_is_whole(self):
        process = self.begin("run", self.model, "-p", "Hello", *ENDLESS, "--json")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        got = json.loads(out)
        self.assertEqual(got["finish"], "interrupted")
        self.assertTrue(got["text"])

    def test_long_prompt(self):
        path = self.folder / "long.txt"
        path.write_text("x" * 300000)
        process = self.begin("run", self.model, "-f", path, *ENDLESS)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual((process.returncode, out), (130, b""))
        self.assertIn(b"finish: interrupted", err)

    def test_chat(self):
        """The first Ctrl-C ends the reply, one at the prompt leaves."""
        process = self.begin("run", self.model, "-i", *ENDLESS)
        process.stdin.write(b"Hi\n")
        process.stdin.flush()
        self.assertTrue(os.read(process.stdout.fileno(), 10))
        process.send_signal(signal.SIGINT)
        while b"interrupted" not in (line := process.stderr.readline()):
            self.assertTrue(line)
        time.sleep(0.2)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)

    def test_no_file_is_left(self):
        tokens = ",".join(["1"] * 60000)
        process = self.begin("logits", self.model, "--tokens", tokens, "-o",
                        self.folder / "x.npy")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130, err)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["model.gguf"])


class Terminal(CommandTest):
    def watch(self, *args, pause=0):
        """Run with standard error on a terminal; its bytes and the exit code. A pause
        stops the command early on for some seconds."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen([JUNTO, *map(str, args)], stderr=theirs,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   env={**environment(), "TERM": "xterm"})
        os.close(theirs)
        if pause:
            time.sleep(0.1)
            process.send_signal(signal.SIGSTOP)
            time.sleep(pause)
            process.send_signal(signal.SIGCONT)
        seen = b""
        while select.select([ours], [], [], 30)[0]:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # the other end was closed
                break
        os.close(ours)
        return seen.decode(), process.wait(timeout=30)

    def test_picture_and_colour(self):
        args = ("run", MIXTURE, "-p", "Hello", "-n", "9")
        err, code = self.watch(*args)
        self.assertEqual(code, 0)
        self.assertIn("busiest", err)
        self.assertIn("\033[48;2;", err)
        self.assertNotIn("\033", self.watch(*args, "--color", "never")[0])
        self.assertNotIn("busiest", self.watch(*args, "--no-experts")[0])
        self.assertEqual(self.watch(*args, "-q")[0], "")

    def test_progress_after_a_second(self):
        """A long prompt draws a line and clears it; without a terminal it does not."""
        path = self.folder / "long.txt"
        path.write_text("x" * 3000)
        model = with_context(self.folder / "model.gguf", 4096)
        args = ("run", model, "-f", path, "-n", "1", "-b", "8", "-t1", "--cpu", "scalar",
                "--no-experts")
        err, code = self.watch(*args, pause=1.2)
        self.assertEqual(code, 0)
        self.assertRegex(err, r"\r\033\[Kprompt: \d+%")
        self.assertGreater(err.rindex("\r\033[K"), err.rindex("%"))
        self.assertNotIn("%", self.good(*args).err)


class Tokenize(CommandTest):
    def test_forms(self):
        ids = self.good("tokenize", MIXTURE, "-p", "in the").text()
        self.assertRegex(ids, r"^\d+(,\d+)*\n$")
        numbers = [int(word) for word in ids.split(",")]
        lines = self.good("tokenize", MIXTURE, "-p", "in the", "--pieces").text()
        pieces = [line.split("\t") for line in lines.splitlines()]
        self.assertEqual([int(first) for first, _ in pieces], numbers)
        self.assertEqual("".join(piece for _, piece in pieces), "in the")
        got = self.good("tokenize", MIXTURE, "-p", "in the", "--json").json()
        self.assertEqual(got, {"ids": numbers, "pieces": [piece for _, piece in pieces],
                               "text": "in the"})

    def test_round_trip(self):
        everything = bytes(range(256)) + "é漢字🙂 <|im_start|>\r\n\0".encode()
        for text in [b"", b" ", b"Hello, world\n", everything]:
            with self.subTest(text=text):
                ids = self.good("tokenize", MIXTURE, stdin=text).out
                back = self.good("tokenize", MIXTURE, "--decode", "-", stdin=ids).out
                self.assertEqual(back, text)
        path = self.folder / "text"
        path.write_bytes(everything)
        ids = self.good("tokenize", MIXTURE, "-f", path, "--no-special").text()
        back = self.good("tokenize", MIXTURE, "--decode", ids.strip()).out
        self.assertEqual(back, everything)
        got = self.good("tokenize", MIXTURE, "--decode", ids.strip(), "--json").json()
        self.assertEqual(got["text"], everything.decode("utf-8", "replace"))

    def test_bad_ids_on_standard_input(self):
        self.bad(1, "standard input: 'x' is not", "tokenize", MIXTURE, "-d", "-", stdin=b"x")


if __name__ == "__main__":
    unittest.main()
