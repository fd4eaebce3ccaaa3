"""junto chat: commands, saved chats, thoughts, editing on a terminal; junto template."""

import json
import os
import pty
import select
import shutil
import subprocess
import termios
import time
import unittest

from harness import (DENSE, GOLDEN, JUNTO, MIXTURE, ROOT, CommandTest, environment,
                     with_context)

MINI = str(ROOT / "models" / "junto-mini.gguf")
GREEDY = ("--temp", "0", "-n", "6")
THINKER = ("--chat-template", "{% for m in messages %}{{ m.role }}:{{ m.content }};"
           "{% endfor %}{% if enable_thinking is defined and not enable_thinking %}"
           "<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}")


class Talk(CommandTest):
    def setUp(self):
        super().setUp()
        self.model = with_context(self.folder / "model.gguf", 4000)
        self.file = self.folder / "talk.json"

    def talk(self, *lines, args=GREEDY, code=0):
        result = self.good("chat", self.model, *args,
                           stdin="".join(line + "\n" for line in lines).encode())
        self.assertEqual(result.code, code)
        return result

    def saved(self, *lines, **more):
        """The roles and contents after these lines."""
        self.talk(*lines, f"/save {self.file}", **more)
        return [(m["role"], m["content"])
                for m in json.loads(self.file.read_text())["messages"]]

    def test_is_what_run_does(self):
        turns = b"Hi\nAnd?\n"
        self.assertEqual(self.good("chat", self.model, *GREEDY, stdin=turns).out,
                         self.good("run", self.model, "-cnv", *GREEDY, stdin=turns).out)

    def test_turns_are_remembered(self):
        got = self.saved("Hi", "And?")
        self.assertEqual([role for role, _ in got], ["user", "assistant"] * 2)
        self.assertEqual(got[2], ("user", "And?"))

    def test_turns_of_several_lines(self):
        self.assertEqual(self.saved("a\\", "b")[0], ("user", "a\nb"))
        self.assertEqual(self.saved('"""a', "", ' b\\', 'c"""')[0],
                         ("user", "a\n\n b\\\nc"))
        self.assertEqual(self.saved('"""one line"""')[0], ("user", "one line"))
        self.assertEqual(self.saved("//etc")[0], ("user", "/etc"))

    def test_system(self):
        self.assertEqual(self.saved("/system Be.", "/clear")[0], ("system", "Be."))
        self.assertEqual(self.saved("/clear", "/system", args=(*GREEDY, "-sys", "Be.")), [])
        with_system = self.talk("/system Be.", "Hi").out
        self.assertEqual(with_system, self.talk("Hi", args=(*GREEDY, "-sys", "Be.")).out)
        self.assertNotEqual(with_system, self.talk("Hi").out)

    def test_undo_edit_regenerate(self):
        self.assertEqual(self.saved("Hi", "/undo"), [])
        first = self.talk("Hi").out
        self.assertEqual(self.talk("Hi", "And?", "/undo", "/undo", "Hi").out[-len(first):],
                         first)
        got = self.saved("Ho", "/edit Hi")
        self.assertEqual((len(got), got[0]), (2, ("user", "Hi")))
        self.assertEqual(self.saved("Ho", "/edit", "Hi")[0], ("user", "Hi"))
        self.assertEqual(self.talk("Hi", "/regen").out, first + first)  # greedy
        drawn = self.talk("Hi", "/regen", args=("-n", "20", "--seed", "1")).out
        self.assertNotEqual(drawn[:len(drawn) // 2], drawn[len(drawn) // 2:])

    def test_same_seed_same_chat(self):
        args = ("-n", "20", "--seed", "5")
        self.assertEqual(self.talk("Hi", "And?", args=args).out,
                         self.talk("Hi", "And?", args=args).out)

    def test_settings(self):
        args = ("-n", "20", "--seed", "5")
        warm = self.talk("Hi", args=args).out
        cold = self.talk("/set temperature=0", "Hi", args=args).out
        self.assertNotEqual(warm, cold)
        self.assertEqual(cold, self.talk("Hi", args=("-n", "20", "--temp", "0")).out)
        self.assertEqual(warm, self.talk("/set seed = 5", "Hi", args=("-n", "20")).out)
        self.assertIn('"top-k": 40', self.talk("/set").err)

    def test_saved_chats(self):
        self.talk("/system Be.", "Hi", "/set top_k=7", "/think off", "/budget 9",
                  f"/save {self.file}")
        got = json.loads(self.file.read_text())
        self.assertEqual((got["settings"]["top-k"], got["think"], got["thinking_budget"]),
                         (7, "off", 9))
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)
        went_on = self.talk(f"/load {self.file}", "And?", "/save").out
        again = json.loads(self.file.read_text())
        self.assertEqual(again["messages"][:3], got["messages"])
        self.assertEqual(again["settings"], got["settings"])
        self.assertEqual(len(again["messages"]), 5)
        self.file.write_text(json.dumps(got))
        self.assertEqual(self.talk("And?", args=(*GREEDY, "--load", self.file)).out, went_on)
        self.file.write_text('[{"role": "user", "content": "Hi"}]')
        self.assertEqual(self.talk(f"/load {self.file}", "/regen").out, self.talk("Hi").out)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()),
                         ["model.gguf", "talk.json"])

    def test_mistakes_are_told_and_survived(self):
        self.file.write_text('{"settings": {"top-k": -1}, "messages": []}')
        (self.folder / "bad.json").write_text("[{}]")
        (self.folder / "torn.json").write_text("[")
        for line, culprit in [
                ("/regen", "no turn"), ("/undo", "no turn"), ("/edit", "no turn"),
                ("/nonsense", "/nonsense is no command"), ("/save", "name of a file"),
                ("/save /no/such/folder/x", "/no/such/folder/x"),
                ("/load /no/such/file", "/no/such/file"), (f"/load {self.file}", "top-k"),
                (f"/load {self.folder}/bad.json", "message 1 has no role"),
                (f"/load {self.folder}/torn.json", "torn.json: line 1"),
                ("/set top_k=-1", "out of range"), ("/set heat=1", "'heat'"),
                ("/set x", "NAME=VALUE"), ("/think much", "'much'"), ("/budget x", "'x'"),
                ("/show me", "'me'"), ("/tools /no/such/file", "/no/such/file")]:
            with self.subTest(line):
                result = self.talk(line, "Hi")
                self.assertIn(culprit, result.err.splitlines()[0])
                self.assertEqual(result.out, self.talk("Hi").out)

    def test_turn_that_the_template_refuses(self):
        args = (*GREEDY, "--chat-template", "{% if messages[-1].content == 'No' %}"
                "{{ raise_exception('not this') }}{% endif %}{{ messages[-1].content }}")
        result = self.talk("No", "Hi", args=args)
        self.assertIn("not this", result.err)
        self.assertEqual(result.out, self.talk("Hi", args=args).out)

    def test_saved_chat_that_is_missing(self):
        self.bad(1, "/no/such", "chat", self.model, "--load", "/no/such")

    def test_stats_and_help(self):
        err = self.talk("Hi", "/stats").err
        self.assertRegex(err, r"2 messages, context \d+ of 4000 tokens; generated 6 tokens")
        err = self.talk("/help").err
        for command in ["/edit", "/save", "/budget", "/exit"]:
            self.assertIn(command, err)

    def test_default_model_is_plain(self):
        got = self.good("chat", MINI, *GREEDY, stdin=b"static int\n").out
        self.assertEqual(got, self.good("run", MINI, "-p", "static int", *GREEDY).out + b"\n")


