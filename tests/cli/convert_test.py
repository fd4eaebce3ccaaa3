"""junto convert: what it writes, what it refuses, and what is left when it ends early."""

import json
import os
import shutil
import signal
import struct
import time
import unittest
from pathlib import Path

from harness import CommandTest, DENSE, GOLDEN, MIXTURE, TEXT, junto, start

FOLDER = GOLDEN / "hf" / "mixtral"


def sparse_folder(folder, layers=6):
    """A Llama of zeros that takes no room on disk, and a while to quantise."""
    width, tensors, end = 1024, {}, 0
    shapes = {"model.embed_tokens": [512, width], "model.norm": [width]}
    for i in range(layers):
        layer = f"model.layers.{i}."
        shapes[layer + "input_layernorm"] = [width]
        shapes[layer + "post_attention_layernorm"] = [width]
        for part in ["self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o",
                     "mlp.gate", "mlp.up", "mlp.down"]:
            shapes[f"{layer}{part}_proj"] = [width, width]
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        tensors[name + ".weight"] = {"dtype": "BF16", "shape": shape,
                                     "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(tensors).encode()
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        f.truncate(8 + len(head) + end)
    (folder / "config.json").write_text(json.dumps(dict(
        model_type="llama", num_hidden_layers=layers, hidden_size=width,
        intermediate_size=width, num_attention_heads=8, max_position_embeddings=64,
        vocab_size=512)))


class Convert(CommandTest):
    def left(self):
        return sorted(p.name for p in self.folder.iterdir())

    def test_there_and_back(self):
        report = self.good("convert", FOLDER, self.folder / "m.gguf", "--json").json()
        self.assertEqual(report["tensors"], 23)
        self.assertEqual(report["bytes"] > 100000, True)
        self.assertIs(report["tokenizer"], False)
        self.good("convert", self.folder / "m.gguf", self.folder / "m")
        self.assertEqual(self.left(), ["m", "m.gguf"])
        config = json.loads((self.folder / "m" / "config.json").read_text())
        self.assertEqual(config["model_type"], "mixtral")
        self.assertEqual(config["rms_norm_eps"], 1e-5)
        self.assertEqual(config["dtype"], "bfloat16")

    def test_tokenizer_goes_along(self):
        source = GOLDEN / "hf" / "mistral"
        file, folder = self.folder / "m.gguf", self.folder / "m"
        for a, b in [(source, file), (file, folder), (source, self.folder / "copy")]:
            report = self.good("convert", a, b, "--json").json()
            self.assertIs(report["tokenizer"], True)
        text = "the rain <|im_end|> and\n 12"
        ids = self.good("tokenize", source, "-p", text).text()
        for path in [file, folder, self.folder / "copy"]:
            self.assertEqual(self.good("tokenize", path, "-p", text).text(), ids)
            self.good("run", path, "-p", "the", "-n", "4", "-q")

    def test_type(self):
        path = self.folder / "m.gguf"
        self.good("convert", FOLDER, path, "--type", "q8_0")
        info = self.good("info", path, "--json").json()
        self.assertIn("Q8_0", json.dumps(info))
        self.good("convert", FOLDER, self.folder / "wide", "--type", "f32")
        config = json.loads((self.folder / "wide" / "config.json").read_text())
        self.assertEqual(config["dtype"], "float32")

    def test_verbs_take_a_folder(self):
        self.good("info", FOLDER)
        self.good("logits", FOLDER, "--tokens", "1,2,3", "-o", self.folder / "x.npy")
        self.good("bench", FOLDER, "--json", "-p", "8", "-n", "4", "-r", "1")

    def test_shards(self):
        self.good("convert", FOLDER, self.folder / "m", "--shard-size", "40K")
        self.assertTrue((self.folder / "m" / "model.safetensors.index.json").exists())

    def test_layout(self):
        laid, back = self.folder / "laid.gguf", self.folder / "back.gguf"
        self.good("convert", MIXTURE, laid, "--layout", "experts")
        self.assertIn("in one piece", self.good("info", laid).text())
        self.assertEqual(self.good("info", laid, "--json").json()["layout"], "experts")
        self.good("convert", laid, back)
        self.assertEqual(back.read_bytes(), Path(MIXTURE).read_bytes())
        run = ("-p", "the", "-n", "8", "-q", "--seed", "3")
        text = self.good("run", MIXTURE, *run).out
        for more in ((), ("--ram", "1G"), ("--ram", "1G", "--no-checks")):
            self.assertEqual(self.good("run", laid, *run, *more).out, text)
        self.good("plan", laid, "--ram", "1G")
        self.good("bench", laid, "--ram", "1G", "-p", "8", "-n", "4", "-r", "1")
        self.good("convert", FOLDER, self.folder / "f.gguf", "--layout", "experts",
                  "--type", "q8_0")
        self.good("info", self.folder / "f.gguf")
        self.bad(2, "--layout", "convert", MIXTURE, laid, "--layout", "tiles")
        self.bad(2, "a folder has no layout", "convert", MIXTURE, self.folder / "m",
                 "--layout", "experts")
        self.bad(1, "no experts", "convert", DENSE, laid, "--layout", "experts")
        data = bytearray(laid.read_bytes())
        data[-4096 * 3] ^= 1  # in the last expert: its checksums take the last block
        laid.write_bytes(data)
        before = self.left()
        self.bad(1, "is damaged", "convert", laid, self.folder / "no.gguf")
        self.assertEqual(self.left(), before)

    def test_refusals(self):
        self.bad(2, "type 'q9'", "convert", FOLDER, self.folder / "m.gguf", "--type", "q9")
        self.bad(2, "a folder cannot have type 'q8_0'", "convert", MIXTURE,
                 self.folder / "m", "--type", "q8_0")
        (self.folder / "there").mkdir()
        self.bad(1, "is there already", "convert", FOLDER, self.folder / "there")
        (self.folder / "busy.part").mkdir()
        self.bad(1, "left by a run that was killed?", "convert", FOLDER,
                 self.folder / "busy")
        self.bad(1, "no/such", "convert", "no/such", self.folder / "m.gguf")
        self.bad(1, "config.json", "convert", self.folder / "there",
                 self.folder / "m.gguf")
        self.bad(1, "text.txt", "convert", TEXT, self.folder / "m")
        self.assertEqual(self.left(), ["busy.part", "there"])

    def test_missing_and_mixed_shards(self):
        for name, change, why in [
                ("gone", lambda f: (f / "model-00003-of-00007.safetensors").unlink(),
                 "model-00003-of-00007.safetensors"),
                ("mixed", lambda f: shutil.copy(f / "model-00001-of-00007.safetensors",
                                                f / "model-00002-of-00007.safetensors"),
                 "appears twice"),
                ("short", lambda f: os.truncate(f / "model-00004-of-00007.safetensors",
                                                2000),
                 "is the file complete?")]:
            folder = self.folder / name
            shutil.copytree(FOLDER, folder)
            change(folder)
            with self.subTest(name):
                self.bad(1, why, "info", folder)

    def test_interrupted_and_killed(self):
        source = self.folder / "big"
        sparse_folder(source)
        for target in ["out.gguf", "out"]:
            for kill in [signal.SIGINT, signal.SIGKILL]:
                kind = ["--type", "q4_k"] if target.endswith("gguf") else []
                process = start("convert", source, self.folder / target, *kind)
                while process.poll() is None and not any(".part" in n
                                                         for n in self.left()):
                    time.sleep(0.001)
                process.send_signal(kill)
                process.communicate()
                left = [n for n in self.left() if n != "big"]
                if process.returncode == 0:  # it was faster
                    self.good("info", self.folder / target)
                elif kill == signal.SIGINT:
                    self.assertEqual(left, [])
                else:
                    self.assertNotIn(target, left)
                for name in left:
                    path = self.folder / name
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    unittest.main()
