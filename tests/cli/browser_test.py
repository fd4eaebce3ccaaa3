"""The page of a report in a real browser: Chromium without a window, where there is one."""

import re
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

from harness import ROOT, TEXT, CommandTest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser",
                                               "google-chrome"))), None)
MINI = str(ROOT / "models" / "junto-mini.gguf")


def rows_of(png):
    """The rows of bytes of a picture with 8 bits per channel, and its channels."""
    at, data = 8, b""
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        body = png[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            channels = {2: 3, 6: 4}[colour]
            assert depth == 8
        elif kind == b"IDAT":
            data += body
        at += size + 12
    data, step, rows = zlib.decompress(data), width * channels, []
    before = bytearray(step)
    for y in range(height):
        how, row = data[y * (step + 1)], bytearray(data[y * (step + 1) + 1:][:step])
        for i in range(step):
            left = row[i - channels] if i >= channels else 0
            up, corner = before[i], before[i - channels] if i >= channels else 0
            if how == 1:
                row[i] = row[i] + left & 255
            elif how == 2:
                row[i] = row[i] + up & 255
            elif how == 3:
                row[i] = row[i] + (left + up >> 1) & 255
            elif how == 4:
                near = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
                row[i] = row[i] + near & 255
        rows.append(row)
        before = row
    return rows, channels


@unittest.skipUnless(BROWSER, "no Chromium")
class Browser(CommandTest):
    def setUp(self):
        super().setUp()
        trace, self.page = self.folder / "a.trace", self.folder / "report.html"
        self.good("perplexity", MINI, "-f", TEXT, "--ctx", "128", "--trace", trace, "-q",
                  "--trace-scores")
        self.good("report", trace, "-m", MINI, "-o", self.page)

    def browse(self, *flags):
        with tempfile.TemporaryDirectory() as home:
            return subprocess.run(
                [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--hide-scrollbars", "--enable-logging=stderr", f"--user-data-dir={home}",
                 "--window-size=420,560", *flags, self.page.as_uri()],
                capture_output=True, check=True, timeout=100)

    def colours(self, *flags):
        """How many points of the picture have each colour."""
        path = self.folder / "page.png"
        self.browse(f"--screenshot={path}", *flags)
        rows, channels = rows_of(path.read_bytes())
        counts = {}
        for row in rows:
            for i in range(0, len(row), channels):
                colour = bytes(row[i:i + 3])
                counts[colour] = counts.get(colour, 0) + 1
        return counts

    def test_is_read_without_complaint(self):
        done = self.browse("--dump-dom")
        said = done.stderr.decode(errors="replace")
        self.assertNotIn("CONSOLE", said)
        self.assertNotRegex(said, "net::ERR|Refused to")
        seen = done.stdout.decode()
        self.assertNotIn("parsererror", seen)
        self.assertNotIn("<script", seen)  # so all of it works without
        pictures = re.findall(r"<svg.*?</svg>", seen, re.S)
        self.assertGreater(len(pictures), 5)
        for picture in pictures:
            self.assertRegex(picture, r"^<svg[^>]*role=\"img\"[^>]*><title>.{8,}</title>")
            names = re.findall(r'<text class="x name"[^>]*>[^<]+</text>', picture)
            self.assertGreaterEqual(len(names), 2, picture)  # of both axes
            self.assertRegex(picture, r'<text class="[xy]"[^>]*>[-\d.]+[%k]?</text>')
        self.assertGreater(seen.count("<table"), 2)

    def test_is_drawn_light_and_dark(self):
        light = self.colours("--blink-settings=preferredColorScheme=1")
        dark = self.colours("--blink-settings=preferredColorScheme=0")
        for counts in light, dark:
            self.assertGreater(len(counts), 40)
        paper = [max(counts, key=counts.get) for counts in (light, dark)]
        self.assertGreater(min(paper[0]), 200)
        self.assertLess(max(paper[1]), 60)


if __name__ == "__main__":
    unittest.main()