class Thoughts(CommandTest):
    args = (MIXTURE, *THINKER, "--seed", "1", "--ignore-eos")

    def one(self, *more):
        return self.good("run", *self.args, "-p", "Hi", "--json", *more).json()

    def test_budget(self):
        for budget in [1, 2, 7]:
            got = self.one("-n", "12", "--thinking-budget", budget)
            self.assertEqual(got["thought_tokens"], budget)
            self.assertEqual(got["tokens"], 12)
            self.assertIn("I have to give the solution", got["thought"])
            self.assertNotIn("</think>", got["thought"] + got["text"])
            self.assertTrue(got["text"])

    def test_no_budget_and_none(self):
        got = self.one("-n", "12")
        self.assertEqual((got["text"], got["thought_tokens"]), ("", 12))
        off = self.one("-n", "12", "--think", "off")
        self.assertNotIn("thought", off)
        self.assertTrue(off["text"])
        none = self.one("-n", "12", "--thinking-budget", "0")
        self.assertEqual(none["text"], off["text"])  # the template's own way

    def test_template_without_a_switch(self):
        """The thought that it opens is closed at once."""
        got = self.good("run", MIXTURE, "--chat-template", "{{ messages[0].content }}<think>",
                        "--think", "off", "-n", "5", "-p", "Hi", "--json").json()
        self.assertNotIn("thought", got)
        self.assertEqual(got["tokens"], 5)

    def test_shown_or_hidden(self):
        args = ("run", *self.args, "-p", "Hi", "-n", "12", "--thinking-budget", "3")
        hidden = self.good(*args)
        self.assertNotIn("I have to give", hidden.err)
        self.assertIn("3 of them thoughts, ended by the budget", hidden.err)
        shown = self.good(*args, "--show-thinking", "--color", "always")
        self.assertRegex(shown.err, r"(?s)\033\[2m.*directly now\.\n\033\[0m\n")
        self.assertEqual(shown.out, hidden.out)

    def test_chat(self):
        path = self.folder / "talk.json"
        model = with_context(self.folder / "model.gguf", 4000)
        result = self.good("chat", model, *self.args[1:], "-n", "12", stdin=(
            f"/budget 3\nHi\n/show on\n/regen\n/think off\nSo?\n/save {path}\n").encode())
        self.assertEqual(result.err.count("I have to give"), 1)
        first, second = [m for m in json.loads(path.read_text())["messages"]
                         if m["role"] == "assistant"]
        self.assertIn("I have to give the solution", first["reasoning_content"])
        self.assertNotIn("reasoning_content", second)


