"""A question on its way out: pictures that are still read, what is refused, what fails, and what a retry may lose."""

from __future__ import annotations

from typing import Any

import pytest
from page_person import HOLD, alone, at_the_page, picture
from page_stub import Answer, Refuse, described, stub
from playwright.sync_api import Browser, Route, expect

from trimtab.serve.pictures import LONGEST

ENTER = (
    "(how) => document.getElementById('question').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', ...how}))"
)


def pictures(asked: dict[str, Any]) -> int:
    """How many a request has, all its messages together."""
    parts = [
        part for message in asked["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    return sum(part["type"] == "image_url" for part in parts)


def test_a_question_sent_twice_while_its_picture_is_read_is_asked_once(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.evaluate(HOLD)
        person.give(picture())
        expect(person.notice).to_have_text("Reading the picture…")
        person.question.fill("What is it?")
        person.question.press("Enter")
        person.question.press("Enter")
        person.press("Send")
        person.question.press_sequentially(" And why?")
        person.page.evaluate("read()")
        person.answered("It is a circle.")
        expect(person.answers).to_have_count(1)
        expect(person.question).to_have_value("")
        expect(person.notice).to_be_empty()
        (asked,) = person.server.asked
        assert asked["messages"][-1]["content"][1]["text"] == "What is it? And why?", "no word that was typed is lost"
        assert pictures(asked) == 1


def test_a_question_whose_picture_cannot_be_read_is_not_sent_without_it(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.evaluate(HOLD)
        person.give(picture() | {"buffer": picture()["buffer"][:40]}, picture("good.png"))
        expect(person.notice).to_have_text("Reading the pictures…")
        person.ask("What is it?")
        person.page.evaluate("read()")
        expect(person.notice).to_have_text("cat.png is not taken: it is damaged, or no picture.")
        expect(person.question).to_have_value("What is it?")
        assert person.server.asked == []
        person.question.press("Enter")
        person.answered("It is a circle.")


def test_a_picture_that_is_read_leaves_the_focus_where_it_is(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.evaluate(HOLD)
        person.give(picture())
        person.page.get_by_label("Model", exact=True).focus()
        person.page.evaluate("read()")
        expect(person.tray).to_be_visible()
        expect(person.page.get_by_label("Model", exact=True)).to_be_focused()


def test_a_key_that_is_held_sends_nothing_and_an_input_method_s_neither(browser: Browser) -> None:
    with alone(browser) as person:
        person.question.fill("What is it?")
        person.page.evaluate(ENTER, {"repeat": True})
        person.page.evaluate(ENTER, {"keyCode": 229})
        person.page.evaluate(ENTER, {"isComposing": True})
        expect(person.question).to_have_value("What is it?")
        person.question.press("Enter")
        person.answered("It is a circle.")
        assert len(person.server.asked) == 1


def test_who_asks_while_it_answers_is_told_to_wait_in_sight(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.script = [Answer(("A", " b"), halt=1)]
        person.ask("first")
        person.ask("second")
        expect(person.notice).to_have_text("Wait for the answer, or stop it with Escape.")
        person.server.go.set()
        person.answered("A b")
        expect(person.notice).to_be_empty()
        expect(person.question).to_have_value("second")


def test_pictures_of_what_runs_count_and_all_are_counted_again_when_sent(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.script = [Answer(halt=0)]
        person.give(*(picture(f"{name}.png") for name in "abc"))
        person.ask("first")
        person.give(picture("d.png"))
        expect(person.notice).to_have_text("The server takes 3 pictures in a conversation: d.png was left out.")
        person.server.go.set()
        person.answered("It is a circle.")
        person.press("New chat")
        person.give(picture("e.png"), picture("f.png"))
        expect(person.tray.get_by_role("img")).to_have_count(2)
        person.press("Bring the last conversation back")
        words = "The server takes 3 pictures in a conversation: remove 2, or begin a new chat."
        expect(person.notice).to_have_text(words)
        person.ask("second")
        expect(person.notice).to_have_text(words)
        expect(person.question).to_have_value("second")
        assert len(person.server.asked) == 1
        person.press("Remove e.png")
        person.press("Remove f.png")
        person.question.press("Enter")
        person.answered("It is a circle.")
        assert [pictures(asked) for asked in person.server.asked] == [3, 3]


def test_what_the_server_refuses_comes_back_to_be_changed(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        server.script = [Refuse(413, "too large"), Answer()]
        person.give(picture())
        expect(person.tray).to_be_visible()
        person.ask("What is it?")
        expect(person.answers.last.locator(".wrong")).to_have_text("The server refused it: too large")
        expect(person.question).to_have_value("What is it?")
        expect(person.tray.get_by_role("img", name="cat.png")).to_be_visible()
        expect(person.page.locator(".asked").get_by_role("img", name="cat.png")).to_be_visible()
        person.question.press("Enter")
        person.answered("It is a circle.")
        expect(person.tray).to_be_hidden()
        assert [pictures(asked) for asked in server.asked] == [1, 1]
        assert server.asked[0] == server.asked[1], "what was refused is not told again"


def test_what_was_begun_since_is_not_overwritten_by_what_comes_back(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        refusals: list[Route] = []
        person.page.route("**/v1/chat/completions", lambda route: refusals.append(route))
        with person.page.expect_request("**/v1/chat/completions"):
            person.ask("first")
        person.question.fill("second")
        refusals[0].fulfill(status=400, json={"error": {"message": "no"}})
        expect(person.answers.last.locator(".wrong")).to_have_text("The server refused it: no")
        expect(person.question).to_have_value("second")


def test_pictures_of_sides_that_the_server_refuses_are_not_taken(browser: Browser) -> None:
    with alone(browser) as person:
        person.give(picture("line.png", (LONGEST * 2 + 1, 2)), picture("wide.png", (LONGEST * 2, 2)))
        words = f"line.png is not taken: {LONGEST * 2 + 1} × 2; the server takes sides of at most 1 to {LONGEST}."
        expect(person.notice).to_have_text(words)
        expect(person.tray.get_by_role("img")).to_have_count(1)


@pytest.mark.parametrize("how", ["refused", "lost", "stopped"])
def test_a_retry_that_says_nothing_leaves_the_answer_of_before(browser: Browser, how: str) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        then = {"refused": Refuse(500, "boom"), "lost": Answer((), cut=True), "stopped": Answer(("No",), halt=0)}[how]
        server.script = [Answer(("A good answer.",)), then, Answer(("Another.",), halt=0), Answer()]
        person.ask("What is it?")
        person.answered("A good answer.")
        person.press("Retry shapes-w4")
        if how == "stopped":
            assert server.halted.wait(5)
            expect(person.answers.last.locator(".text")).to_have_text("A good answer.")
            person.page.keyboard.press("Escape")
        shown = person.answered("A good answer.")
        expect(shown).to_contain_text("he answer of before stands.")
        expect(shown).to_contain_text("41.3 tokens per second")
        server.go.clear()
        server.halted.clear()
        person.press("Retry shapes-w4")
        assert server.halted.wait(5)
        server.go.set()
        person.answered("Another.")
        person.ask("And?")
        person.answered("It is a circle.")
        assert [message["content"] for message in server.asked[-1]["messages"]] == ["What is it?", "Another.", "And?"]


def test_seconds_to_wait_do_not_stand_still_beside_a_question_that_was_left(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        server.script = [Refuse(429, "full", {"Retry-After": "60"}), Answer()]
        person.ask("first")
        expect(person.answers.first.locator(".wrong")).to_contain_text("Retry in 60 s.")
        person.press("New chat")
        person.press("Bring the last conversation back")
        expect(person.page.get_by_role("button", name="Retry shapes-w4")).to_be_enabled()
        person.ask("second")
        person.answered("It is a circle.")
        expect(person.answers.first.locator(".wrong")).to_have_text("The server has no room now: full")


def test_a_conversation_that_was_left_is_not_told_of(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.evaluate("""() => {
          window.heard = [];
          new MutationObserver(([{ target }]) => window.heard.push(target.textContent))
            .observe(document.getElementById("said"), { childList: true });
        }""")
        person.server.script = [Answer(("A", " b"), halt=1), Answer(("Anew.",))]
        person.ask("What is it?")
        expect(person.answers.last.locator(".text")).to_have_text("A")
        person.press("New chat")
        person.ask("And now?")
        person.answered("Anew.")
        expect(person.page.locator("#said")).to_have_text("shapes-w4 answered: Anew.")
        assert set(person.page.evaluate("window.heard")) - {""} == {"shapes-w4 answered: Anew."}


def test_what_another_model_broke_off_is_no_answer_of_this_one_s(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        server.models = [described("one", "trimmed"), described("two", "trimmed")]
        person.page.reload()
        expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
        server.script = [Answer(("Whole.",)), Answer(("Half",), error="gone"), Answer(), Answer()]
        for words in ("first", "second"):
            person.ask(words)
            expect(person.answers.last).not_to_have_attribute("aria-busy", "true")
        expect(person.answers.last.locator(".wrong")).to_be_visible()
        person.page.get_by_label("Model", exact=True).select_option("two")
        person.ask("third")
        person.answered("It is a circle.")
        assert [message["content"] for message in server.asked[-1]["messages"]] == ["first", "Whole.", "third"]


@pytest.mark.parametrize("temperature", ["", "0.5"])
def test_answers_that_were_drawn_by_chance_get_no_verdict(browser: Browser, temperature: str) -> None:
    with alone(browser) as person:
        person.press("Settings")
        person.page.get_by_label("Temperature").fill(temperature)
        person.press("Save")
        words = {"": "the server's temperature", "0.5": "temperature 0.5"}[temperature]
        expect(person.page.locator("#set")).to_have_text(f"Asked with {words}")
        person.page.get_by_role("checkbox", name="Compare with the original").check()
        person.ask("What is it?")
        person.answered("It is a circle.")
        expect(person.page.get_by_text("Words were drawn by chance")).to_be_visible()
        expect(person.page.get_by_text("Both said the same.")).to_have_count(0)
        assert [asked.get("temperature", "") for asked in person.server.asked] == [float(temperature or 0) or ""] * 2
