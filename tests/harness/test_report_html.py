"""The page in a real browser: Debian's Chromium, driven through chromedriver over plain HTTP."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from harness.outcome import Observation, Outcome, Verdict
from harness.report.html import page
from harness.report.model import Report, Result, ScenarioInfo

DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
PYTHONS = ("3.8.18", "3.12.1")
RELEASES = ("1.3.0", "1.3.1", "1.4.0")


def result(scenario: str, python: str, release: str, verdict: Verdict) -> Result:
    outcome = Outcome.HEALTHY if verdict is Verdict.HEALTHY else Outcome.BUG
    return Result(
        scenario,
        python,
        f"CPython {python} x86_64-linux-gnu",
        "nest-asyncio",
        release,
        verdict,
        Observation(outcome, "AssertionError: lost", detail=HOSTILE, output=f"\x1b[31m\0{HOSTILE}"),
        f"harness matrix {scenario} --python {python}",
    )


def report() -> Report:
    infos = tuple(
        ScenarioInfo(id, f"{title} {HOSTILE}", family, "https://example.org/1", doc=HOSTILE)
        for id, title, family in (
            ("N05", "The current loop is changed", "nested_loops"),
            ("T01", "A callback never runs", "threads"),
        )
    )
    results = [
        result(
            info.id,
            python,
            release,
            Verdict.REPRODUCED
            if release.startswith("1.3") and info.id == "N05"
            else Verdict.REGRESSION
            if (release, python, info.id) == ("1.4.0", "3.12.1", "T01")
            else Verdict.HEALTHY,
        )
        for info in infos
        for python in PYTHONS
        for release in RELEASES
    ]
    return Report({"Platform": "Linux"}, infos, tuple(results), "2026-01-01T00:00:00+00:00")


# Without a browser


def test_nothing_that_a_scenario_said_is_markup():
    text = page(report())
    assert HOSTILE not in text
    assert text.count("<script") == 2
    assert "\x1b" not in text
    assert "\0" not in text


def test_page_asks_the_network_for_nothing():
    text = page(report())
    assert "default-src 'none'" in text
    assert re.findall(r"(?:src|href)=\"?(?!x)[^ >]+", re.sub(r'content="[^"]*"', "", text)) == []


def test_page_without_javascript_shows_the_grid_as_text():
    inside = page(report()).partition("<noscript>")[2].partition("</noscript>")[0]
    assert "nest-asyncio 1.3.0, 1.3.1" in inside


def test_cells_that_say_the_same_say_it_once():
    assert page(report()).count("AssertionError: lost") == 1


# With a browser


class Browser:
    """As much of WebDriver as these tests need."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        options = {
            "binary": BROWSER,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        }
        match = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._session = self._post("/session", {"capabilities": match})["sessionId"]

    def go(self, address: str) -> None:
        self._ask("url", {"url": "about:blank"})
        self._ask("url", {"url": address})

    def run(self, script: str, *arguments):
        return self._ask("execute/sync", {"script": script, "args": list(arguments)})

    def press(self, *keys: str) -> None:
        actions = []
        for key in keys:
            actions += [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._ask("actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def dark(self, wanted: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if wanted else "light"}
        parameters = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [feature]}}
        self._ask("goog/cdp/execute", parameters)

    def width(self, wanted: int) -> None:
        """Give the page the width of a device; 0 for that of the window."""
        metrics = {"width": wanted, "height": 740, "deviceScaleFactor": 1, "mobile": wanted > 0}
        parameters = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self._ask("goog/cdp/execute", parameters)

    def screenshot(self) -> bytes:
        address = f"/session/{self._session}/screenshot"
        return base64.b64decode(self._send(urllib.request.Request(self._root + address)))

    def log(self) -> list:
        return self._ask("se/log", {"type": "browser"})

    def quit(self) -> None:
        request = urllib.request.Request(f"{self._root}/session/{self._session}", method="DELETE")
        self._send(request)

    def _ask(self, name: str, data):
        return self._post(f"/session/{self._session}/{name}", data)

    def _post(self, address: str, data):
        body = json.dumps(data).encode()
        headers = {"Content-Type": "application/json"}
        return self._send(urllib.request.Request(self._root + address, body, headers))

    def _send(self, request: urllib.request.Request):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(json.load(error)["value"]["message"]) from None


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if DRIVER is None or BROWSER is None:
        pytest.skip("no browser; apt-get install chromium chromium-driver")
    # Debian's chromium keeps its profile below HOME, and an ordinary user of CI may have none.
    environment = {**os.environ, "HOME": tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp())}
    process = subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True, env=environment
    )
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"successfully on port (\d+)", line):
                break
        else:
            pytest.fail("chromedriver ended before it said its port")
        one = Browser(int(found.group(1)))
        stack.callback(one.quit)
        yield one


