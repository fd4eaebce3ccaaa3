"""Adapters of requests: each reply is what `run --adapter` says, whoever is beside it."""

import json
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from lora import lora, mixture
from server import JUNTO, MODEL, Server, ServerTest, at_once

PROMPT = "The king said to his people that"
PATH = "/v1/junto/adapters"


def run(*adapters, prompt=PROMPT, n=24):
    flags = [word for a in adapters for word in ("--adapter", str(a))]
    done = subprocess.run([JUNTO, "run", MODEL, "-p", prompt, "-n", str(n), "--temp", "0",
                           "-t", "2", "-c", "512", "--quiet", *flags],
                          check=True, capture_output=True)
    return done.stdout.decode().removesuffix("\n")


class Adapters(ServerTest):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.dir.cleanup)
        cls.here = Path(cls.dir.name)
        cls.file = {"poet": lora(cls.here / "poet.safetensors", 1),
                    "law": lora(cls.here / "law.safetensors", 2, rank=7),
                    "dora": lora(cls.here / "dora.safetensors", 3, kind="dora"),
                    "mix": mixture(cls.here / "mix.safetensors", 4)}
        cls.folder = cls.here / "more"
        cls.folder.mkdir()
        cls.flags = ("-c", 512, "-np", 6, "--adapter-dir", cls.folder,
                     *(w for n, f in cls.file.items() for w in ("--adapter", f"{n}={f}")),
                     "--adapter", f"half={cls.file['poet']}:0.5")
        super().setUpClass()

    def says(self, **fields):
        return self.server.text(PROMPT, **fields)

    def test_the_answer_is_that_of_run(self):
        texts = {run()}
        self.assertEqual(self.says(), run())
        for name, file in self.file.items():
            text = self.says(adapter=name)
            self.assertEqual(text, run(file), name)
            texts.add(text)
        self.assertEqual(len(texts), 5)  # each says something else

    def test_scales(self):
        poet, law, dora = (self.file[n] for n in ("poet", "law", "dora"))
        self.assertEqual(self.says(adapter="half"), run(f"{poet}:0.5"))
        self.assertEqual(self.says(adapters={"poet": 0.5}), run(f"{poet}:0.5"))
        self.assertEqual(self.says(adapters={"half": 0.5}), run(f"{poet}:0.25"))
        self.assertEqual(self.says(adapters={"poet": 0}), run())
        self.assertEqual(self.says(adapters={"dora": 0.5}), run(f"{dora}:0.5"))
        self.assertEqual(self.says(adapters={"poet": 0.6, "law": -0.4}),
                         run(f"{poet}:0.6", f"{law}:-0.4"))
        self.assertEqual(self.says(adapters={"mix": 1, "law": 0.5}),
                         run(self.file["mix"], f"{law}:0.5"))

    def test_ways_to_ask(self):
        poet = self.says(adapter="poet")
        self.assertEqual(self.says(junto={"adapter": "poet"}), poet)
        self.assertEqual(self.says(junto={"adapters": {"poet": 1}}), poet)
        self.assertEqual(self.says(model="junto-mini:poet"), poet)
        self.assertEqual(self.says(model="any:b:poet"), poet)
        self.assertEqual(self.says(model="qwen:7b"), self.says())
        self.assertEqual(self.says(adapter=None), self.says())
        chat = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0,
                "max_tokens": 12}
        with_it = self.server.post("/v1/chat/completions", {**chat, "adapter": "poet"}).json()
        without = self.server.post("/v1/chat/completions", chat).json()
        answer = self.server.post("/v1/responses", {
            "input": "Hello", "temperature": 0, "max_output_tokens": 12,
            "adapter": "poet"}).json()
        said = with_it["choices"][0]["message"]["content"]
        self.assertNotEqual(said, without["choices"][0]["message"]["content"])
        self.assertEqual(answer["output"][-1]["content"][0]["text"], said)

    def test_models_lists_them(self):
        models = {m["id"]: m for m in self.server.get("/v1/models").json()["data"]}
        self.assertEqual(models["junto-mini:law"]["parent"], "junto-mini")
        self.assertEqual(models["junto-mini:law"]["junto"]["kind"], "lora")
        self.assertEqual(models["junto-mini:mix"]["junto"]["kind"], "meteora")

    def test_vectors(self):
        def vector(**fields):
            reply = self.server.post("/v1/embeddings", {"input": PROMPT, **fields})
            return reply.json()["data"][0]["embedding"]
        self.assertEqual(vector(adapters={"poet": 0}), vector())
        self.assertNotEqual(vector(adapter="poet"), vector())

    def test_many_at_once(self):
        """What a reply says does not depend on the adapters of others; and they share
        passes."""
        wishes = [{"adapter": "poet"}, {"adapter": "law"}, {}, {"adapter": "mix"},
                  {"adapters": {"poet": 0.3, "law": 0.7}}, {"adapter": "dora"}]
        calls = [lambda w=w, i=i: self.server.text(
            PROMPT + " so" * i, temperature=1, seed=i, max_tokens=60, ignore_eos=True, **w)
            for i, w in enumerate(wishes)]
        alone = [call() for call in calls]
        before = self.server.figure("passes_total")
        self.assertEqual(at_once(calls * 2), alone * 2)
        self.assertLess(self.server.figure("passes_total") - before, 6 * 60)

    def test_beginnings_are_kept_for_the_same_adapters_only(self):
        server = self.server_with(*self.flags[:2], "-np", 1, *self.flags[4:])
        prompt = "My dear friend, " * 12

        def kept(**fields):
            reply = server.post("/v1/completions", {"prompt": prompt, "max_tokens": 1,
                                                    "temperature": 0, **fields}).json()
            details = reply["usage"]["prompt_tokens_details"]
            return details["cached_tokens"], reply["choices"][0]["text"]

        wishes = [{}, {"adapter": "poet"}, {"adapters": {"poet": 0.5}}, {"adapter": "mix"},
                  {"adapters": {"poet": 1, "law": 1}}]
        first = [kept(**wish) for wish in wishes]
        self.assertEqual([n for n, _ in first], [0] * len(wishes))
        for wish, (_, text) in list(zip(wishes, first))[::-1]:
            again = kept(**wish)
            self.assertGreater(again[0], 0)
            self.assertEqual(again[1], text)
        self.assertGreater(kept(adapters={"poet": 1})[0], 0)

    def test_policies_beside_adapters(self):
        policy = {"junto": {"policy": ["topk:k=1"]}}
        both = self.says(adapter="poet", **policy)
        self.assertNotEqual(both, self.says(adapter="poet"))
        self.assertNotEqual(both, self.says(**policy))
        self.assertEqual(both, self.says(adapter="poet", **policy))

    def test_errors(self):
        def refused(status, param, code, **fields):
            error = self.refused(status, param, "/v1/completions",
                                 {"prompt": "a", "max_tokens": 1, **fields})
            self.assertEqual(error["code"], code)
            return error["message"]
        self.assertIn("nobody", refused(404, "adapter", "adapter_not_found",
                                        adapter="nobody"))
        refused(404, "adapter", "adapter_not_found", adapters={"poet": 1, "x": 1})
        refused(400, "adapter", "invalid_type", adapter=["poet"])
        refused(400, "adapters", "invalid_type", adapters=["poet"])
        refused(400, "adapters", "invalid_value", adapters={"poet": "1"})
        refused(400, "adapters", "invalid_value", adapters={"poet": 1e9})
        refused(400, "adapters", "object_above_max_properties",
                adapters={str(i): 1 for i in range(17)})
        self.assertEqual(self.server.request("PUT", PATH).status, 405)

    def test_while_it_runs(self):
        shutil.copy(self.file["law"], self.folder / "new.safetensors")
        self.refused(404, "adapter", "/v1/completions", {"prompt": "a", "adapter": "new"})
        for name in ("nobody", "", "../poet", "..", "more/new", ".", "poet.safetensors"):
            self.refused(404, "name", PATH, {"name": name})
        self.refused(400, "name", PATH, {"name": 1})
        self.assertEqual(self.server.post(PATH, {"name": "new"}).status, 200)
        law = self.says(adapter="law")
        self.assertEqual(self.says(adapter="new"), law)
        reply = self.server.request("DELETE", f"{PATH}/new")
        self.assertEqual(reply.status, 200)
        self.assertNotIn("new", [a["name"] for a in reply.json()["data"]])
        self.refused(404, "adapter", "/v1/completions", {"prompt": "a", "adapter": "new"})
        self.assertEqual(self.server.request("DELETE", f"{PATH}/new").status, 404)
        shutil.copy(self.file["poet"], self.folder / "new.safetensors")  # a later version
        self.assertEqual(self.server.post(PATH, {"name": "new"}).status, 200)
        self.assertEqual(self.says(adapter="new"), self.says(adapter="poet"))

    def test_those_who_use_it_end_with_it(self):
        shutil.copy(self.file["law"], self.folder / "gone.safetensors")
        self.assertEqual(self.server.post(PATH, {"name": "gone"}).status, 200)
        ask = {"prompt": PROMPT, "max_tokens": 300, "temperature": 0, "ignore_eos": True}
        expected = self.server.post("/v1/completions", {**ask, "adapter": "law"}).json()
        client = self.server.open("/v1/completions", {**ask, "adapter": "gone"})
        while self.server.figure("slots_busy") == 0:
            time.sleep(0.001)
        self.assertEqual(self.server.request("DELETE", f"{PATH}/gone").status, 200)
        data = b""
        while chunk := client.recv(65536):
            data += chunk
            if data.endswith(b"}"):
                break
        client.close()
        said = json.loads(data.split(b"\r\n\r\n", 1)[1])["choices"][0]["text"]
        self.assertEqual(said, expected["choices"][0]["text"])

    def test_a_file_of_another_model(self):
        for name, wrong in (("wide", {"wrong": 8}), ("deep", {"layers": 7})):
            lora(self.folder / f"{name}.safetensors", 5, **wrong)
            error = self.refused(400, "adapter", PATH, {"name": name})
            self.assertEqual(error["code"], "adapter_not_loaded")
            self.assertIn("blk.", error["message"])
        (self.folder / "broken.safetensors").write_bytes(b"no adapter")
        self.refused(400, "adapter", PATH, {"name": "broken"})
        self.assertEqual(self.says(), run())