class Template(CommandTest):
    def test_messages(self):
        user = "<|im_start|>user\nHi<|im_end|>\n"
        ask = "<|im_start|>assistant\n"
        args = ("template", MIXTURE, "-p", "Hi")
        self.assertEqual(self.good(*args).text(), user + ask)
        self.assertEqual(self.good(*args, "--no-generation-prompt").text(), user)
        self.assertEqual(self.good(*args, "-sys", "Be.").text(),
                         "<|im_start|>system\nBe.<|im_end|>\n" + user + ask)
        self.assertEqual(self.good(*args, "--chat-template", "plain").text(), "Hi")
        path = self.folder / "chat.json"
        for text in ['[{"role":"user","content":"Hi"}]',
                     '{"messages":[{"role":"user","content":"Hi"}]}']:
            path.write_text(text)
            self.assertEqual(self.good("template", MIXTURE, "-m", path).text(), user + ask)
        self.assertEqual(self.good("template", MIXTURE, "-m", "-", stdin=b"[]").text(), ask)

    def test_tokens(self):
        text = self.good("template", MIXTURE, "-p", "Hi").text()
        self.assertEqual(self.good("template", MIXTURE, "-p", "Hi", "--tokens").out,
                         self.good("tokenize", MIXTURE, "-p", text).out)

    def test_template_file_and_variables(self):
        path = self.folder / "t.jinja"
        path.write_text("{{ bos_token }}{{ n + 1 }}{{ word }}{{ tools[0].name }}"
                        "{{ enable_thinking }}")
        tools = self.folder / "tools.json"
        tools.write_text('[{"name": "look"}]')
        got = self.good("template", path, "--set", "n=2", "--set", "word=x=y", "--set",
                        "bos_token=<s>", "--tools", tools, "--think", "on")
        self.assertEqual(got.text(), "<s>3x=ylookTrue")
        self.assertEqual(self.good("template", path, "--source").text(), path.read_text())
        self.assertIn("im_start", self.good("template", MIXTURE, "--source").text())

    def test_mistakes(self):
        path = self.folder / "t.jinja"
        path.write_text("a\n{% if %}")
        self.bad(1, "line 2", "template", path)
        path.write_text("{{ raise_exception('no tools') }}")
        self.bad(1, "no tools", "template", path)
        self.bad(2, "'x' is not NAME=VALUE", "template", MIXTURE, "--set", "x")
        self.bad(1, "/no/such", "template", MIXTURE, "--tools", "/no/such")
        self.bad(1, "/no/such", "template", "/no/such")
        self.bad(1, "no list of messages", "template", MIXTURE, "-m", "-", stdin=b"{}")
        path.write_text("{}")
        self.bad(1, "not a JSON list", "template", MIXTURE, "--tools", path)


