"""What the tests of the command share: run it, and look at what came out.

Python's standard library only. The environment gives JUNTO (the command) and
JUNTO_TEST_DATA (the folder tests/).
"""

import json
import os
import shutil
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

JUNTO = os.environ["JUNTO"]
GOLDEN = Path(os.environ["JUNTO_TEST_DATA"]) / "golden"
ROOT = Path(__file__).resolve().parents[2]
MIXTURE = str(GOLDEN / "mixtral.gguf")
DENSE = str(GOLDEN / "llama.gguf")
TEXT = str(GOLDEN / "text.txt")
VERBS = ["run", "chat", "serve", "pull", "list", "rm", "ps", "info", "families", "policies", "tokenize", "template", "logits", "trace", "report", "compare", "audit", "bench", "perplexity", "eval", "modes", "simulate", "plan", "recipe",
         "train", "train-tokenizer", "tune", "adapter", "merge-adapter", "upcycle", "convert",
         "quantize", "imatrix", "diff",
         "completion", "man", "help"]


class Result:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout
        self.err = (done.stderr or b"").decode("utf-8", "replace")

    def text(self):
        return self.out.decode()

    def json(self):
        assert self.out.count(b"\n") == 1 and self.out.endswith(b"\n"), self.out
        return json.loads(self.out)


def environment():
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    return {**env, "TERM": "dumb"}


def junto(*args, stdin=b"", **more):
    """Run the command to its end; stdout and stderr are captured unless given."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60,
               "env": environment(), **more}
    return Result(subprocess.run([JUNTO, *map(str, args)], input=stdin, **options))


def start(*args, **more):
    """Start the command with pipes on all sides."""
    pipe = subprocess.PIPE
    return subprocess.Popen([JUNTO, *map(str, args)], stdin=pipe, stdout=pipe,
                            stderr=pipe, env=environment(), **more)


def read_npy(path):
    """Shape and flat values of a float32 .npy file."""
    data = Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    (head,) = struct.unpack("<H", data[8:10])
    header = eval(data[10:10 + head])  # a dict literal, written by the test's command
    assert header["descr"] == "<f4" and not header["fortran_order"], header
    count = (len(data) - 10 - head) // 4
    return header["shape"], struct.unpack(f"<{count}f", data[10 + head:])


def with_context(path, tokens):
    """A copy of the small mixture whose file states a longer context."""
    data = Path(MIXTURE).read_bytes()
    key = b"llama.context_length" + struct.pack("<I", 4)  # a value of type uint32
    at = data.index(key) + len(key)
    Path(path).write_bytes(data[:at] + struct.pack("<I", tokens) + data[at + 4:])
    return str(path)


class CommandTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="junto-cli-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def good(self, *args, **more):
        result = junto(*args, **more)
        self.assertEqual(result.code, 0, result.err)
        return result

    def bad(self, code, culprit, *args, **more):
        """The command fails: exit code, one line that names the culprit, no results."""
        result = junto(*args, **more)
        self.assertEqual(result.code, code, result.err)
        self.assertIn(culprit, result.err)
        self.assertEqual(result.err.count("\n"), 1, result.err)
        self.assertTrue(result.err.startswith("junto"), result.err)
        self.assertFalse(result.out)
        return result
