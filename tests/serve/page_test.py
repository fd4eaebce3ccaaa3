"""The page, in a real browser: what it shows is what the server does. Skipped where there
is no Chromium."""

import json
import signal
import tempfile
import time
import unittest
from pathlib import Path

from browser import CHROMIUM, Browser
from server import MODEL, ServerTest

def flat(text):
    """Without white space, which paragraphs take."""
    return "".join(text.split())


STARTS = "She went to the window and looked out"


@unittest.skipUnless(CHROMIUM, "there is no Chromium")
class Page(ServerTest):
    flags = ("-c", 1024)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = Browser()
        cls.browser.size(1440, 900)

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        super().tearDownClass()

    def setUp(self):
        self.browser.open(f"http://127.0.0.1:{self.server.port}/page/page.css")
        self.browser.run("localStorage.clear(), sessionStorage.clear()")
        self.load()
        self.set(mode="text", max_tokens=40, temperature=0, seed=1)

    def tearDown(self):
        self.assertEqual(self.browser.problems, [])

    def load(self):
        self.browser.open(f"http://127.0.0.1:{self.server.port}/")
        self.browser.until("document.getElementById('model').textContent.includes('junto-mini')")
        self.browser.until("document.getElementById('layer').options.length === 6")

    def set(self, **settings):
        for name, value in settings.items():
            self.browser.run(f"""(() => {{
                const field = document.querySelector('#settings [name={name}]');
                field.value = {json.dumps(str(value))};
                field.dispatchEvent(new Event('change', {{bubbles: true}})) }})()""")

    def press(self, text, inside="document"):
        self.browser.until(f"""(() => {{
            const node = [...{inside}.querySelectorAll('button')].find(
                b => b.textContent === {json.dumps(text)} && b.offsetParent);
            node?.click();
            return !!node }})()""")

    def send(self, text=STARTS):
        self.browser.click("#words")
        self.browser.type(text)
        self.browser.press("Enter", 13, text="\r")

    def wait(self):
        return self.browser.until("""!document.getElementById('stop').offsetParent &&
            /^(Done|Ended|Stopped|The reply)/.exec(document.getElementById('state').textContent)
            && document.getElementById('state').textContent""")

    def last(self, selector=".body"):
        return self.browser.run(
            f"document.querySelector('#messages > li:last-child {selector}')?.textContent")

    def messages(self):
        return self.browser.run(
            "[...document.querySelectorAll('#messages > li .body')].map(b => b.textContent)")

    def heat(self):
        return self.browser.run("document.getElementById('heatmap').toDataURL()")

    def test_a_chat_streams_and_experts_light_up(self):
        self.set(max_tokens=400, temperature=1)
        self.browser.run("""window.lengths = new Set(), window.pictures = new Set();
            new MutationObserver(() => {
                lengths.add(document.querySelector('.assistant .body')?.textContent.length);
                pictures.add(document.getElementById('heatmap').toDataURL());
            }).observe(document.body, {subtree: true, childList: true}); 0""")
        self.send()
        for _ in range(30):  # a machine with other work shows few frames of a reply
            self.assertEqual(self.wait(), "Ended: no more tokens were allowed.")
            if self.browser.run("lengths.size > 3 && pictures.size > 3"):
                break
            self.press("Regenerate")
        else:
            self.fail(self.browser.run("[lengths.size, pictures.size]"))
        self.assertTrue(self.browser.run("document.getElementById('figures').textContent"))

    def test_hits_of_a_store(self):
        hidden = "document.getElementById('hits-figure').hidden"
        self.send()
        self.wait()
        text = self.last()
        self.assertTrue(self.browser.run(hidden))
        plain = self.server
        self.server = self.server_with("-c", 1024, "--ram", "256M", "--connections", 16)
        self.load()
        self.set(mode="text", max_tokens=40, temperature=0, seed=1)
        self.send()
        self.wait()
        self.assertEqual(self.last(), text)
        self.browser.until(f"!{hidden}")
        label = self.browser.until("document.getElementById('hits').ariaLabel.match(/now .*/)?.[0]")
        self.assertTrue(0 < float(label.split()[1]) <= 1, label)
        self.assertRegex(self.browser.run("document.getElementById('figures').textContent"),
                         r"cache hits(\d+%|-)")
        self.browser.open(f"http://127.0.0.1:{plain.port}/page/page.css")

    def test_what_it_says_is_what_the_server_says(self):
        self.send()
        self.wait()
        wanted = self.server.text(STARTS, max_tokens=40)
        self.assertEqual(flat(self.last()), flat(wanted))
        self.set(mode="chat", system="Be kind.")
        self.press("New")
        self.send("Hello")
        self.wait()
        chat = self.server.post("/v1/chat/completions", {
            "messages": [{"role": "system", "content": "Be kind."},
                         {"role": "user", "content": "Hello"}],
            "max_tokens": 40, "temperature": 0}).json()
        self.assertEqual(flat(self.last()), flat(chat["choices"][0]["message"]["content"]))

    def test_stop(self):
        self.set(max_tokens=1000)
        before = self.server.figure("cancelled_total")
        for way in (lambda: self.press("Stop"), lambda: self.browser.press("Escape", 27)):
            self.press("New")
            self.send()
            self.browser.until("document.querySelector('.assistant .body')?.textContent.length > 0")
            self.server.process.send_signal(signal.SIGSTOP)  # or it may be done before
            way()
            self.assertEqual(self.wait(), "Stopped.")
            self.server.process.send_signal(signal.SIGCONT)
        self.server.wait_figure("cancelled_total", before + 2)

    def test_regenerate_edit_and_keep(self):
        self.send()
        self.wait()
        first = self.last()
        self.press("Regenerate")
        self.wait()
        self.assertEqual(self.last(), first)  # with the same seed
        self.press("Edit")
        self.browser.run("document.querySelector('.edit textarea').value = 'Once upon a time'")
        self.press("Send", "document.querySelector('.edit')")
        self.wait()
        messages = self.messages()
        self.assertEqual((len(messages), messages[0]), (2, "Once upon a time"))
        self.press("New")
        self.assertEqual(self.messages(), [])
        self.load()
        names = self.browser.run(
            "[...document.querySelectorAll('#conversations .name')].map(b => b.textContent)")
        self.assertIn("Once upon a time", names)
        self.press("Once upon a time")
        self.assertEqual(self.messages(), messages)
        self.browser.run("document.querySelector('#conversations [aria-label^=Delete]').click()")
        self.load()
        self.assertNotIn("Once upon a time", self.browser.run(
            "document.getElementById('conversations').textContent"))

    def test_export(self):
        self.send()
        self.wait()
        with tempfile.TemporaryDirectory() as folder:
            self.browser._call("Page.setDownloadBehavior", behavior="allow", downloadPath=folder)
            self.press("Export JSON")
            self.press("Export text")
            paths = [Path(folder) / f"conversation.{end}" for end in ("json", "md")]
            for _ in range(400):
                if all(path.exists() for path in paths):
                    break
                time.sleep(0.05)
            messages = json.loads(paths[0].read_text())["messages"]
            self.assertEqual([m["role"] for m in messages], ["user", "assistant"])
            self.assertEqual(messages[0]["content"], STARTS)
            self.assertIn(messages[1]["content"], paths[1].read_text())

    def test_experts_of_a_token(self):
        self.send()
        self.wait()
        self.press("Tokens")
        count = self.browser.until("document.querySelectorAll('.tokens [role=button]').length")
        self.assertEqual(count, 39)
        live = self.heat()
        self.browser.run("document.querySelector('.tokens [role=button]').focus()")
        self.browser.until("document.getElementById('token').rows.length === 7")
        cells = "[...document.querySelectorAll('#token td:last-child')].map(c => c.textContent)"
        first = self.browser.run(cells)
        trace = self.server.post("/v1/completions", {
            "prompt": STARTS, "max_tokens": 2, "temperature": 0,
            "junto": {"trace": True}}).json()["choices"][0]["junto"]["tokens"][0]
        for text, experts, weights in zip(first, trace["experts"], trace["weights"]):
            for expert, weight in zip(experts, weights):
                self.assertRegex(text, rf"\b{expert} \(0\.\d\d\)")
        self.browser.until(f"document.getElementById('heatmap').toDataURL() !== '{live}'")
        self.browser.press("ArrowRight", 39)
        self.assertNotEqual(self.browser.run(cells), first)
        self.browser.run("document.activeElement.blur()")
        self.browser.until("document.getElementById('token').hidden")

    def compare(self, token):
        self.browser.run(f"document.querySelectorAll('.tokens [role=button]')[{token}].click()")
        state = self.browser.until("""(() => {
            const text = document.querySelector('.compare [role=status]')?.textContent;
            return text && !text.startsWith('Writing') && text })()""")
        return state, self.browser.run(
            "[...document.querySelectorAll('.sides .tokens')].map(t => t.textContent)")

    def test_an_expert_switched_off_changes_the_text(self):
        self.send()
        self.wait()
        whole = self.server.text(STARTS, max_tokens=40)
        self.press("Tokens")
        state, (left, right) = self.compare(3)
        self.assertEqual((state, left), ("Both are the same.", right))
        self.set(max_tokens=37)
        self.browser.run("document.querySelector('.tokens [role=button]').focus()")
        experts = self.browser.until(
            "document.getElementById('token').rows[6]?.cells[1].textContent")
        for expert in experts.split(", "):  # all that it had in the last layer
            self.browser.run("document.getElementById('layer').selectedIndex = 5")
            self.browser.run(f"document.getElementById('expert').value = {expert.split()[0]}")
            self.press("Switch off")
        state, (left, right) = self.compare(3)
        self.assertRegex(state, r"They part after \d+ tokens")
        self.assertTrue(whole.endswith(left), (whole, left))
        self.assertNotEqual(left, right)
        policy = "mask:experts=" + "+".join(e.split()[0] for e in experts.split(", ")) + ",layers=5"
        self.assertIn(policy, self.browser.run("document.querySelector('.compare').textContent"))
        self.press("Keep the right")
        kept = self.last()
        self.assertTrue(flat(kept).endswith(flat(right)), (kept, right))
        self.press("Regenerate")  # the changes hold for new replies, too
        self.wait()
        steered = self.server.text(STARTS, max_tokens=37, junto={"policy": [policy]})
        self.assertEqual(flat(self.last()), flat(steered))
        for _ in experts.split(", "):
            self.press("Undo")
        self.press("Regenerate")
        self.wait()
        self.assertTrue(flat(whole).startswith(flat(self.last())))

    def click_expert(self, layer, expert):
        """Where it is now: the page may still be growing."""
        box = self.browser.run("(({x, y, width}) => ({x, y, width}))"
                               "(document.getElementById('heatmap').getBoundingClientRect())")
        wide, tall = (box["width"] - 30) / 24, 22
        for kind in ("mousePressed", "mouseReleased"):
            self.browser._call("Input.dispatchMouseEvent", type=kind, button="left",
                               clickCount=1, x=box["x"] + 30 + (expert + 0.5) * wide,
                               y=box["y"] + 1 + (layer + 0.5) * tall)
        return self.browser.run(
            "[document.getElementById('layer').value, document.getElementById('expert').value]")

    def test_a_click_on_the_picture_chooses_an_expert(self):
        for _ in range(20):
            chosen = self.click_expert(2, 7)
            if chosen == ["2", "7"]:
                break
            time.sleep(0.2)
        self.assertEqual(chosen, ["2", "7"])
        self.press("Boost")
        self.assertIn("Layer 2, expert 7: boosted by 4",
                      self.browser.run("document.getElementById('changes').textContent"))

    def test_markdown(self):
        def html(text):
            return self.browser.run(f"""import('/page/markdown.js').then(({{markdown}}) =>
                markdown({json.dumps(text)}).map(n => n.outerHTML).join(''))""")
        for text, wanted in (
                ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
                ("**a** *b* `c*d*` ~~e~~", "<p><strong>a</strong> <em>b</em> <code>c*d*</code> "
                                           "<del>e</del></p>"),
                ("snake_case_name 2*3*4", "<p>snake_case_name 2<em>3</em>4</p>"),
                ("# T\n- a\n- b\n  - c\n1. x", "<h3>T</h3><ul><li>a</li><li>b<ul><li>c</li></ul>"
                                               "</li><li>x</li></ul>"),
                ("> q\n> r", "<blockquote><p>q\nr</p></blockquote>"),
                ("---", "<hr>"),
                ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>"),
                ("[a](javascript:alert(1))", "<p><span>a</span>)</p>"),
                ("[a](https://b.example/c)", '<p><a href="https://b.example/c" rel="noopener '
                                             'noreferrer" target="_blank">a</a></p>')):
            self.assertEqual(html(text), wanted)
        code = html("```c\nint *x = <y>;\n```\nafter")
        self.assertIn("<code>int *x = &lt;y&gt;;</code>", code)
        self.assertTrue(code.endswith("<p>after</p>"))
        self.assertIn("<td>1</td>", html("|a|b|\n|-|-|\n|1|2|"))
        start = time.monotonic()
        for hostile in ("*" * 3000, "[" * 3000, "`" * 3001, "- " * 2000, "> " * 500, "_a" * 2000):
            html(hostile)
        self.assertLess(time.monotonic() - start, 20)

    def test_nothing_foreign_is_loaded(self):
        reply = self.server.get("/")
        rules = reply.headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", rules)
        self.assertNotIn("unsafe", rules)
        for name in ("page.css", "page.js", "chat.js"):
            self.assertIn("Content-Security-Policy", self.server.get(f"/page/{name}").headers)
        for path in ("/page/", "/page/nope.js", "/page/../page/page.js", "/page/index.html/"):
            self.assertEqual(self.server.get(path).status, 404)
        blocked = self.browser.run("""new Promise((resolve) => {
            addEventListener('securitypolicyviolation', (e) => resolve(e.violatedDirective));
            const node = document.createElement('script');
            node.textContent = 'window.evil = 1';
            document.body.append(node) })""")
        self.assertIn("script-src", blocked)
        self.assertIsNone(self.browser.run("window.evil"))
        self.browser.problems.clear()  # the browser says that it has refused