class Memory(ServerTest):
    def test_hundreds_in_a_small_memory(self):
        """Names stay; files are read again when somebody asks."""
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            files = [lora(here / f"a{i}.safetensors", i, rank=2) for i in range(12)]
            one = files[0].stat().st_size
            server = self.server_with(
                "-c", 256, "-np", 2, "--adapter-memory", 3 * one + one // 2,
                *(w for f in files for w in ("--adapter", f)))
            self.assertEqual(server.figure("adapter_loads_total"), 12)
            texts = [server.text(PROMPT, adapter=f"a{i}") for i in range(12)]
            self.assertEqual(len(set(texts)), 12)
            calls = [lambda i=i: server.text(PROMPT, adapter=f"a{i}") for i in range(12)]
            for turn in range(3):
                for i in range(0, 12, 2):
                    self.assertEqual(at_once(calls[i:i + 2]), texts[i:i + 2])
                self.assertLessEqual(server.figure("adapter_bytes"), 3 * one + one // 2)
            self.assertLessEqual(server.figure("adapters"), 3)
            loads = server.figure("adapter_loads_total")
            for _ in range(4):
                self.assertEqual(calls[11](), texts[11])
            self.assertEqual(server.figure("adapter_loads_total"), loads)
            small = self.server_with("-np", 1, "--adapter-memory", one * 3 // 2,
                                     "--adapter", files[0], "--adapter", files[1])
            small.refused = self.refused
            error = small.post("/v1/completions", {
                "prompt": "a", "adapters": {"a0": 1, "a1": 1}})
            self.assertEqual(error.status, 503, error.data)
            self.assertEqual(error.error()["code"], "adapter_memory")
            self.assertEqual(small.text(PROMPT, adapter="a1"), texts[1])

    def test_bad_ones_are_known_at_the_start(self):
        with tempfile.TemporaryDirectory() as folder:
            bad = lora(Path(folder) / "x.safetensors", 1, wrong=8)
            for flags in (("--adapter", bad), ("--adapter", f"{folder}/none"),
                          ("--adapter-dir", f"{folder}/none"), ("--adapter", f"={bad}")):
                done = subprocess.run([JUNTO, "serve", MODEL, "--port", "0",
                                       *map(str, flags)], capture_output=True, timeout=60)
                self.assertIn(done.returncode, (1, 2), done.stderr)
                self.assertIn(b"junto serve: ", done.stderr)


class Fleet(ServerTest):
    def test_of_several_models(self):
        with tempfile.TemporaryDirectory() as folder:
            poet = lora(Path(folder) / "poet.safetensors", 1)
            server = Server("-c", 256, "--adapter", f"{poet}",
                            models=(f"a={MODEL}", f"b={MODEL}"))
            self.addCleanup(server.stop)
            text = server.text(PROMPT, model="b:poet")
            self.assertEqual(text, server.text(PROMPT, model="a", adapter="poet"))
            self.assertNotEqual(text, server.text(PROMPT, model="b"))
            ids = [m["id"] for m in server.get("/v1/models").json()["data"]]
            self.assertEqual(ids, ["a", "a:poet", "b", "b:poet"])
            self.assertEqual(server.request("DELETE", f"{PATH}/poet?model=b").status, 200)
            self.assertEqual(server.post("/v1/completions", {
                "prompt": "a", "model": "b", "adapter": "poet"}).status, 404)
            self.assertEqual(text, server.text(PROMPT, model="a:poet"))


if __name__ == "__main__":
    unittest.main()