@pytest.fixture
def shown(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page(report()), encoding="utf-8")
    browser.dark(False)
    browser.go(path.as_uri())
    return browser


def cells(browser) -> list[str]:
    script = "return [...document.querySelectorAll('td button')].map(b => b.ariaLabel)"
    return browser.run(script)


def focused(browser) -> str:
    return browser.run("return document.activeElement.ariaLabel")


def set_filter(browser, name: str, label: str) -> None:
    browser.run(
        """
        const node = document.getElementById(arguments[0]);
        node.value = node.tagName === "SELECT"
          ? [...node.options].find((option) => option.text === arguments[1]).value : arguments[1];
        node.dispatchEvent(new Event("input", { bubbles: true }));
        """,
        name,
        label,
    )


def test_every_cell_is_drawn_and_nothing_hostile_runs(shown):
    assert len(cells(shown)) == 12
    assert shown.run("return window.hacked") is None
    assert "N05 with nest-asyncio 1.3.0, Python 3.8.18: bug, reproduced" in cells(shown)


def test_cells_are_filtered_by_scenario_release_and_python(shown):
    set_filter(shown, "scenario", "callback")
    assert {label.split()[0] for label in cells(shown)} == {"T01"}
    set_filter(shown, "release", "nest-asyncio 1.4.0")
    assert len(cells(shown)) == 2
    set_filter(shown, "python", "3.12.1")
    assert cells(shown) == ["T01 with nest-asyncio 1.4.0, Python 3.12.1: bug, regression"]
    assert shown.run("return document.getElementById('count').value") == (
        "1 of 2 scenarios, 1 of 12 cells"
    )
    shown.run("document.querySelector('button[type=reset]').click()")
    assert wait_for(lambda: len(cells(shown)) == 12)


def test_unexpected_cells_can_be_shown_alone(shown):
    set_filter(shown, "show", "unexpected")
    assert cells(shown) == ["T01 with nest-asyncio 1.4.0, Python 3.12.1: bug, regression"]


def test_cell_opens_its_evidence_and_shows_it_as_text(shown):
    shown.run("document.querySelector('td button').click()")
    text = shown.run("return document.getElementById('evidence').innerText")
    assert "N05 with nest-asyncio 1.3.0, Python 3.8.18" in text
    assert "harness matrix N05 --python 3.8.18" in text
    assert HOSTILE in text
    assert f"\\x00{HOSTILE}" in text
    assert shown.run("return window.hacked") is None


def test_page_is_used_by_keyboard_alone(shown):
    right, down, enter, escape, tab = "\ue014", "\ue015", "\ue007", "\ue00c", "\ue004"
    shown.run("document.querySelector('table button').focus()")
    shown.press(right, down)
    assert focused(shown) == "N05 with nest-asyncio 1.3.1, Python 3.12.1: bug, reproduced"
    shown.press(enter)
    assert shown.run("return document.getElementById('evidence').open")
    shown.press(escape)
    assert not shown.run("return document.getElementById('evidence').open")
    assert focused(shown) == "N05 with nest-asyncio 1.3.1, Python 3.12.1: bug, reproduced"
    shown.press(tab)
    assert focused(shown) is None, "Tab leaves the grid instead of walking through it"
    shown.run("document.querySelector('h1').focus(); document.activeElement.blur()")
    reached = set()
    for _ in range(12):
        shown.press(tab)
        reached.add(shown.run("return document.activeElement.id || document.activeElement.tagName"))
    assert {"scenario", "release", "python", "show", "SUMMARY", "BUTTON"} <= reached


