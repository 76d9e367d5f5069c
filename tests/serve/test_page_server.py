"""What the page makes of a server that is started anew, hangs, has no model yet, or serves an original."""

from __future__ import annotations

import json

from page_person import alone, at_the_page, picture
from page_stub import MODELS, described, stub
from playwright.sync_api import Browser, expect

PASTE = """([kind, data, name, text]) => {
  const given = new DataTransfer();
  given.items.add(new File([Uint8Array.from(data)], name, { type: kind }));
  if (text) given.setData("text/plain", text);
  document.getElementById("question").dispatchEvent(
    new ClipboardEvent("paste", { clipboardData: given, bubbles: true, cancelable: true }));
}"""
# The page's patience ends when a test says so: ``late()``.
PATIENCE = """AbortSignal.timeout = () => {
  const control = new AbortController();
  window.late = () => control.abort(new DOMException("late", "TimeoutError"));
  return control.signal;
}"""


def test_a_server_that_was_started_between_two_looks_has_its_models_read_anew(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server, ready=False) as person:
        page = person.page
        page.clock.install()
        page.reload()
        picker = page.get_by_label("Model", exact=True).locator("option")
        expect(picker).to_have_count(3)
        server.models, server.seconds = [described("new", "trimmed")], 1.0
        page.clock.run_for(4100)
        expect(picker).to_have_text(["new (trimmed)"])
        server.seconds = 5.0
        with page.expect_response("**/trimtab/status"):
            page.clock.run_for(4100)
        reads = server.seen.count("/trimtab/models")
        page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
        page.clock.run_for(3_600_000)  # an hour behind other tabs, in which it was started again
        server.models, server.seconds = MODELS, 60.0
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        page.clock.run_for(4100)
        expect(picker).to_have_count(3)
        assert server.seen.count("/trimtab/models") == reads + 1


def test_that_no_model_chats_is_said_until_one_does(browser: Browser) -> None:
    with stub() as server:
        server.models = [described("vectors", "original", chat=False)]
        with at_the_page(browser, server, ready=False) as person:
            person.page.clock.install()
            person.page.reload()
            expect(person.notice).to_have_text("No model of this server chats.")
            server.models, server.seconds = MODELS, 0.5
            person.page.clock.run_for(4100)
            expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
            expect(person.notice).to_be_empty()


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server, ready=False) as person:
        person.page.add_init_script(PATIENCE)
        person.page.route("**/trimtab/status", lambda route: None)
        with person.page.expect_request("**/trimtab/status"):
            person.page.reload()
        person.page.evaluate("window.late()")
        expect(person.page.locator("#status")).to_have_text("The server does not answer.")


def test_a_picture_that_comes_before_any_model_is_told_so(browser: Browser) -> None:
    with stub() as server, at_the_page(browser, server, ready=False) as person:
        person.page.route("**/trimtab/status", lambda route: route.abort())
        person.page.reload()
        expect(person.page.locator("#status")).to_have_text("The server cannot be reached.")
        person.page.evaluate(PASTE, ["image/png", list(picture()["buffer"]), "cat.png", ""])
        expect(person.notice).to_have_text("No model is known yet: give the picture again when one is there.")


def test_a_picture_is_pasted_where_the_words_are_only_its_name(browser: Browser) -> None:
    with alone(browser) as person:
        data = list(picture()["buffer"])
        person.page.evaluate(PASTE, ["image/png", data, "words.png", "a table\tof words"])
        for at, text in enumerate(("one.png", "/home/me/one.png", "C:\\me\\one.png")):
            person.page.evaluate(PASTE, ["image/png", data, "one.png", text])
            expect(person.tray.get_by_role("img", name="one.png")).to_have_count(at + 1)
        expect(person.tray.get_by_role("img")).to_have_count(3)


def test_an_original_is_said_to_be_untouched_and_in_what_it_is(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.get_by_label("Model", exact=True).select_option("shapes")
        on = ["nothing trimmed", "weights: bfloat16"]
        expect(person.page.get_by_role("group", name="What is on").locator(".on")).to_have_text(on)
        person.ask("What is it?")
        said = person.answered("It is a circle.").get_by_role("list", name="What is on").get_by_role("listitem")
        expect(said).to_have_text([*on, "engine: plan"])


def test_a_large_webp_gif_or_bmp_becomes_a_webp(browser: Browser) -> None:
    with alone(browser) as person:
        large = [picture(f"p.{form}", (400, 100), form) for form in ("webp", "gif", "bmp")]
        person.give(*large)
        expect(person.tray.get_by_role("img")).to_have_count(3)
        person.ask("What are they?")
        person.answered("It is a circle.")
        assert json.dumps(person.server.asked[0]).count("data:image/webp;base64,") == 3
