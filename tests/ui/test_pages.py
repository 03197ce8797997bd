"""The page in a browser: from a film to its stereo film, by keyboard, on a phone, in the dark."""

import json
from pathlib import Path

import pytest

from m2svid.ui.access import Access
from tests.browser import needs_browser
from tests.convert.films import make_depth, make_film
from tests.ui.served import served

pytestmark = needs_browser

_WATCH = """window.mistakes = [];
addEventListener("error", event => mistakes.push(event.message));
addEventListener("unhandledrejection", event => mistakes.push(String(event.reason)));
addEventListener("securitypolicyviolation", event => mistakes.push(event.blockedURI));
window.sources = [];
window.EventSource = class extends EventSource {
  constructor(path) { super(path); sources.push(this); }
};"""
_ROLES = {
    "button",
    "link",
    "slider",
    "combobox",
    "textbox",
    "searchbox",
    "checkbox",
    "progressindicator",
    "image",
}
_WIDE = """[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > 390)
  .map(e => e.tagName + "." + e.className)"""
_TOLD = "document.querySelector('.convert-told').textContent"
_CARD = "document.querySelector('.queue-job')"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    (root / "films").mkdir()
    (root / "made").mkdir()
    film = make_film(root / "films" / "film.mp4", 48, (192, 144), cuts=(24,), sound=1)
    make_depth(root / "films" / "film_depth.npz", 48, (96, 72))
    with served(Access([root / "films"], [root / "made"])) as server:
        server.film = film
        yield server


@pytest.fixture(scope="module")
def browser(page):
    """The one of all tests, with a window of its own size."""
    opened = page.browser
    opened.call(
        "Emulation.setDeviceMetricsOverride", width=1300, height=900, deviceScaleFactor=1, mobile=False
    )
    opened.call("Accessibility.enable")
    script = opened.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)["identifier"]
    yield opened
    opened.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    opened.call("Accessibility.disable")
    opened.call("Emulation.clearDeviceMetricsOverride")


def press(browser, key, code=0, text=""):
    for kind in ("keyDown", "keyUp"):
        typed = {"text": text} if text and kind == "keyDown" else {}
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed)


def seen(browser, shown):
    """Say that the page's tab is in front, or that another one is."""
    hidden = json.dumps({"value": not shown, "configurable": True})
    browser.evaluate(f"""Object.defineProperty(document, "hidden", {hidden});
      document.dispatchEvent(new Event("visibilitychange"))""")


def unnamed(browser):
    """Roles of the elements for which a screen reader has no name."""
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in _ROLES]
    assert len(shown) > 3
    return [node["role"]["value"] for node in shown if not node.get("name", {}).get("value")]


def pick(browser, site, name="film.mp4"):
    """Open the page and choose a film by the keyboard."""
    browser.open(f"{site.address}/?{name}")
    film = f"button.convert-film[title$='/{name}']"
    browser.wait(f"document.querySelector({json.dumps(film)}) !== null")
    browser.evaluate(f"document.querySelector({json.dumps(film)}).focus()")
    press(browser, "Enter", 13, "\r")


