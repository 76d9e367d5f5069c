"""Everyone gets at the page: keyboard, screen reader, light and dark, a phone; and it keeps the report's colours."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest
from page_person import Person, alone, at_the_page, picture
from page_stub import Answer, described, stub
from playwright.sync_api import Browser, Page, expect

from chromium import CONTRAST, OUTSIDE, until

CONTROLS = {"button", "textbox", "combobox", "checkbox", "link", "spinbutton", "switch", "article", "dialog", "img",
            "image", "form", "list", "region", "group", "Iframe"}  # fmt: skip


def talked(person: Person) -> None:
    """A page in use: a picture sent, two answers beside each other, code, and a picture to send."""
    page = person.page
    page.get_by_role("checkbox", name="Compare with the original").check()
    page.locator("#files").set_input_files(picture("first.png"))
    expect(page.get_by_role("img")).to_have_count(1)
    long = "averyveryverylongwordthatfitsnowhere" * 6
    person.server.script = [Answer((f"A circle. {long}\n```\n{long} = 1\n```\nDone.",)), Answer(reason="length")]
    person.ask("What is it?")
    expect(person.answers.nth(1)).to_contain_text("ended at the most tokens")
    page.locator("#files").set_input_files([picture("a_rather_long_name_of_a_file" * 4 + ".png"), picture("b.png")])
    expect(page.get_by_role("button", name="Remove b.png")).to_be_visible()
    page.locator("#files").set_input_files(
        [{"name": "x.txt", "mimeType": "text/plain", "buffer": b""}, picture("c.png"), picture("d.png")]
    )
    expect(page.locator("#notice")).not_to_be_empty()


def legible(page: Page, least: int) -> None:
    found = page.evaluate(CONTRAST)
    assert len(found) >= least
    assert [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5] == []


def fits(page: Page) -> None:
    width = page.evaluate("innerWidth")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser: Browser, theme: Any) -> None:
    with alone(browser, color_scheme=theme) as person:
        page = person.page
        legible(page, 12)
        talked(person)
        for width in (320, 390, 768, 1440):
            page.set_viewport_size({"width": width, "height": 800})
            fits(page)
            legible(page, 30)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == {"light": "rgb(251, 251, 249)", "dark": "rgb(20, 23, 26)"}[theme]
        for opens, closes in (("Settings", "Cancel"), ("Report", "Close")):
            page.set_viewport_size({"width": 320, "height": 640})
            person.press(opens)
            expect(page.get_by_role("dialog")).to_be_visible()
            assert page.evaluate("document.querySelector('dialog[open]').getBoundingClientRect().right") <= 320
            legible(page, 30)
            person.press(closes)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_went_wrong_can_be_read_too(browser: Browser, theme: Any) -> None:
    with stub() as server, at_the_page(browser, server, color_scheme=theme) as person:
        person.page.clock.install()
        person.page.reload()
        expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
        server.script = [Answer(("Half",), error="the engine stopped")]
        person.ask("What is it?")
        expect(person.page.get_by_text("the engine stopped")).to_be_visible()
        person.page.route("**/trimtab/status", lambda route: route.abort())
        person.page.clock.run_for(4100)
        expect(person.page.locator("#status")).to_have_text("The server cannot be reached.")
        legible(person.page, 12)


def test_on_a_phone_two_answers_stand_under_each_other(browser: Browser) -> None:
    with alone(browser, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True) as person:
        talked(person)
        upper, lower = (person.answers.nth(at).bounding_box() for at in (0, 1))
        assert upper is not None
        assert lower is not None
        assert upper["x"] == lower["x"]
        assert upper["y"] + upper["height"] <= lower["y"]
        fits(person.page)
        small = (
            "() => [...document.querySelectorAll('button, select')].filter((n) => n.offsetWidth && n.offsetHeight < 32)"
        )
        assert person.page.evaluate(f"({small})().map((node) => node.textContent)") == []


def test_the_theme_follows_the_system_until_it_is_chosen(browser: Browser) -> None:
    dark = "getComputedStyle(document.documentElement).colorScheme === 'dark'"
    with alone(browser, color_scheme="light") as person:
        page = person.page
        page.emulate_media(color_scheme="dark")
        assert page.evaluate(dark)
        person.press("Light theme")
        assert not page.evaluate(dark)
        page.reload()
        expect(page.get_by_role("button", name="Dark theme")).to_be_visible()
        assert not page.evaluate(dark)


FOCUS = """() => {
  const node = document.activeElement;
  if (node === document.body) return ["body", true, false];
  const style = getComputedStyle(node.closest(".composer:has(textarea:focus-visible)") || node);
  const ring = style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2;
  const box = node.getBoundingClientRect();
  const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
  const seen = box.width > 1 && (node.contains(hit) || hit?.closest("label")?.contains(node));
  return [node.getAttribute("aria-label") || node.textContent.trim() && node.tagName === "BUTTON" && node.textContent
    || node.id, ring, Boolean(seen)];
}"""


def test_the_keyboard_gets_everywhere_and_it_is_seen_where_it_is(browser: Browser) -> None:
    with alone(browser, viewport={"width": 1200, "height": 500}) as person:
        page = person.page
        talked(person)
        person.question.focus()
        met: list[str] = []
        for _ in range(40):
            page.keyboard.press("Tab")
            name, ring, seen = page.evaluate(FOCUS)
            if name == "body":
                continue
            if name in met:
                break
            assert ring, name
            assert seen, f"{name} has the focus and is covered"
            met.append(name)
        focusable = page.evaluate("""[...document.querySelectorAll("a, button, select, textarea, input")]
          .filter((node) => node.offsetWidth && !node.disabled && !node.closest("dialog")).length""")
        assert len(met) == focusable == 16
        assert {"model", "compare", "Report", "Settings", "question", "Add pictures", "Send", "Retry shapes",
                "Copy the answer of shapes-w4", "Remove b.png"} <= set(met)  # fmt: skip


def test_a_whole_conversation_by_keyboard_alone(browser: Browser) -> None:
    with alone(browser) as person:
        keys = person.page.keyboard
        keys.type("What is it?")
        keys.press("Enter")
        person.answered("It is a circle.")
        person.server.script = [Answer(("Some", "more"), halt=1), Answer(("All of it.",))]
        keys.type("More?")
        keys.press("Enter")
        expect(person.answers.last.locator(".text")).to_have_text("Some")
        keys.press("Escape")
        person.answered("Some")
        for _ in range(30):
            keys.press("Shift+Tab")
            if person.page.evaluate("document.activeElement.textContent") == "Retry":
                break
        keys.press("Enter")
        person.answered("All of it.")
        expect(person.question).to_be_focused()


def named(page: Page) -> tuple[list[str], set[str]]:
    """What a screen reader meets without a name, and all that it meets with one."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    bare, names = [], set()
    for node in nodes:
        role = node.get("role", {}).get("value", "")
        name = node.get("name", {}).get("value", "")
        if node.get("ignored") or role not in CONTROLS:
            continue
        if not name.strip():
            bare.append(f"{role} {node.get('backendDOMNodeId')}")
        names.add(f"{role}: {name}")
    return bare, names


