"""The page in headless Chromium, as a person gets it: light and dark, a phone and a wide screen, keyboard and print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from chromium import CONTRAST, OUTSIDE, chromium, until
from report.fixture import RECIPE, VARIANTS, make, make_search
from trimtab.report import compare, pareto, render

# Text of a drawing that reaches out of it, and text that lies on other text.
CROWDED = """() => {
  const found = [];
  for (const drawing of document.querySelectorAll(".live, .still svg")) {
    const edge = drawing.getBoundingClientRect();
    if (!edge.width) continue;
    const words = [...drawing.querySelectorAll("text")]
      .filter((node) => node.textContent.trim() && !node.closest("title, desc, .hoverlayer"))
      .map((node) => [node.textContent, node.getBoundingClientRect()]).filter(([, box]) => box.width);
    for (const [text, box] of words) {
      const across = box.left < edge.left - 2 || box.right > edge.right + 2;
      if (across || box.bottom > edge.bottom + 3 || box.top < edge.top - 3) found.push(["out", text]);
    }
    words.forEach(([text, a], i) => words.slice(i + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 4) found.push([text, other]);
    }));
  }
  return found;
}"""


@dataclass
class Seen:
    """A page that is open, with all that it asked for and complained about."""

    page: Page
    file: Path
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


OTHERS = ("compare", "search")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    runs = {variant: make(root / variant, variant) for variant in VARIANTS}
    for variant, run in runs.items():
        render(run, with_samples=variant == "regression")
    compare.write([runs["accepted"], runs["regression"], make(root / "a-third-run")], root / "compare.html")
    found = {variant: run / "report.html" for variant, run in runs.items()}
    return found | {"compare": root / "compare.html", "search": pareto.write(make_search(root / "search"))}


def visit(browser: Browser, file: Path, theme: Any = "light", width: int = 1440, touch: bool = False) -> Seen:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, has_touch=touch)
    seen = Seen(context.new_page(), file)
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.goto(file.as_uri(), wait_until="load")
    drawn(seen.page)
    return seen


def drawn(page: Page) -> None:
    """Wait until every plot that is shown is drawn (by a selector: the page's policy lets nothing evaluate text)."""
    page.locator("html[data-drawn=all]").wait_for(state="attached")


def resize(page: Page, width: int) -> None:
    """Another width, until every drawing that is shown has it."""
    page.set_viewport_size({"width": width, "height": 900})
    fits = """() => [...document.querySelectorAll(".live")].every((live) => !live.offsetWidth || !live.data
      || Math.abs(live.querySelector("svg").getBoundingClientRect().width - live.clientWidth) < 1.5)"""
    until(page, fits)


def themed(page: Page, theme: Any) -> None:
    """The system's other theme, until every drawing follows it."""
    page.emulate_media(color_scheme=theme)
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
    until(page, f"[...document.querySelectorAll('.live')].every((l) => !l.data || l.layout.font.color === {ink})")


def low_contrast(page: Page) -> list[Any]:
    found = page.evaluate(CONTRAST)
    assert len(found) > 60
    return [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5]


@pytest.mark.parametrize("name", [*VARIANTS, *OTHERS])
def test_fits_asks_for_nothing_and_can_be_read(browser: Browser, pages: dict[str, Path], name: str) -> None:
    seen = visit(browser, pages[name])
    page = seen.page
    for width, theme in (
        (360, "light"),
        (1440, "dark"),
        (1440, "light"),
        (360, "dark"),
        (768, "light"),
        (1600, "dark"),
    ):
        resize(page, width)
        themed(page, theme)
        for opened in (False, True):
            page.evaluate("(open) => document.querySelectorAll('details').forEach((d) => { d.open = open; })", opened)
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width, (width, opened)
            assert page.evaluate(OUTSIDE) == [], (width, opened)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(20, 23, 26)") == (theme == "dark")
        assert low_contrast(page) == [], (width, theme)
        assert page.evaluate(CROWDED) == [], (width, theme)
    assert seen.complaints == []
    assert seen.requests == [pages[name].as_uri()]
    page.context.close()


@pytest.mark.parametrize("name", ["accepted", "language", "hostile", *OTHERS])
def test_every_choice_fits_too(browser: Browser, pages: dict[str, Path], name: str) -> None:
    seen = visit(browser, pages[name], width=360)
    page = seen.page
    for at in range(page.locator(".choose select").count()):
        select = page.locator(".choose select").nth(at)
        plot = select.locator("xpath=ancestor::figure")
        for choice in select.locator("option").all_text_contents():
            select.select_option(choice)
            shown = plot.locator(".panel:visible")
            assert {one.get_attribute("data-choice") for one in shown.all()} == {choice}
            assert plot.locator(".panel:visible .live .main-svg").count() >= shown.count()
            assert page.evaluate(CROWDED) == [], choice
            assert page.evaluate(OUTSIDE) == [], choice
    assert seen.complaints == []
    page.context.close()


def test_a_stranger_s_names_stay_text_in_a_plot(browser: Browser, pages: dict[str, Path]) -> None:
    seen = visit(browser, pages["hostile"])
    page = seen.page
    live = page.locator("#layers .live").first
    live.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        assert page.locator("#layers .hoverlayer text").count()
        assert page.locator(".live a, .live img, .live script").count() == 0
    live.evaluate("""(live) => {
      const odd = (tip) => tip.includes("<");
      const curve = live.data.findIndex((trace) => trace.customdata.some(odd));
      Plotly.Fx.hover(live, [{ curveNumber: curve, pointNumber: live.data[curve].customdata.findIndex(odd) }]);
    }""")
    expect(page.locator("#layers .hoverlayer").first).to_contain_text("<")
    assert seen.complaints == []
    page.context.close()


UNITS = {"%": 0.01, "B": 1, "bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9,
         "GFLOP": 1e9, "MFLOP": 1e6, "million": 1e6, "J": 1, "mJ": 1e-3, "W": 1, "items/s": 1, "": 1}  # fmt: skip


def read(text: str) -> float:
    """The number that a person reads, by a table of units of its own."""
    if text == "not finite":
        return float("nan")
    number, unit = re.fullmatch(r"([−\d.,]+) ?(\S*)", text).groups()  # type: ignore[union-attr]
    return float(number.replace(",", "").replace("−", "-")) * UNITS[unit]


@pytest.mark.parametrize("variant", ["accepted", "language", "regression", "missing"])
def test_numbers_are_those_of_the_readings(browser: Browser, pages: dict[str, Path], variant: str) -> None:
    seen = visit(browser, pages[variant])
    rows = [json.loads(line) for line in pages[variant].with_name("readings.jsonl").read_text().splitlines()]
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
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    pytest.fail(f"{selector}: not reached by the keyboard")


@pytest.mark.parametrize(("theme", "other"), [("light", "dark"), ("dark", "light")])
def test_keyboard_changes_the_theme_and_copies_the_recipe(
    browser: Browser, pages: dict[str, Path], theme: str, other: str
) -> None:
    seen = visit(browser, pages["accepted"], theme)
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
    until(page, "document.getElementById('said').textContent === 'Copied'")
    assert yaml.safe_load(page.evaluate("navigator.clipboard.readText()")) == yaml.safe_load(RECIPE)
    assert seen.complaints == []
    page.context.close()


def test_a_phone_scrolls_the_table_not_the_page(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["accepted"], width=360).page
    inside = page.eval_on_selector("#figures .scroll", "node => [node.clientWidth, node.scrollWidth, node.tabIndex]")
    assert inside[0] <= 328 < inside[1]
    assert inside[2] == 0
    page.context.close()


LIGHT = "(s) => getComputedStyle(document.documentElement).getPropertyValue(s).trim()"


def test_the_keyboard_goes_through_a_plot_and_says_its_marks(browser: Browser, pages: dict[str, Path]) -> None:
    seen = visit(browser, pages["accepted"])
    page = seen.page
    tab_to(page, "#cost .live")
    said, hover = page.locator("#said"), page.locator("#cost .live").first.locator(".hoverlayer")
    page.keyboard.press("ArrowRight")
    assert said.inner_text().startswith("before, Accuracy, easyvqa: 97.3 % (96.5 to 97.9 %), Weights: 7.83 MB")
    assert "97.3 %" in str(hover.text_content())
    page.keyboard.press("ArrowDown")
    assert said.inner_text().startswith("after a step: step 1 gptq, Accuracy, easyvqa: 97.0 %")
    page.keyboard.press("ArrowRight")
    assert said.inner_text().startswith("after a step: step 2 divprune")
    assert said.inner_text().endswith("(2 of 2)")
    page.keyboard.press("ArrowRight")
    assert said.inner_text().endswith("(2 of 2)"), "there is no third"
    page.keyboard.press("Home")
    assert said.inner_text().endswith("(1 of 2)")
    page.keyboard.press("ArrowUp")
    assert said.inner_text().startswith("before")
    page.keyboard.press("ArrowUp")
    assert said.inner_text().startswith("after, reloaded")
    ends = "() => [...document.querySelector('#cost .live').layout.xaxis.range]"
    whole = page.evaluate(ends)
    page.keyboard.press("+")
    near = page.evaluate(ends)
    assert near[1] - near[0] == pytest.approx((whole[1] - whole[0]) / 2)
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert page.evaluate(ends)[1] - page.evaluate(ends)[0] == pytest.approx((whole[1] - whole[0]) * 2)
    page.keyboard.press("0")
    assert page.evaluate(ends) == whole
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")
    assert hover.text_content() == ""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('.live')"), "the next plot, not the first again"
    assert page.evaluate("document.activeElement.dataset.chart") == "cost-1"
    assert seen.complaints == []
    page.context.close()


def test_the_pointer_is_told_the_same(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["search"]).page
    live = page.locator(".live").nth(1)
    live.scroll_into_view_if_needed()
    box = live.locator(".scatterlayer .trace path.point").last.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    until(page, "document.querySelectorAll('.hoverlayer text').length > 0")
    text = str(live.locator(".hoverlayer").text_content())
    assert "gptq" in text
    assert "divprune" in text
    page.context.close()


def test_the_key_hides_and_shows_a_series_everywhere(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["accepted"]).page
    button = page.locator("#time .legend button", has_text="before")
    count = """() => [...document.querySelectorAll("#time .live")]
      .map((live) => live.data.filter((trace) => trace.visible !== false).length)"""
    whole = page.evaluate(count)
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert page.locator("#said").inner_text() == "before: hidden"
    assert page.evaluate(count) == [number / 2 for number in whole]
    button.click()
    assert page.evaluate(count) == whole
    page.context.close()


def test_plots_follow_the_theme_as_it_changes(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["accepted"], "light").page
    mark = "() => document.querySelector('#cost .live').data.at(-1).marker.color"
    for theme in ("light", "dark"):
        themed(page, theme)
        assert page.evaluate(mark) == page.evaluate(LIGHT, "--after") == {"light": "#0072b2", "dark": "#56b4e9"}[theme]
    page.locator("#theme").click()
    assert page.evaluate(mark) == page.evaluate(LIGHT, "--after") == "#0072b2"
    page.context.close()


def test_on_a_touch_screen_a_drag_scrolls_the_page(browser: Browser, pages: dict[str, Path]) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(pages["accepted"].as_uri())
    drawn(page)
    assert page.evaluate("document.querySelector('.live').layout.dragmode") is False
    context.close()


def test_print_is_black_on_white_with_every_table_open(browser: Browser, pages: dict[str, Path]) -> None:
    page = visit(browser, pages["accepted"], "dark").page
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.eval_on_selector_all("details", "nodes => nodes.every(node => node.open)")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("nav")
    assert not page.is_visible(".live")
    assert page.locator(".still svg[role=img]:visible").count() == page.locator(".still svg[role=img]").count()
    assert low_contrast(page) == []
    assert page.evaluate(CROWDED) == []
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.eval_on_selector_all("details", "nodes => nodes.every(node => !node.open)")
    page.context.close()


def test_without_scripts_everything_is_there(browser: Browser, pages: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["accepted"].as_uri())
    assert page.is_visible("text=1.4x SLOWER")
    assert not page.is_visible("#theme")
    assert page.locator("#cost .still svg[role=img]:visible").count() == 4
    assert page.locator("#roofline .still svg[role=img]:visible").count() == 4
    assert not page.is_visible(".live")
    assert not page.is_visible(".choose")
    assert page.evaluate(CROWDED) == []
    context.close()