def test_from_a_film_to_its_stereo_film(browser, site, tmp_path):
    pick(browser, site)
    browser.wait(f"{_TOLD}.startsWith('Made in')")
    browser.wait("document.querySelectorAll('.convert-shots [class^=comfort-]').length === 2")
    names = browser.evaluate("[...document.querySelectorAll('.convert-shots button')].map(b => b.ariaLabel)")
    assert all(": -" in name and "% of the width" in name for name in names), names

    # Strength acts at once, and the exact picture follows.
    browser.evaluate("""(() => {
      const told = document.querySelector(".player-approximate");
      window.approximate = false;
      new MutationObserver(() => { approximate ||= !told.hidden; }).observe(told, {attributes: true});
      document.getElementById("setting-max_disparity").focus();
    })()""")
    press(browser, "ArrowRight", 39)
    browser.wait("approximate")
    browser.wait(f"{_TOLD}.includes('strength 3.1 %')")
    browser.wait("document.querySelector('.player-approximate').hidden")
    browser.wait("document.querySelector('.convert-go code').textContent.includes('--max-disparity 0.031')")
    shown = browser.evaluate("document.querySelector('.convert-go code').textContent")
    assert unnamed(browser) == []
    browser.screenshot(tmp_path / "convert.png")

    browser.click(".convert-go button.main")
    browser.wait(f"{_TOLD} === 'film.mp4 is in the queue.'")
    browser.click("a[href='#queue']:not(nav a)")
    browser.wait(f"{_CARD}?.dataset.state === 'done'")
    assert unnamed(browser) == []
    press_button = (
        "[...document.querySelectorAll('.queue-job button')].find(b => b.textContent === {!r}).click()"
    )
    browser.evaluate(press_button.format("Play"))
    browser.wait("document.querySelector('.queue-job .player-film') !== null")
    told = "document.querySelector('.queue-job .player-message').textContent"
    assert browser.evaluate(told) == ""  # no problem
    browser.evaluate(press_button.format("Log"))
    browser.wait("document.querySelector('.queue-log') !== null")
    log = browser.evaluate("document.querySelector('.queue-log').textContent").splitlines()
    assert log[0] == shown and "is complete" in log[-1]
    made = Path(shown.split(" -o ")[1].split()[0])
    assert made.stat().st_size > 1000

    # A page that isn't seen leaves its connection to others, and is right again when it is.
    states = "sources.map(source => source.readyState === EventSource.CLOSED)"
    assert browser.evaluate(states) == [False]
    seen(browser, False)
    assert browser.evaluate(states) == [True]
    site.ask("/api/jobs/1/remove", "POST")
    seen(browser, True)
    browser.wait(f"{_CARD} === null")
    assert browser.evaluate(states) == [True, False]

    assert browser.evaluate("mistakes") == []
    asked = browser.asked()
    assert len(asked) > 20
    assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))] == []


def test_a_mistake_stands_on_the_page_as_its_sentence(browser, site):
    pick(browser, site)
    browser.wait("document.querySelector('.convert-go code').textContent !== ''")
    browser.evaluate("""(() => { const crf = document.getElementById('setting-crf');
      crf.value = 'much'; crf.dispatchEvent(new Event('change')); })()""")
    browser.wait(
        "document.querySelector('.convert-go [role=alert]').textContent.includes(\"--crf can't be\")"
    )


@pytest.mark.parametrize("part", ["convert", "queue"])
def test_a_phone_shows_everything_in_its_width_and_the_dark_is_dark(browser, site, part, tmp_path):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    try:
        pick(browser, site)
        browser.wait(f"{_TOLD}.startsWith('Made in')")
        browser.evaluate(f"location.hash = '#{part}'")
        browser.wait(f"!document.getElementById('part-{part}').hidden")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390, browser.evaluate(_WIDE)
        colors = "(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))"
        background, text = browser.evaluate(colors)
        assert background == "rgb(20, 23, 27)" and text == "rgb(228, 232, 238)"
        browser.screenshot(tmp_path / f"{part}.png")
        assert browser.evaluate("mistakes") == []
    finally:
        browser.call("Emulation.setEmulatedMedia", features=[])
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=1300, height=900, deviceScaleFactor=1, mobile=False
        )


def test_a_dropped_film_is_copied_and_opened(browser, site):
    browser.open(f"{site.address}/?drop")
    browser.wait("document.querySelector('.convert-picker') !== null")
    browser.evaluate(f"""(async () => {{
      const content = await (await fetch("/api/file?path={site.film}")).blob();
      const dropped = new DataTransfer();
      dropped.items.add(new File([content], "dropped.mp4"));
      window.dispatchEvent(new DragEvent("drop", {{dataTransfer: dropped, bubbles: true, cancelable: true}}));
    }})()""")
    browser.wait("document.querySelector('.convert-look h2').textContent === 'dropped.mp4'")
    assert (site.access.write[0] / "dropped.mp4").read_bytes() == site.film.read_bytes()