@unittest.skipUnless(CHROMIUM, "there is no Chromium")
class Key(ServerTest):
    def test_the_page_asks_for_the_key(self):
        server = self.server_with(env={"JUNTO_API_KEY": "secret"})
        browser = Browser()
        self.addCleanup(browser.close)
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.until("document.getElementById('key-dialog').open")
        browser.click("#key")
        browser.type("secret")
        browser.press("Enter", 13, text="\r")
        browser.until("document.getElementById('layer').options.length === 6")
        self.assertIn("junto-mini", browser.run("document.getElementById('model').textContent"))


@unittest.skipUnless(CHROMIUM, "there is no Chromium")
class Several(ServerTest):
    def test_the_page_chooses_a_model(self):
        tiny = Path(MODEL).parents[1] / "tests" / "golden" / "mixtral.gguf"
        server = self.server_with("-c", 128, models=(MODEL, f"tiny={tiny}"))
        browser = Browser()
        self.addCleanup(browser.close)
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.until("document.getElementById('models').options.length === 2")
        browser.run("document.querySelector('[name=max_tokens]').value = 20")
        for name, layers in (("tiny", 2), ("junto-mini", 6)):
            browser.run(f"document.getElementById('models').value = '{name}';"
                        "document.getElementById('models').dispatchEvent(new Event('change'))")
            browser.click("#words")
            browser.type("The king")
            browser.press("Enter", 13, text="\r")
            browser.until(f"document.getElementById('layer').options.length === {layers}")
            browser.until("document.getElementById('stop').hidden")
        self.assertEqual(browser.problems, [])


if __name__ == "__main__":
    unittest.main()
