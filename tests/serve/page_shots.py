"""Pictures of the page for the documents, and what the axe rules find:

    JUNTO=build/junto python3 tests/serve/page_shots.py docs [axe.min.js]

axe-core is not part of Junto: `npm install axe-core` brings it. Ends with 1 when a rule of
serious or critical impact is broken, in any of the states that are shown.
"""

import json
import sys
import time
from pathlib import Path

from browser import Browser
from server import Server

TEXT = "She went to the window and looked out"
SIZES = {"wide": (1280, 860, False), "narrow": (390, 844, True)}


def settle(browser):
    browser.until("document.getElementById('stop').hidden")
    time.sleep(0.6)


def press(browser, text):
    browser.until(f"""(() => {{
        const node = [...document.querySelectorAll('button')].find(
            b => b.textContent === {json.dumps(text)} && b.offsetParent);
        node?.click();
        return !!node }})()""")


def prepare(browser, url, narrow):
    """A reply, an expert that is off, and both texts side by side."""
    view = (lambda name: press(browser, name)) if narrow else (lambda name: None)
    browser.open(url)
    browser.run("localStorage.clear()")
    browser.open(url)
    browser.until("document.getElementById('layer').options.length > 0")
    for name, value in (("mode", "text"), ("max_tokens", 60), ("temperature", 0.7), ("seed", 3)):
        browser.run(f"document.querySelector('#settings [name={name}]').value = '{value}'")
    browser.click("#words")
    browser.type(TEXT)
    browser.press("Enter", 13, text="\r")
    settle(browser)
    press(browser, "Tokens")
    view("Experts")
    browser.run("document.getElementById('layer').selectedIndex = 4;"
                "document.getElementById('expert').value = 21")
    press(browser, "Switch off")
    view("Chat")
    browser.run("document.querySelectorAll('.tokens [role=button]')[12].click()")
    browser.until("/part|same/.test(document.querySelector('.compare [role=status]').textContent)")
    if not narrow:
        browser.run("document.querySelectorAll('.tokens [role=button]')[12].focus()")
    time.sleep(0.6)


def check(browser, axe):
    """What axe finds: rules with their impact."""
    browser.run(axe)
    found = browser.run("axe.run(document, {resultTypes: ['violations']}).then(r => "
                        "r.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html).join(' ')]))")
    for impact, rule, nodes in found:
        print(f"  {impact}: {rule}: {nodes[:300]}")
    return sum(impact in ("serious", "critical") for impact, _, _ in found)


def main(folder, axe=None):
    server, browser, bad = Server("-c", 512), Browser(), 0
    axe = axe and Path(axe).read_text() + "; 0"
    try:
        for size, (width, height, narrow) in SIZES.items():
            for dark in (False, True):
                browser.size(width, height, dark, narrow)
                prepare(browser, f"http://127.0.0.1:{server.port}/", narrow)
                theme = "dark" if dark else "light"
                views = ("Chat", "Experts", "Chats") if narrow else ("",)
                for view in views:
                    if view:
                        press(browser, view)
                        time.sleep(0.4)
                    name = "-".join(filter(None, ("serve-page", size, view.lower(), theme)))
                    if view != "Chats":
                        (Path(folder) / f"{name}.webp").write_bytes(browser.picture("webp"))
                    print(name)
                    if axe:
                        bad += check(browser, axe)
        print(f"{bad} serious findings; the console: {browser.problems or 'nothing'}")
    finally:
        browser.close()
        server.stop()
    return 1 if bad or browser.problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
