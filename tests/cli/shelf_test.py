"""Models by name: fetched from a server of this machine, listed, used and removed."""

import hashlib
import http.server
import json
import os
import signal
import threading
import unittest
from pathlib import Path

from harness import MIXTURE, CommandTest, junto, start

DATA = Path(MIXTURE).read_bytes()
SUM = hashlib.sha256(DATA).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """A hub whose files may break off, change or be wrong."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = {"/o/m/resolve/main/m-q8.gguf": DATA}
        self.listing = [{"type": "file", "path": "m-q8.gguf", "size": len(DATA),
                         "lfs": {"oid": SUM}}]
        self.cut = 0        # bytes after which an answer breaks off; 0: never
        self.hold = None    # an event that answers wait for, half way
        self.asked = []     # (path, Range, Authorization)
        self.statuses = []  # that come before any other
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, data, whole, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(whole))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection |= len(data) != whole

    def do_GET(self):
        hub, path = self.server, self.path.split("?")[0]
        asked = self.headers.get("Range")
        hub.asked.append((path, asked, self.headers.get("Authorization")))
        if hub.statuses:
            self.send(hub.statuses.pop(0), b"", 0)
            return
        if path == "/api/models/o/m/tree/main":
            data = json.dumps(hub.listing).encode()
            self.send(200, data, len(data))
            return
        data = hub.files.get(path)
        if data is None:
            self.send(404, b"", 0)
            return
        tag, first, status, more = f'"{hash(data)}"', 0, 200, {}
        if asked and self.headers.get("If-Range", tag) == tag:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(data):
                self.send(416, b"", 0)
                return
            status = 206
            more = {"Content_Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
        rest = data[first:]
        if hub.hold:
            self.send_response(status)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[:len(rest) // 2])
            self.wfile.flush()
            hub.hold.wait(30)
            self.close_connection = True
            return
        self.send(status, rest[:hub.cut] if hub.cut else rest, len(rest), ETag=tag, **more)


class Shelf(CommandTest):
    def setUp(self):
        super().setUp()
        self.hub = Hub()
        self.addCleanup(self.hub.server_close)
        self.addCleanup(self.hub.shutdown)
        self.shelf = self.folder / "data" / "junto" / "models"
        before = {name: os.environ.get(name) for name in (
            "XDG_DATA_HOME", "HF_ENDPOINT", "HF_TOKEN", "JUNTO_MODELS", "no_proxy")}
        os.environ.update(XDG_DATA_HOME=str(self.folder / "data"), HF_ENDPOINT=self.hub.url,
                          no_proxy="127.0.0.1")
        for name in ("HF_TOKEN", "JUNTO_MODELS"):
            os.environ.pop(name, None)

        def restore():
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
        self.addCleanup(restore)

    def files(self):
        return sorted(str(path.relative_to(self.shelf)) for path in self.shelf.rglob("*")
                      if path.is_file())

    def test_pull_use_list_remove(self):
        self.assertEqual(self.good("list").text(), "")
        self.assertEqual(self.good("pull", "hf:o/m").text(), "o/m/m-q8\n")
        self.assertEqual((self.shelf / "o/m/m-q8.gguf").read_bytes(), DATA)
        asked = len(self.hub.asked)
        self.good("pull", "hf:o/m:Q8")  # it is there: only the listing is asked for
        self.assertEqual(len(self.hub.asked), asked + 1)
        (model,) = self.good("list", "--json").json()["models"]
        self.assertEqual((model["name"], model["bytes"]), ("o/m/m-q8", len(DATA)))
        self.assertRegex(self.good("list").text(), r"^o/m/m-q8 +\S+ \S+ +\d{4}-\d\d-\d\d\n$")
        wanted = self.good("info", MIXTURE).text().splitlines()[1:]
        for name in ("o/m/m-q8", "m-q8", "m-q8.gguf", "hf:o/m:m-q8.gguf"):
            self.assertEqual(self.good("info", name).text().splitlines()[1:], wanted)
        text = self.good("run", "m-q8", "-p", "Hello", "-n", "3", "--temp", "0").out
        self.assertEqual(text, self.good("run", MIXTURE, "-p", "Hello", "-n", "3", "--temp",
                                         "0").out)
        self.good("compare", "m-q8", MIXTURE, "-f", self.write("t.txt", "words " * 200), "-c", "32")
        self.bad(1, "nope", "info", "nope")
        self.bad(2, "junto pull hf:o/x", "info", "hf:o/x")
        self.bad(2, "no model 'nope'", "rm", "nope")
        self.good("rm", "m-q8")
        self.assertEqual(self.files(), [])
        self.assertFalse((self.shelf / "o").exists())
        self.assertTrue(self.shelf.exists())

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def test_a_pull_that_was_killed_goes_on(self):
        self.hub.hold = threading.Event()
        process = start("pull", "hf:o/m")
        part = self.shelf / "o/m/m-q8.gguf.part"
        for _ in range(400):
            if part.exists() and part.stat().st_size >= len(DATA) // 2:
                break
            threading.Event().wait(0.05)
        self.bad(1, "is being fetched already", "pull", "hf:o/m")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.hub.hold.set()
        self.hub.hold = None
        self.assertFalse((self.shelf / "o/m/m-q8.gguf").exists())
        self.good("pull", "hf:o/m")
        self.assertEqual(self.hub.asked[-1][1], f"bytes={len(DATA) // 2}-")
        self.assertEqual(self.files(), ["o/m/m-q8.gguf"])
        self.assertEqual((self.shelf / "o/m/m-q8.gguf").read_bytes(), DATA)

    def test_ctrl_c_keeps_the_part(self):
        self.hub.hold = threading.Event()
        process = start("pull", "hf:o/m")
        part = self.shelf / "o/m/m-q8.gguf.part"
        for _ in range(400):
            if part.exists() and part.stat().st_size:
                break
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate()
        self.hub.hold.set()
        self.assertEqual(process.returncode, 130)
        self.assertTrue(part.exists())

    def test_connections_that_break(self):
        self.hub.cut = len(DATA) // 10 + 1
        self.good("pull", "hf:o/m")
        self.assertEqual((self.shelf / "o/m/m-q8.gguf").read_bytes(), DATA)
        ranges = [asked for path, asked, _ in self.hub.asked if asked]
        self.assertEqual(len(ranges), 9)
        self.hub.statuses = [503]
        self.good("pull", self.hub.url + "/o/m/resolve/main/m-q8.gguf?download=true")
        self.assertEqual((self.shelf / "m-q8.gguf").read_bytes(), DATA)

    def test_a_file_that_changes_begins_anew(self):
        url = self.hub.url + "/other.gguf"
        self.hub.files["/other.gguf"] = b"x" + DATA
        self.hub.hold = threading.Event()
        process = start("pull", url)
        part = self.shelf / "other.gguf.part"
        for _ in range(400):
            if part.exists() and part.stat().st_size >= len(DATA) // 2:
                break
            threading.Event().wait(0.05)
        process.kill()
        process.communicate()
        self.hub.hold.set()
        self.hub.hold = None
        self.hub.files["/other.gguf"] = DATA
        self.assertEqual(self.good("pull", url, "--checksum", SUM.upper()).text(), "other\n")
        self.assertEqual((self.shelf / "other.gguf").read_bytes(), DATA)

    def test_what_is_wrong_is_not_kept(self):
        self.hub.files["/o/m/resolve/main/m-q8.gguf"] = DATA[:-1] + b"?"
        self.bad(1, "SHA-256", "pull", "hf:o/m")
        self.assertEqual(self.files(), [])
        self.hub.listing[0]["size"] += 1
        self.bad(1, "bytes, expected", "pull", "hf:o/m")
        self.assertEqual(self.files(), [])
        self.bad(1, "answered 404", "pull", "hf:o/nope")
        self.bad(1, "answered 404", "pull", self.hub.url + "/nope.gguf")
        self.bad(2, "no SHA-256 sum", "pull", "hf:o/m", "--checksum", "abc")
        for source in ("nope", "hf:", "hf:m", "hf:../m", "hf:o/m/x", "hf:o/m:",
                       self.hub.url + "/x.bin", "file:///etc/passwd"):
            self.bad(2, "", "pull", source)
        self.bad(1, "", "pull", "http://127.0.0.1:1/x.gguf")

    def test_a_token_is_shown_to_the_hub(self):
        os.environ["HF_TOKEN"] = "secret"
        self.good("pull", "hf:o/m")
        self.assertEqual({token for _, _, token in self.hub.asked}, {"Bearer secret"})

    def test_several_files(self):
        self.hub.listing += [{"type": "file", "path": "m-q4.gguf", "size": 3}]
        self.bad(2, "m-q8.gguf, m-q4.gguf", "pull", "hf:o/m")
        self.hub.files["/o/m/resolve/main/m-q4.gguf"] = b"abc"
        self.assertEqual(self.good("pull", "hf:o/m:Q4").text(), "o/m/m-q4\n")
        os.environ["JUNTO_MODELS"] = str(self.folder / "own")
        (self.folder / "own/a").mkdir(parents=True)
        (self.folder / "own/b").mkdir()
        for name in ("a/x.gguf", "b/x.gguf", "s-00001-of-00002.gguf", "s-00002-of-00002.gguf"):
            (self.folder / "own" / name).write_bytes(b"abc")
        self.bad(2, "'x' may be 'a/x' or 'b/x'", "info", "x")
        models = self.good("list", "--json").json()["models"]
        self.assertEqual([(m["name"], m["bytes"]) for m in models],
                         [("a/x", 3), ("b/x", 3), ("s-00001-of-00002", 6)])
        self.good("rm", "s-00001-of-00002", "a/x")
        self.assertEqual(sorted(p.name for p in (self.folder / "own").iterdir()), ["b"])


if __name__ == "__main__":
    unittest.main()