def test_address_leads_back_to_a_cell(shown):
    shown.run("document.querySelector('td button').click()")
    address = shown.run("return location.href")
    shown.go(address)
    assert shown.run("return document.getElementById('evidence').open")


def test_history_strip_shows_when_the_bug_came_and_went(shown):
    titles = shown.run(
        "return [...document.querySelector('.strip').children].map((mark) => mark.title)"
    )
    assert titles == [
        "nest-asyncio 1.3.0: bad in 2 of 2",
        "nest-asyncio 1.3.1: bad in 2 of 2",
        "nest-asyncio 1.4.0: bad in 0 of 2",
    ]


def test_history_without_releases_goes_by_interpreter(shown):
    set_filter(shown, "release", "nest-asyncio 1.3.0")
    titles = shown.run(
        "return [...document.querySelector('.strip').children].map((mark) => mark.title)"
    )
    assert titles == ["Python 3.8.18: bad in 1 of 1", "Python 3.12.1: bad in 1 of 1"]


def luminance(colour: str) -> float:
    values = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_can_be_read(shown, dark):
    """Against what lies behind it every text has the contrast that WCAG AA asks for."""
    shown.dark(dark)
    pairs = shown.run(
        """
        const behind = (node) => {
          for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if (colour !== "rgba(0, 0, 0, 0)") return colour;
          }
        };
        const all = "h1, p, td button, th, summary span, a, label, #legend i";
        return [...document.querySelectorAll(all)].map(
          (node) => [getComputedStyle(node).color, behind(node), node.textContent]);
        """
    )
    back = luminance(pairs[0][1])
    assert back < 0.1 if dark else back > 0.9
    for text, behind, what in pairs:
        low, high = sorted((luminance(text), luminance(behind)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (what, text, behind)


def test_focus_is_seen_on_an_unexpected_cell_too(shown):
    shown.press(*(["\ue004"] * 2))
    shown.run("document.querySelector('.unexpected[aria-label]').focus()")
    outline = shown.run(
        "const style = getComputedStyle(document.activeElement);"
        "return [document.activeElement.className, style.outlineStyle, style.outlineColor]"
    )
    assert outline == ["w-bug unexpected", "solid", "rgb(11, 95, 255)"]


def test_page_fits_a_telephone(browser, tmp_path):
    """Only a grid may be wider, and it scrolls by itself."""
    long = f"https://example.org/{'issues' * 20}/1"
    found = report()
    infos = tuple(replace(info, source=long, title="word" * 30) for info in found.scenarios)
    path = tmp_path / "report.html"
    path.write_text(page(replace(found, scenarios=infos)), encoding="utf-8")
    browser.width(360)
    try:
        browser.go(path.as_uri())
        browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        wide = "return [innerWidth, document.documentElement.scrollWidth]"
        assert browser.run(wide) == [360, 360]
        browser.run("document.querySelector('td button').click()")
        assert browser.run(wide) == [360, 360]
        inside = "const d = document.querySelector('dialog'); return [d.scrollWidth, d.clientWidth]"
        assert len(set(browser.run(inside))) == 1
        close = "return document.querySelector('dialog button').getClientRects()[0].height"
        assert browser.run(close) < 45
    finally:
        browser.width(0)


def test_screenshot_is_not_blank(shown):
    assert len(shown.screenshot()) > 10_000


def wait_for(condition) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if condition():
            return True
    return False


def test_large_report_is_one_page_of_bounded_size():
    infos = tuple(ScenarioInfo(f"N{n}", "t", "f", "") for n in range(20))
    results = tuple(
        result(f"N{n}", f"3.{6 + p}.0", f"1.{r}.0", Verdict.HEALTHY)
        for n in range(20)
        for p in range(8)
        for r in range(45)
    )
    size = len(page(Report({}, infos, results)))
    assert size / len(results) < 150, "bytes for each cell"


def test_page_is_a_file_of_the_package():
    folder = Path(page.__globals__["__file__"]).parent
    assert {path.name for path in folder.glob("page.*")} == {"page.html", "page.css", "page.js"}
