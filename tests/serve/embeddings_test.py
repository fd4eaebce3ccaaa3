"""/v1/embeddings."""

import base64
import math
import struct
import unittest

from server import ServerTest, at_once

PATH = "/v1/embeddings"


class Embeddings(ServerTest):
    flags = ("-c", 256, "-b", 16)

    def vectors(self, texts, **fields):
        reply = self.server.post(PATH, {"input": texts, **fields})
        self.assertEqual(reply.status, 200, reply.data)
        data = reply.json()["data"]
        self.assertEqual([d["index"] for d in data], list(range(len(data))))
        return [d["embedding"] for d in data]

    def alike(self, a, b):
        return sum(x * y for x, y in zip(a, b))

    def test_vectors_have_length_1_and_their_meaning(self):
        one, same, near, far = self.vectors(["The king said unto them", "The king said unto them",
                                             "The king spake unto them", "x = y + 5;"])
        self.assertAlmostEqual(math.hypot(*one), 1, places=5)
        self.assertEqual(one, same)
        self.assertGreater(self.alike(one, near), self.alike(one, far))

    def test_forms(self):
        (plain,) = self.vectors("The king")
        (packed,) = self.vectors("The king", encoding_format="base64")
        unpacked = struct.unpack(f"<{len(plain)}f", base64.b64decode(packed))
        self.assertTrue(all(abs(a - b) < 1e-6 for a, b in zip(plain, unpacked)))
        tokens = self.server.post("/tokenize", {"content": "The king",
                                                "add_special": True}).json()["tokens"]
        self.assertEqual(self.vectors([tokens, tokens]), [plain, plain])
        self.assertEqual(self.vectors(tokens), [plain])
        self.assertNotEqual(self.vectors("The king", pooling="last"), [plain])

    def test_chunks_and_others_change_nothing(self):
        text = "The king said unto the queen, I will go. " * 6  # more than a chunk
        alone = self.vectors([text], pooling="mean") + self.vectors([text], pooling="last")
        words = self.server.text("The king said", max_tokens=40)
        results = at_once([lambda: self.vectors([text], pooling="mean")[0],
                           lambda: self.server.text("The king said", max_tokens=40),
                           lambda: self.vectors([text], pooling="last")[0]] * 2)
        self.assertEqual(results, [alone[0], words, alone[1]] * 2)
        whole = self.server_with("-c", 256, "-b", 256)
        other = whole.post(PATH, {"input": text}).json()["data"][0]["embedding"]
        self.assertGreater(self.alike(alone[0], other), 0.99999)

    def test_wrong_wishes(self):
        for param, fields in (("input", {}), ("input", {"input": ""}), ("input", {"input": []}),
                              ("input", {"input": [5.5]}), ("input", {"input": ["a", None]}),
                              ("input", {"input": [[1 << 40]]}), ("input", {"input": "a " * 999}),
                              ("dimensions", {"input": "a", "dimensions": 3}),
                              ("encoding_format", {"input": "a", "encoding_format": "hex"}),
                              ("pooling", {"input": "a", "pooling": "max"})):
            self.refused(400, param, PATH, fields)


if __name__ == "__main__":
    unittest.main()
