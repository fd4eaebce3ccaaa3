"""Help, manual and completion: they exist, agree with each other and are valid."""

import re
import shutil
import subprocess
import unittest

from harness import ROOT, VERBS, CommandTest, junto

FLAG = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*|--\[no-\][a-z-]+)")


def documented_flags(verb):
    """The flags of a verb by docs/commands.md, those of every command included."""
    text = (ROOT / "docs" / "commands.md").read_text()
    parts = [text.split("\n## ")[0], text.split(f"\n## junto {verb}\n")[1].split("\n## ")[0]]
    cells = [line.split("|")[1] for part in parts for line in part.splitlines()
             if line.startswith("| `-")]
    return {word for cell in cells for word in re.findall(r"`(-[^`]+)`", cell)}


class Help(CommandTest):
    def test_overview_lists_every_verb(self):
        text = self.good("--help").text()
        for verb in VERBS:
            self.assertRegex(text, rf"\n  {verb} +\w")
        self.assertEqual(self.good("help").text(), text)
        self.assertEqual(self.good("-h").text(), text)

    def test_no_arguments(self):
        result = junto()
        self.assertEqual((result.code, result.out), (2, b""))
        self.assertIn("Usage: junto COMMAND", result.err)

    def test_every_verb_documents_its_flags(self):
        for verb in VERBS:
            with self.subTest(verb):
                text = self.good(verb, "--help").text()
                self.assertEqual(self.good("help", verb).text(), text)
                self.assertEqual(self.good(verb, "-h").text(), text)
                self.assertIn(f"\n  junto {verb}", text.split("Examples:")[1])
                flags = documented_flags(verb)
                self.assertIn("--help", flags)
                self.assertEqual(flags - set(FLAG.findall(text)), set())
                self.assertLessEqual(max(map(len, text.splitlines())), 88)

    def test_examples_parse(self):
        """Every flag in an example is one of the verb's."""
        for verb in VERBS:
            examples = self.good("help", verb).text().split("Examples:")[1]
            flags = documented_flags(verb) | {"-"}
            for line in re.findall(rf"^  junto {verb} (.*)$", examples, re.M):
                line = re.split(r"[|>]", re.sub(r"'[^']*'", "''", line))[0]
                for word in line.split():
                    if word.startswith("-"):
                        self.assertIn(word, flags, line)

    def test_version(self):
        self.assertRegex(self.good("--version").text(), r"^junto \d+\.\d+\.\d+\n$")

    def test_unknown(self):
        self.bad(2, "unknown command 'rnu' (did you mean 'run'?)", "rnu")
        self.bad(2, "unknown command 'qqqqqq' (see 'junto help')", "qqqqqq")
        self.bad(2, "unknown command 'nix'", "help", "nix")
        self.bad(2, "(did you mean '--temp'?)", "run", "m", "--tmep", "1")


class Manual(CommandTest):
    def test_commands_page_is_fresh(self):
        """`junto man --markdown > docs/commands.md` brings it up to date."""
        page = (ROOT / "docs" / "commands.md").read_text()
        self.assertEqual(self.good("man", "--markdown").text(), page)

    @unittest.skipUnless(shutil.which("groff"), "groff is not here")
    def test_man_page_renders(self):
        roff = self.good("man").out
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww"], input=roff,
                              capture_output=True)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        text = re.sub(r"\x1b\[[\d;]*m|.\x08", "", done.stdout.decode())
        for part in ["NAME", "SYNOPSIS", "EXIT STATUS", "junto run", "--repeat-penalty",
                     "--[no-]experts", "junto upcycle"]:
            self.assertIn(part, text.replace("‐", "-").replace("−", "-"))


class Completion(CommandTest):
    def test_bash(self):
        script = self.good("completion", "bash").text()
        ask = r"""
            complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _junto 2>/dev/null
                printf '%s ' "${COMPREPLY[@]}"; echo; }
            complete_line junto up
            complete_line junto run --top
            complete_line junto upcycle a.gguf b.gguf --router ''
            complete_line junto run --no-e
            complete_line junto completion z
            complete_line junto help per
            complete_line junto run -p ''
        """
        done = subprocess.run(["bash", "-n"], input=script.encode(), capture_output=True)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        done = subprocess.run(["bash"], input=(script + ask).encode(), capture_output=True)
        answers = [line.split() for line in done.stdout.decode().splitlines()]
        self.assertEqual(answers, [["upcycle"], ["--top-k", "--top-p"],
                                   ["random", "zero"], ["--no-experts"], ["zsh"],
                                   ["perplexity"], []])

    def test_zsh_and_fish(self):
        for shell in ["zsh", "fish"]:
            script = self.good("completion", shell).text()
            self.assertIn("--repeat-penalty" if shell == "zsh" else "-l repeat-penalty",
                          script)
            if shutil.which(shell):
                done = subprocess.run([shell, "-n"], input=script.encode(),
                                      capture_output=True)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertEqual(script.replace("'\\''", "").count("'") % 2, 0)

    def test_unknown_shell(self):
        self.bad(2, "SHELL: 'tcsh' is not one of bash|zsh|fish", "completion", "tcsh")
        self.bad(2, "SHELL is missing", "completion")


if __name__ == "__main__":
    unittest.main()
