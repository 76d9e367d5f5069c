"""Asking and answering on the page, as a person does it: headless Chromium, and a server that is told what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_person import alone, at_the_page
from page_stub import Answer, Refuse, stub
from playwright.sync_api import Browser, expect

from report.fixture import make
from trimtab.report import render


def test_words_are_seen_before_the_last_has_come_then_the_numbers(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.script = [Answer(("A red", " circle", " on white."), halt=2)]
        person.ask("What is it?")
        shown = person.answers.last
        expect(shown.locator(".text")).to_have_text("A red circle")
        expect(shown).to_have_attribute("aria-busy", "true")
        said = person.page.locator("#said")
        assert "circle" not in str(said.text_content()), "a screen reader is not told each piece"
        expect(shown.get_by_role("list", name="Numbers")).to_contain_text("to the first token, seen from here")
        person.server.go.set()
        person.answered("A red circle on white.")
        numbers = ["41.3 tokens per second", "420 ms to the first token", "3 tokens", "32 of 64 picture tokens kept"]
        expect(shown.get_by_role("list", name="Numbers").get_by_role("listitem")).to_have_text(numbers)
        on = ["weights: 4 bits (gptq)", "tokens: divprune keep 0.5", "engine: plan"]
        expect(shown.get_by_role("list", name="What is on").get_by_role("listitem")).to_have_text(on)
        expect(said).to_have_text("shapes-w4 answered: A red circle on white.")
        expect(person.question).to_be_focused()
        expect(person.question).to_have_value("")
        (asked,) = person.server.asked
        assert asked == {"model": "shapes-w4", "messages": [{"role": "user", "content": "What is it?"}],
                         "stream": True, "stream_options": {"include_usage": True}, "temperature": 0}  # fmt: skip


def test_shift_enter_begins_a_line_and_nothing_is_not_sent(browser: Browser) -> None:
    with alone(browser) as person:
        person.question.press("Enter")
        expect(person.page.locator("#notice")).to_have_text("Write a question first.")
        person.question.press_sequentially("one")
        person.question.press("Shift+Enter")
        person.question.press_sequentially("two")
        person.press("Send")
        person.answered("It is a circle.")
        assert person.server.asked[0]["messages"][0]["content"] == "one\ntwo"
        expect(person.page.locator("#notice")).to_be_empty()
        assert len(person.server.asked) == 1


def test_a_second_question_sends_the_conversation_and_a_new_one_does_not(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.script = [Answer(("One.",)), Answer(("Two.",)), Answer(("Three.",))]
        person.ask("first")
        person.answered("One.")
        person.ask("second")
        person.answered("Two.")
        turns = [(m["role"], m["content"]) for m in person.server.asked[1]["messages"]]
        assert turns == [("user", "first"), ("assistant", "One."), ("user", "second")]
        person.press("New chat")
        expect(person.answers).to_have_count(0)
        person.press("Bring the last conversation back")
        expect(person.answers).to_have_count(2)
        person.press("New chat")
        person.ask("third")
        person.answered("Three.")
        assert [m["content"] for m in person.server.asked[2]["messages"]] == ["third"]


@pytest.mark.parametrize("by", ["Escape", "button"])
def test_stop_leaves_the_server_and_keeps_what_came(browser: Browser, by: str) -> None:
    with alone(browser) as person:
        person.server.script = [Answer(("A red", " circle", " never said"), halt=2), Answer(("Again.",))]
        person.ask("What is it?")
        expect(person.answers.last.locator(".text")).to_have_text("A red circle")
        person.page.keyboard.press("Enter")
        if by == "Escape":
            person.page.keyboard.press("Escape")
        else:
            person.press("Stop")
        person.answered("A red circle")
        assert person.server.left.wait(5), "the server was not told"
        expect(person.answers.last.get_by_role("list", name="Numbers")).to_contain_text("stopped")
        expect(person.question).to_be_focused()
        assert len(person.server.asked) == 1, "Enter while it answers asks nothing"
        person.press("Retry shapes-w4")
        person.answered("Again.")
        expect(person.answers).to_have_count(1)
        expect(person.page.get_by_role("button", name="Stop")).to_be_hidden()
        assert person.server.asked[0] == person.server.asked[1]


def test_only_the_last_answer_is_asked_again_in_its_place(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.script = [Answer(("One.",)), Answer(("Two.",)), Answer(("Two, otherwise.",)), Answer(("Three.",))]
        person.ask("first")
        person.answered("One.")
        person.ask("second")
        person.answered("Two.")
        expect(person.page.get_by_role("button", name="Retry shapes-w4")).to_have_count(1)
        person.press("Retry shapes-w4")
        person.answered("Two, otherwise.")
        expect(person.answers).to_have_count(2)
        assert person.server.asked[2] == person.server.asked[1]
        person.ask("third")
        person.answered("Three.")
        assert person.server.asked[3]["messages"][3] == {"role": "assistant", "content": "Two, otherwise."}


def test_both_models_answer_side_by_side_one_after_the_other(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.get_by_role("checkbox", name="Compare with the original").check()
        person.server.script = [Answer(("A circle.",), halt=1), Answer(("A round thing.",)), Answer(), Answer()]
        person.ask("What is it?")
        trimmed, original = person.answers.nth(0), person.answers.nth(1)
        expect(trimmed.locator(".text")).to_have_text("A circle.")
        expect(original).to_contain_text("Waits, so that neither slows the other")
        assert [asked["model"] for asked in person.server.asked] == ["shapes-w4"]
        person.server.go.set()
        person.answered("A round thing.")
        expect(trimmed).to_contain_text("41.3 tokens per second")
        expect(trimmed).to_contain_text("weights: 4 bits (gptq)")
        expect(original).to_contain_text("24.1 tokens per second")
        expect(original).to_contain_text("nothing trimmed")
        expect(person.page.get_by_text("The answers differ.")).to_be_visible()
        left, right = trimmed.bounding_box(), original.bounding_box()
        assert left is not None
        assert right is not None
        assert left["y"] == right["y"]
        assert left["x"] + left["width"] < right["x"]
        person.ask("And now?")
        person.answered("It is a circle.")
        told = [[m["content"] for m in asked["messages"]] for asked in person.server.asked[2:]]
        assert told == [["What is it?", "A circle.", "And now?"], ["What is it?", "A round thing.", "And now?"]]
        expect(person.page.get_by_text("Both said the same.")).to_be_visible()


def test_stop_stops_both(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.get_by_role("checkbox", name="Compare with the original").check()
        person.server.script = [Answer(("A", " b"), halt=1)]
        person.ask("What is it?")
        expect(person.answers.nth(0).locator(".text")).to_have_text("A")
        person.page.keyboard.press("Escape")
        expect(person.answers.nth(1)).to_contain_text("Stopped before the first word.")
        assert person.server.left.wait(5)
        assert len(person.server.asked) == 1


def test_what_a_model_writes_stays_text(browser: Browser) -> None:
    hostile = "<script>document.title = 'ran'</script><img src=x onerror=alert(1)> <b>bold</b>"
    with alone(browser) as person:
        person.server.script = [Answer((hostile + "\n\n```html\n<i>co", "de</i>\n```\nafter"))]
        person.ask("<u>hello</u>")
        shown = person.answers.last.locator(".text")
        expect(shown.locator("p")).to_have_text([hostile, "after"])
        expect(shown.locator("pre")).to_have_text("<i>code</i>")
        assert shown.locator("script, img, b, i").count() == 0
        assert person.page.locator(".asked u").count() == 0
        assert person.page.title() == "Trimtab"


def test_an_answer_is_copied(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        person.ask("What is it?")
        person.answered("It is a circle.")
        person.press("Copy the answer of shapes-w4")
        expect(person.page.locator("#said")).to_have_text("Copied")
        assert person.page.evaluate("navigator.clipboard.readText()") == "It is a circle."


def test_settings_are_sent_said_and_kept_over_a_reload(browser: Browser) -> None:
    with alone(browser) as person:
        page = person.page
        person.press("Settings")
        page.get_by_label("Temperature").fill("3")
        person.press("Save")
        expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
        page.get_by_label("Temperature").fill("0.5")
        page.get_by_label("Most tokens").fill("32")
        page.get_by_label("Seed").fill("7")
        page.get_by_label("System prompt").fill("Be brief.")
        person.press("Save")
        expect(page.get_by_role("button", name="Settings")).to_be_focused()
        page.reload()
        expect(page.locator("#set")).to_have_text(
            "Asked with temperature 0.5, at most 32 tokens, seed 7, a system prompt"
        )
        expect(page.get_by_role("button", name="Send")).to_be_enabled()
        person.ask("What is it?")
        person.answered("It is a circle.")
        (asked,) = person.server.asked
        assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (asked["temperature"], asked["max_tokens"], asked["seed"]) == (0.5, 32, 7)
        assert page.evaluate("Object.keys(sessionStorage)") == ["trimtab.settings"]
        assert page.evaluate("localStorage.length + document.cookie.length") == 0


WRONG = [
    (Refuse(400, "", body='{"error": {}}'), "", "The server refused it: status 400 Bad Request"),
    (Refuse(400, "", body='{"error": "no such model"}'), "", "The server refused it: no such model"),
    (Refuse(502, "", body="null"), "", "The server failed: status 502 Bad Gateway"),
    (Answer(("Half",), raw='{"error": "gone"}'), "Half", "The answer broke off: gone"),
    (Answer(("Half",), raw='{"error": {}}'), "Half", "The answer broke off: the server does not say why."),
    (Refuse(500, "out of memory"), "", "The server failed: out of memory"),
    (Refuse(400, "messages: too long"), "", "The server refused it: messages: too long"),
    (Answer(("Half an",), error="the engine stopped"), "Half an", "The answer broke off: the engine stopped"),
    (
        Answer(("Half an",), halt=1, cut=True),
        "Half an",
        "The connection to the server was lost before the answer was whole.",
    ),
]


@pytest.mark.parametrize(("wrong", "text", "words"), WRONG)
def test_what_goes_wrong_is_said_beside_the_answer_and_can_be_retried(
    browser: Browser, wrong: Answer | Refuse, text: str, words: str
) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        server.script = [wrong, Answer(("Whole.",))]
        person.ask("What is it?")
        expect(person.answers.last.locator(".text")).to_have_text(text)
        server.go.set()
        shown = person.answered(text)
        expect(shown.locator(".wrong")).to_have_text(words)
        server.go.clear()
        expect(person.page.locator("#said")).to_have_text(f"shapes-w4: {words}")
        person.press("Retry shapes-w4")
        person.answered("Whole.")
        expect(shown.locator(".wrong")).to_be_hidden()
        assert server.asked[0] == server.asked[1]


def test_a_question_without_answer_is_not_told_to_the_model_again(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        server.script = [Refuse(500, "no"), Answer()]
        person.ask("first")
        expect(person.answers.last.locator(".wrong")).to_be_visible()
        person.ask("second")
        person.answered("It is a circle.")
        assert [m["content"] for m in server.asked[1]["messages"]] == ["second"]


@pytest.mark.parametrize(
    ("status", "words"), [(429, "The server has no room now"), (503, "The server cannot answer now")]
)
def test_a_full_server_is_waited_for_by_the_second(browser: Browser, status: int, words: str) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        person.page.clock.install()
        server.script = [Refuse(status, "8 are waiting", {"Retry-After": "3"}), Answer()]
        person.ask("What is it?")
        wrong, retry = person.answers.last.locator(".wrong"), person.page.get_by_role("button", name="Retry shapes-w4")
        expect(wrong).to_have_text(f"{words}: 8 are waiting Retry in 3 s.")
        expect(retry).to_be_disabled()
        person.page.clock.run_for(1100)
        expect(wrong).to_contain_text("Retry in 2 s.")
        person.page.clock.run_for(2000)
        expect(wrong).to_contain_text("You can retry now.")
        retry.click()
        person.page.clock.run_for(200)
        person.answered("It is a circle.")


def test_the_token_is_asked_for_and_what_failed_goes_on(browser: Browser) -> None:
    with stub() as server:
        server.token = "open sesame"
        with at_the_page(browser, server, ready=False) as person:
            box = person.page.get_by_role("dialog", name="This server asks for a token")
            field = box.get_by_label("Token", exact=True)
            expect(field).to_be_focused()
            field.fill("wrong")
            field.press("Enter")
            expect(box.get_by_role("alert")).to_have_text("The server did not accept this token.")
            field.fill("open sesame")
            field.press("Enter")
            expect(box).to_be_hidden()
            expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
            server.token = "another"
            person.ask("What is it?")
            field.fill("another")
            field.press("Enter")
            person.answered("It is a circle.")
            assert person.page.evaluate("Object.keys(sessionStorage)") == ["trimtab.token"]
            assert person.page.evaluate("sessionStorage.getItem('trimtab.token')") == "another"


def test_who_has_no_token_can_give_it_later(browser: Browser) -> None:
    with stub() as server:
        server.token = "open sesame"
        with at_the_page(browser, server, ready=False) as person:
            expect(person.page.get_by_role("dialog")).to_be_visible()
            person.page.keyboard.press("Escape")
            person.press("Enter the token")
            person.page.get_by_label("Token", exact=True).fill("open sesame")
            person.press("Go on")
            expect(person.page.get_by_role("button", name="Send")).to_be_enabled()


def test_a_conversation_too_large_for_the_server_is_not_sent(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.limits = person.server.limits | {"body": 1000}
        person.page.reload()
        expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
        person.ask("long " * 300)
        expect(person.notice).to_contain_text("the server takes 1 kB at once")
        expect(person.question).to_have_value("long " * 300)
        expect(person.answers).to_have_count(0)
        assert person.server.asked == []


def test_the_report_is_shown_in_a_frame_with_a_link(browser: Browser) -> None:
    with alone(browser) as person:
        person.press("Report")
        box = person.page.get_by_role("dialog", name="Report of shapes-w4")
        expect(box.get_by_role("link", name="Open it by itself")).to_have_attribute("href", "trimtab/report/shapes-w4")
        expect(person.page.frame_locator("#report-frame").get_by_role("heading")).to_have_text("The run's report")
        person.press("Close")
        expect(box).to_be_hidden()
        expect(person.page.get_by_role("button", name="Report")).to_be_focused()
        person.page.get_by_label("Model", exact=True).select_option("words")
        expect(person.page.get_by_role("button", name="Report")).to_be_hidden()


def test_behind_a_token_the_report_is_shown_without_its_scripts(browser: Browser, tmp_path: Path) -> None:
    with stub() as server:
        run = make(tmp_path / "run", "accepted")
        render(run)
        server.token, server.report = "open sesame", (run / "report.html").read_text()
        with at_the_page(browser, server, ready=False) as person:
            person.page.get_by_label("Token", exact=True).fill("open sesame")
            person.press("Go on")
            person.complaints.clear()  # the 401
            person.press("Report")
            inside = person.page.frame_locator("#report-frame")
            expect(inside.get_by_text("1.4x SLOWER").first).to_be_visible()
            expect(inside.locator("#cost .still svg[role=img]").first).to_be_visible()
            expect(inside.locator(".live").first).to_be_hidden()
            expect(inside.locator("body")).to_have_css("background-color", "rgb(251, 251, 249)")
            inside.locator("a[href$='#stages']").last.click()
            expect(inside.locator("#stages")).to_be_in_viewport()
            link = person.page.get_by_role("link", name="Save it")
            with person.page.expect_download() as download:
                link.click()
            assert download.value.suggested_filename == "shapes-w4-report.html"
            assert person.complaints == []


def test_queue_and_memory_are_looked_at_only_while_the_page_is_seen(browser: Browser) -> None:
    with alone(browser) as person:
        page = person.page
        words = "Queue: 2 waiting, 1 running, room for 6 · Memory: 1.23 GB used, 14 GB free · 12 answered"
        expect(page.locator("#status")).to_have_text(words)
        page.clock.install()
        page.reload()
        expect(page.locator("#status")).to_have_text(words)
        looks = person.server.seen.count("/trimtab/status")
        page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
        page.clock.run_for(60_000)
        assert person.server.seen.count("/trimtab/status") == looks
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        with page.expect_response("**/trimtab/status"):
            page.clock.run_for(4100)
        assert person.server.seen.count("/trimtab/status") > looks


def test_models_of_a_server_that_came_back_are_read_anew(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server) as person:
        page = person.page
        page.clock.install()
        page.route("**/trimtab/status", lambda route: route.abort())
        page.reload()
        expect(page.locator("#status")).to_have_text("The server cannot be reached.")
        expect(page.get_by_role("button", name="Send")).to_be_disabled()
        page.unroute("**/trimtab/status")
        page.clock.run_for(4100)
        expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_the_picker_has_the_models_that_chat_and_asks_the_chosen_one(browser: Browser) -> None:
    with alone(browser) as person:
        picker = person.page.get_by_label("Model", exact=True)
        expect(picker.locator("option")).to_have_text(["shapes-w4 (trimmed)", "shapes (original)", "words (original)"])
        on = person.page.get_by_role("group", name="What is on")
        expect(on).to_contain_text("divprune keep 0.5")
        expect(on).to_contain_text("7.83 MB")
        picker.select_option("words")
        expect(on).to_contain_text("nothing trimmed")
        expect(person.page.get_by_role("checkbox")).to_be_hidden()
        person.ask("Hello")
        person.answered("It is a circle.")
        assert person.server.asked[0]["model"] == "words"
        person.page.reload()
        expect(picker).to_have_value("words")