class Sampling(CommandTest):
    def test_what_the_makers_chose(self):
        """generation_config.json is the default; flags win."""
        folder = self.folder / "model"
        shutil.copytree(GOLDEN / "hf" / "mistral", folder)
        (folder / "generation_config.json").write_text('{"temperature": 0.0, "top_k": 3}')
        args = ("run", folder, "-p", "Hi", "-n", "9", "--ignore-eos", "--seed")
        one = self.good(*args, "1")
        self.assertIn("temperature 0, top-k 3, top-p 0.95", one.err)
        self.assertEqual(one.out, self.good(*args, "2").out)
        warm = self.good(*args, "1", "--temp", "5")
        self.assertIn("temperature 5, top-k 3", warm.err)
        self.assertNotEqual(warm.out, one.out)
        self.assertNotIn("sampling as", self.good("run", DENSE, *args[2:], "1").err)


class Editing(CommandTest):
    """Keys on a pseudo-terminal."""

    def setUp(self):
        super().setUp()
        if not os.environ.get("JUNTO_LIBEDIT"):
            self.skipTest("built without libedit")
        self.model = with_context(self.folder / "model.gguf", 4000)

    def type(self, *keys):
        """Send each piece when a prompt has come; the exit code and what was seen."""
        ours, theirs = pty.openpty()
        env = {**environment(), "TERM": "xterm", "NO_COLOR": "1",
               "XDG_STATE_HOME": str(self.folder / "state")}
        process = subprocess.Popen(
            [JUNTO, "chat", self.model, *GREEDY], stdin=theirs, stdout=theirs,
            stderr=theirs, env=env, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0))  # TIOCSCTTY
        os.close(theirs)
        seen = b""
        for key in keys:
            seen += self.read_until(ours, b"> ")
            while termios.tcgetattr(ours)[3] & termios.ICANON:
                time.sleep(0.01)  # the editor takes over after the prompt
            os.write(ours, key)
        end = time.monotonic() + 20
        while time.monotonic() < end and select.select([ours], [], [], 10)[0]:
            try:
                data = os.read(ours, 4096)
            except OSError:
                break
            seen += data
        os.close(ours)
        return process.wait(timeout=20), seen

    def read_until(self, fd, mark):
        seen = b""
        while mark not in seen:
            self.assertTrue(select.select([fd], [], [], 20)[0], seen)
            seen += os.read(fd, 4096)
        return seen

    def turns(self, *keys):
        path = self.folder / "talk.json"
        code, seen = self.type(*keys, f"/save {path}\r".encode(), b"/exit\r")
        self.assertEqual(code, 0, seen)
        return [m["content"] for m in json.loads(path.read_text())["messages"]
                if m["role"] == "user"]

    def test_keys(self):
        self.assertEqual(self.turns(b"Hx\x7fi\r"), ["Hi"])
        self.assertEqual(self.turns(b"o\x01H\r"), ["Ho"])  # Ctrl-A: to the beginning
        self.assertEqual(self.turns("née\x7f\x7f漢\r".encode()), ["n漢"])

    def test_history_outlives_the_chat(self):
        self.assertEqual(self.turns(b"Hi\r", b"\x1b[A\r"), ["Hi", "Hi"])
        # Before: Hi, /save, /exit.
        self.assertEqual(self.turns(b"\x1b[A\x1b[A\x1b[A\r"), ["Hi"])
        self.assertEqual((self.folder / "state/junto/chat_history").stat().st_mode & 0o77, 0)

    def test_edit_the_last_turn(self):
        self.assertEqual(self.turns(b"Hi\r", b"/edit\r", b"!\r"), ["Hi!"])

    def test_leaving(self):
        self.assertEqual(self.type(b"\x04")[0], 0)
        self.assertEqual(self.type(b"half a li\x03")[0], 130)


if __name__ == "__main__":
    unittest.main()
