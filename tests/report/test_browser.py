"""The page in headless Chromium, as a person gets it: light and dark, a phone and a wide screen, keyboard and print."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from report.fixture import RECIPE, VARIANTS, make
from trimtab.report import render

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Every visible text with the contrast of its colour to what is painted behind it, by the formula of WCAG 2.
CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    const layers = [];
    for (let n = node; n; n = n.parentElement) {
      const c = parse(getComputedStyle(n).backgroundColor);
      layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((under, c) => over(c, under), [255, 255, 255, 1]);
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    const skipped = ["SCRIPT", "STYLE", "title", "desc"].includes(node.tagName);
    if (!walk.currentNode.data.trim() || skipped || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const back = behind(node);
    const ink = over(parse(node.ownerSVGElement ? style.fill : style.color), back);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walk.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""

# What reaches past the right or left edge of the window and is not inside a container that scrolls on its own.
OUTSIDE = """() => [...document.body.querySelectorAll("*")].filter((node) => {
  if (node.closest(".scroll, pre, .hidden, .skip, script, style, title, desc")) {
    if (!node.matches(".scroll, pre")) return false;
  }
  const box = node.getBoundingClientRect();
  return box.width && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map((node) => node.tagName + "." + (node.getAttribute("class") || "") + ": " + node.textContent.slice(0, 40))"""


@dataclass
class Seen:
    """A page that is open, with all that it asked for and complained about."""

    page: Page
    run: Path
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail(
            f"no Chromium on PATH (looked for {', '.join(NAMES)}); Debian: apt-get install chromium", pytrace=False
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {variant: make(tmp_path_factory.mktemp("runs") / variant, variant) for variant in VARIANTS}
    for variant, run in found.items():
        render(run, with_samples=variant == "regression")
    return found


def visit(browser: Browser, run: Path, theme: Any = "light", width: int = 1440) -> Seen:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    seen = Seen(context.new_page(), run)
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.goto((run / "report.html").as_uri(), wait_until="load")
    return seen


def low_contrast(page: Page) -> list[Any]:
    found = page.evaluate(CONTRAST)
    assert len(found) > 60
    return [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5]


@pytest.mark.parametrize("variant", VARIANTS)
def test_fits_asks_for_nothing_and_can_be_read(browser: Browser, runs: dict[str, Path], variant: str) -> None:
    seen = visit(browser, runs[variant])
    page = seen.page
    for width, theme in (
        (360, "light"),
        (1440, "dark"),
        (1440, "light"),
        (360, "dark"),
        (768, "light"),
        (1600, "dark"),
    ):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for opened in (False, True):
            page.evaluate("(open) => document.querySelectorAll('details').forEach((d) => { d.open = open; })", opened)
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width, (width, opened)
            assert page.evaluate(OUTSIDE) == [], (width, opened)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(20, 23, 26)") == (theme == "dark")
        assert low_contrast(page) == [], (width, theme)
    assert seen.complaints == []
    assert seen.requests == [(runs[variant] / "report.html").as_uri()]
    page.context.close()


UNITS = {"%": 0.01, "B": 1, "bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9,
         "GFLOP": 1e9, "MFLOP": 1e6, "million": 1e6, "": 1}  # fmt: skip


def read(text: str) -> float:
    """The number that a person reads, by a table of units of its own."""
    if text == "not finite":
        return float("nan")
    number, unit = re.fullmatch(r"([−\d.,]+) ?(\S*)", text).groups()  # type: ignore[union-attr]
    return float(number.replace(",", "").replace("−", "-")) * UNITS[unit]


@pytest.mark.parametrize("variant", ["accepted", "language", "regression", "missing"])
def test_numbers_are_those_of_the_readings(browser: Browser, runs: dict[str, Path], variant: str) -> None:
    seen = visit(browser, runs[variant])
    rows = [json.loads(line) for line in (runs[variant] / "readings.jsonl").read_text().splitlines()]
    expected = {f"{row['when']}/{row['name']}": row["value"] for row in rows}
    shown = seen.page.eval_on_selector_all(
        "[data-reading]", "nodes => nodes.map(n => [n.dataset.reading, n.dataset.value, n.textContent.trim()])"
    )
    assert {name for name, *_ in shown} >= {name for name in expected if name.startswith(("before/", "after/"))}
    for name, exact, text in shown:
        value = expected[name]
        assert json.loads(exact) == value or value != value
        assert read(text) == pytest.approx(value, rel=0.0051, nan_ok=True), (name, text)
    seen.page.context.close()


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus; fails when the keyboard does not get there."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    pytest.fail(f"{selector}: not reached by the keyboard")


@pytest.mark.parametrize(("theme", "other"), [("light", "dark"), ("dark", "light")])
def test_keyboard_changes_the_theme_and_copies_the_recipe(
    browser: Browser, runs: dict[str, Path], theme: str, other: str
) -> None:
    seen = visit(browser, runs["accepted"], theme)
    page = seen.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to(page, "#theme")
    page.keyboard.press("Enter")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == other
    assert low_contrast(page) == []
    tab_to(page, "button.copy[data-copy=recipe-text]")
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('said').textContent === 'Copied'")
    assert yaml.safe_load(page.evaluate("navigator.clipboard.readText()")) == yaml.safe_load(RECIPE)
    assert seen.complaints == []
    page.context.close()


def test_a_phone_scrolls_the_table_not_the_page(browser: Browser, runs: dict[str, Path]) -> None:
    page = visit(browser, runs["accepted"], width=360).page
    inside = page.eval_on_selector("#figures .scroll", "node => [node.clientWidth, node.scrollWidth, node.tabIndex]")
    assert inside[0] <= 328 < inside[1]
    assert inside[2] == 0
    page.context.close()


def test_print_is_black_on_white_with_every_table_open(browser: Browser, runs: dict[str, Path]) -> None:
    page = visit(browser, runs["accepted"], "dark").page
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.eval_on_selector_all("details", "nodes => nodes.every(node => node.open)")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("nav")
    assert low_contrast(page) == []
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.eval_on_selector_all("details", "nodes => nodes.every(node => !node.open)")
    page.context.close()


def test_without_scripts_everything_is_there(browser: Browser, runs: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((runs["accepted"] / "report.html").as_uri())
    assert page.is_visible("text=1.4x SLOWER")
    assert not page.is_visible("#theme")
    assert page.locator("#cost svg[role=img]").count() == 4
    context.close()
