"""On paper, on a phone and in other scripts: what is printed, what is said of keys, and which way words run."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from page_person import alone, picture
from page_stub import Answer
from playwright.sync_api import Browser, expect

PHONE = {"viewport": {"width": 800, "height": 1200}, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("chosen", [False, True], ids=["of the system", "chosen"])
def test_a_dark_page_is_printed_dark_on_light_and_without_its_controls(browser: Browser, chosen: bool) -> None:
    with alone(browser, color_scheme="light" if chosen else "dark") as person:
        page = person.page
        if chosen:
            person.press("Dark theme")
        person.give(picture())
        person.ask("What is it?")
        person.answered("It is a circle.")
        ink, paper = "getComputedStyle(document.body).color", "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(paper) == "rgb(20, 23, 26)"
        page.emulate_media(media="print")
        assert page.evaluate(ink) == "rgb(27, 31, 36)"
        assert page.evaluate(paper) == "rgb(251, 251, 249)"
        assert page.locator("button:visible, select:visible, textarea:visible, #status:visible").count() == 0
        expect(page.get_by_role("heading", name="Trimtab")).to_be_visible()
        expect(page.locator(".asked").get_by_role("img", name="cat.png")).to_be_visible()
        expect(page.get_by_text("It is a circle.").first).to_be_visible()


def test_where_there_are_no_keys_none_are_spoken_of_and_send_stands_at_the_right(browser: Browser) -> None:
    with alone(browser, **PHONE) as person:
        expect(person.question).to_have_accessible_description("")
        send, bar = (person.page.locator(name).bounding_box() for name in ("#send", ".composer .bar"))
        assert send is not None
        assert bar is not None
        assert abs(send["x"] + send["width"] - bar["x"] - bar["width"]) < 1
    with alone(browser) as person:
        expect(person.question).to_have_accessible_description("Enter sends, Shift+Enter begins a line")


def test_words_run_as_their_letters_do(browser: Browser) -> None:
    arabic = "ما هذا الشكل؟"
    with alone(browser) as person:
        person.server.script = [Answer((f"{arabic}\n\nA circle.\n\n```\n{arabic} = 1\n```",))]
        person.question.fill(arabic)
        expect(person.question).to_have_css("direction", "rtl")
        person.question.press("Enter")
        expect(person.answers.last).not_to_have_attribute("aria-busy", "true")
        expect(person.page.locator(".asked p")).to_have_css("direction", "rtl")
        blocks = person.answers.last.locator(".text > *")
        assert blocks.evaluate_all("nodes => nodes.map((node) => getComputedStyle(node).direction)") == [
            "rtl", "ltr", "ltr"]  # fmt: skip


def test_a_copy_is_said_in_sight_whether_or_not_it_was_made(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.clock.install()
        person.ask("What is it?")
        expect(person.answers.last).not_to_have_attribute("aria-busy", "true")
        for result, words in (("resolve()", "Copied"), ("reject()", "The browser did not let it be copied")):
            person.page.evaluate(f"() => {{ navigator.clipboard.writeText = () => Promise.{result}; }}")
            person.press("Copy the answer of shapes-w4")
            expect(person.answers.last.locator(".done")).to_have_text(words)
            person.page.clock.run_for(100)
            expect(person.page.locator("#said")).to_have_text(words)
        person.page.clock.run_for(5000)
        expect(person.answers.last.locator(".done")).to_be_empty()


def test_spaces_at_an_end_are_not_looked_for_from_every_place() -> None:
    for file in (files("trimtab") / "serve" / "page").iterdir():
        assert not re.search(r"\\s[+*]\$", file.read_text()), f"{file.name}: quadratic in a run of spaces"
