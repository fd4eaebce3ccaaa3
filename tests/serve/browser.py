"""A real browser for tests: headless Chromium, told what to do over a pipe
(--remote-debugging-pipe, the Chrome DevTools Protocol). Python's standard library only.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page. `problems` are complaints of the console, exceptions and refused loads."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self.output = os.pipe()
        self.input, from_browser = os.pipe()

        def descriptors():  # the browser reads from 3 and writes to 4
            high = [os.dup(to_browser), os.dup(from_browser)]
            while min(high) < 5:
                high = [os.dup(fd) for fd in high]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
             f"--user-data-dir={self.folder.name}", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=descriptors, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.problems, self.answers, self.next = [], {}, 0
        self.news = threading.Condition()
        self.session = None
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        pages = self._call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in pages if t["type"] == "page")
        self.session = self._call("Target.attachToTarget", targetId=target,
                                  flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def _read(self):
        rest = b""
        while data := os.read(self.input, 1 << 16):
            *messages, rest = (rest + data).split(b"\0")
            for message in messages:
                self._hear(json.loads(message))

    def _hear(self, message):
        method, more = message.get("method"), message.get("params", {})
        with self.news:
            if "id" in message:
                self.answers[message["id"]] = message
            elif method == "Runtime.exceptionThrown":
                self.problems.append(more["exceptionDetails"])
            elif method == "Runtime.consoleAPICalled" and more["type"] in ("error", "warning"):
                self.problems.append(more)
            elif method == "Log.entryAdded" and more["entry"]["level"] in ("error", "warning"):
                self.problems.append(more["entry"])
            self.news.notify_all()

    def _call(self, method, **params):
        self.next += 1
        message = {"id": self.next, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        with self.news:
            found = self.news.wait_for(lambda: self.next in self.answers, 60)
            assert found, f"the browser does not answer {method}"
            answer = self.answers.pop(self.next)
        assert "result" in answer, answer
        return answer["result"]

    def size(self, width, height, dark=False, phone=False):
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                   deviceScaleFactor=1, mobile=phone)
        self._call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url):
        self._call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script):
        """The value of an expression; promises are awaited."""
        result = self._call("Runtime.evaluate", expression=script, awaitPromise=True,
                            returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, script, seconds=60):
        """Wait until an expression is true; its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}")

    def click(self, selector):
        """The mouse, where the element is."""
        box = self.until(f"""(() => {{
            const node = document.querySelector({json.dumps(selector)});
            node?.scrollIntoView({{block: 'nearest'}});
            const b = node?.getBoundingClientRect();
            return b?.width && {{x: b.x + b.width / 2, y: b.y + b.height / 2}} }})()""")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **box)

    def point(self, x, y):
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def type(self, text):
        self._call("Input.insertText", text=text)

    def press(self, key, code=0, modifiers=0, text=""):
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                       windowsVirtualKeyCode=code, modifiers=modifiers)

    def picture(self, form="png"):
        how = {"format": form, **({} if form == "png" else {"quality": 80})}
        return base64.b64decode(self._call("Page.captureScreenshot", **how)["data"])

    def close(self):
        self.session = None
        self._call("Browser.close")
        self.process.wait(30)
        self.reader.join(30)
        os.close(self.input)
        os.close(self.output)
        self.folder.cleanup()