def test_a_screen_reader_has_a_name_for_everything(browser: Browser) -> None:
    with alone(browser) as person:
        talked(person)
        bare, names = named(person.page)
        assert bare == []
        assert {"combobox: Model", "textbox: Question", "button: Send", "article: shapes-w4", "article: shapes",
                "region: Conversation", "form: Your question", "button: Retry shapes-w4"} <= names  # fmt: skip
        person.press("Settings")
        bare, names = named(person.page)
        assert bare == []
        assert "dialog: Settings" in names
        assert any(name.startswith("spinbutton: Temperature") for name in names)
        heads = person.page.locator("#app h1, #app h2, #app h3").evaluate_all("nodes => nodes.map(n => n.tagName)")
        assert heads[0] == "H1"
        assert all(int(after[1]) - int(before[1]) <= 1 for before, after in pairwise(heads))


def test_nothing_moves_for_who_wants_that(browser: Browser) -> None:
    with alone(browser, reduced_motion="reduce") as person:
        person.server.script = [Answer(("A", " b"), halt=1)]
        person.ask("What is it?")
        expect(person.answers.last).to_contain_class("is-streaming")
        assert person.page.evaluate("document.getAnimations().length") == 0
        person.server.go.set()
        person.answered("A b")


def test_reading_back_is_not_pulled_to_the_end(browser: Browser) -> None:
    with alone(browser, viewport={"width": 900, "height": 500}) as person:
        person.server.script = [Answer(("line\n" * 60, "more\n" * 60, "end"), halt=1, again=2)]
        person.ask("What is it?")
        expect(person.answers.last).to_contain_text("line")
        page = person.page
        until(page, "document.scrollingElement.scrollHeight - scrollY - innerHeight < 2")  # it follows
        page.mouse.move(400, 200)
        page.mouse.wheel(0, -600)
        until(page, "document.scrollingElement.scrollHeight - scrollY - innerHeight > 599")  # all of the wheel
        before = page.evaluate("scrollY")
        person.server.go.set()
        expect(person.answers.last).to_contain_text("more")  # as it streams
        person.server.go.set()
        expect(person.answers.last).to_contain_text("end")
        expect(person.answers.last).not_to_have_attribute("aria-busy", "true")
        assert page.evaluate("new Promise((done) => requestAnimationFrame(() => done(scrollY)))") == before


def test_without_scripts_it_says_what_to_do(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server, ready=False, java_script_enabled=False) as person:
        assert "needs JavaScript" in person.page.locator("noscript").inner_text()
        assert not person.page.locator("#app").is_visible()


def test_a_server_without_a_model_that_chats_says_so(browser: Browser) -> None:
    with stub() as server:
        server.models = [described("vectors", "original", chat=False)]
        with at_the_page(browser, server, ready=False) as person:
            expect(person.page.get_by_text("No model of this server chats.")).to_be_visible()
            expect(person.page.get_by_role("button", name="Send")).to_be_disabled()


def palettes(text: str) -> list[dict[str, str]]:
    """The colours of each theme's rule, in the order of a style sheet."""
    rules = [body for body in re.findall(r"\{([^{}]*)\}", text) if "color-scheme:" in body and "--paper" in body]
    return [dict(re.findall(r"(--[\w-]+):\s*(#\w+)", body)) for body in rules]


def test_the_colours_are_the_report_s() -> None:
    root = files("trimtab")
    report = palettes((root / "report" / "templates" / "style.css").read_text())
    page = palettes((root / "serve" / "page" / "style.css").read_text())
    assert len(page) == 3
    own = {"--edge", "--fill", "--on-fill"}
    for ours, theirs in zip(page, report, strict=False):
        assert {name: value for name, value in ours.items() if name not in own}.items() <= theirs.items()
    assert page[1] == page[2]


def test_nothing_is_written_as_markup_or_styled_in_place() -> None:
    for file in (files("trimtab") / "serve" / "page").iterdir():
        text = file.read_text()
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), file.name
        if file.name.endswith(".html"):
            assert not re.search(r"\sstyle=|\son\w+=|<style|<script>", text)
            assert not re.search(r"(src|href)=\"(https?:)?//", text)
