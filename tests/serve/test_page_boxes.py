"""The boxes over the page: the token's field, the settings' words, and reports that anyone may have written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from page_person import Person, alone, at_the_page
from page_stub import Answer, Stub, described, stub
from playwright.sync_api import Browser, Route, expect

TOKEN = "open sesame"


@contextmanager
def behind_a_token(browser: Browser, **served: Any) -> Iterator[tuple[Stub, Person]]:
    with stub() as server:
        for name, value in ({"token": TOKEN} | served).items():
            setattr(server, name, value)
        with at_the_page(browser, server, ready=False) as person:
            field = person.page.get_by_label("Token", exact=True)
            field.fill(TOKEN)
            field.press("Enter")
            expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
            person.complaints.clear()  # the 401
            yield server, person


@pytest.mark.parametrize("token", ["open\u200bsesame", "öffne dich", "открой"])
def test_a_token_that_no_header_can_carry_is_refused_in_words(browser: Browser, token: str) -> None:
    with stub() as server:
        server.token = TOKEN
        with at_the_page(browser, server, ready=False) as person:
            box = person.page.get_by_role("dialog")
            field = box.get_by_label("Token", exact=True)
            field.fill(token)
            field.press("Enter")
            expect(box.get_by_role("alert")).to_contain_text("only letters from A to Z")
            expect(field).to_have_attribute("aria-invalid", "true")
            assert person.page.evaluate("sessionStorage.getItem('trimtab.token')") is None
            field.fill(TOKEN)
            field.press("Enter")
            expect(person.page.get_by_role("button", name="Send")).to_be_enabled()


def test_the_token_does_not_stay_in_its_field(browser: Browser) -> None:
    with behind_a_token(browser) as (_, person):
        expect(person.page.locator("#token")).to_have_value("")
        person.press("Settings")
        person.press("Forget the token")
        box = person.page.get_by_role("dialog", name="This server asks for a token")
        expect(box).to_be_visible()
        box.get_by_label("Token", exact=True).fill("half a tok")
        person.page.keyboard.press("Escape")
        expect(box).to_be_hidden()
        expect(person.page.locator("#token")).to_have_value("")


def test_the_focus_is_kept_when_the_button_for_the_token_goes(browser: Browser) -> None:
    with stub() as server:
        server.token = TOKEN
        with at_the_page(browser, server, ready=False) as person:
            expect(person.page.get_by_role("dialog")).to_be_visible()
            person.page.keyboard.press("Escape")
            opens = person.page.get_by_role("button", name="Enter the token")
            opens.press("Enter")
            person.page.keyboard.press("Escape")
            expect(opens).to_be_focused()
            opens.press("Enter")
            person.page.get_by_label("Token", exact=True).fill(TOKEN)
            person.page.keyboard.press("Enter")
            expect(opens).to_have_count(0)
            expect(person.question).to_be_focused()


def test_settings_say_how_many_tokens_there_can_be_and_that_zero_is_what_was_evaluated(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.models = [described("wide", "trimmed", "narrow", context=8192),
                                described("narrow", "original", context=100)]  # fmt: skip
        person.page.reload()
        expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
        for most in ("256", "99"):
            person.press("Settings")
            box = person.page.get_by_role("dialog", name="Settings")
            expect(box).to_contain_text(f"up to {most} here, and fewer where the prompt is long")
            expect(box.get_by_label("Most tokens")).to_have_attribute("max", most)
            expect(box.get_by_label("Temperature")).to_have_value("0")
            expect(box).to_contain_text("as when the model was evaluated")
            person.press("Cancel")
            person.page.get_by_role("checkbox", name="Compare with the original").check()


def test_what_is_said_while_a_box_is_open_is_said_in_it(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.script = [Answer(("A", " b"), halt=1)]
        person.ask("What is it?")
        expect(person.answers.last.locator(".text")).to_have_text("A")
        person.press("Report")
        person.server.go.set()
        said = person.page.get_by_role("dialog").locator(".said")
        expect(said).to_have_text("shapes-w4 answered: A b")
        nodes = person.page.context.new_cdp_session(person.page).send("Accessibility.getFullAXTree")["nodes"]
        heard = [node["name"]["value"] for node in nodes if not node["ignored"] and node.get("name")]
        assert "shapes-w4 answered: A b" in heard


HOSTILE = """<!doctype html><html><head><title>Report</title><base href="https://elsewhere.example/">
REFRESH</head>
<body onload="top.document.title = 'handler'"><h1>Hostile</h1>
<script>
for (const window of [parent, top]) try { window.document.title = "script"; } catch { document.title = "tried"; }
document.querySelector("h1").textContent = "Script ran";
try { top.location = "https://elsewhere.example/top"; } catch {}
fetch("https://elsewhere.example/fetched").catch(() => {});
</script>
<svg onload="top.document.title = 'svg'"></svg>
<img src="https://elsewhere.example/seen" onerror="top.document.title = 'img'">
<iframe src="javascript:top.document.title = 'frame'"></iframe>
<link rel="stylesheet" href="https://elsewhere.example/styled">
<style>h1 { background: url(https://elsewhere.example/drawn); }</style>
<p><a id="script" href="javascript:top.document.title = 'link'">script</a></p>
<p><a id="top" href="https://elsewhere.example/linked" target="_top">top</a></p>
<p><a id="blank" href="https://elsewhere.example/opened" target="_blank">blank</a></p>
<form action="https://elsewhere.example/posted" target="_top"><button>send</button></form>
<p><a id="here" href="https://elsewhere.example/here">here</a></p>
</body></html>"""
REFRESH = '<meta http-equiv="refresh" content="0; url=https://elsewhere.example/refreshed">'


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_hostile_report_can_neither_reach_the_page_nor_leave_its_frame(browser: Browser, token: str) -> None:
    with stub() as server:
        server.report, server.token = HOSTILE, token
        with at_the_page(browser, server, ready=False) as person:
            page = person.page
            if token:
                page.get_by_label("Token", exact=True).fill(token)
                page.keyboard.press("Enter")
            expect(page.get_by_role("button", name="Send")).to_be_enabled()
            page.evaluate("sessionStorage.setItem('secret', 'mine')")
            person.press("Report")
            frame = page.frame_locator("#report-frame")
            expect(frame.get_by_role("heading")).to_have_text("Hostile" if token else "Script ran")
            sandbox = page.locator("#report-frame").get_attribute("sandbox")
            assert sandbox == ("allow-same-origin" if token else "allow-scripts")
            for name in ("#script", "#top", "#blank", "button", "#here"):
                frame.locator(name).click()
            page.wait_for_timeout(300)  # what could still leave has left by now
            assert page.url == server.url
            assert page.title() == "Trimtab"
            assert len(page.context.pages) == 1
            assert [url for url in reached(person) if "elsewhere" in url] == []


def reached(person: Person) -> list[str]:
    """What the browser did ask for; the policies' refusals are among Playwright's requests too, as failed ones."""
    return [url for url in person.requests if url not in person.failed]


def test_each_report_is_its_own_however_late_it_comes(browser: Browser) -> None:
    rows = [described("aaa", "trimmed"), described("bbb", "trimmed")]
    with behind_a_token(browser, models=rows) as (_, person):
        page, held = person.page, list[Route]()
        page.route("**/trimtab/report/aaa", lambda route: held.append(route))
        with page.expect_request("**/trimtab/report/aaa"):
            person.press("Report")
        expect(page.get_by_role("link", name="Open it by itself")).to_be_hidden()
        person.press("Close")
        page.get_by_label("Model", exact=True).select_option("bbb")
        person.press("Report")
        heading = page.frame_locator("#report-frame").get_by_role("heading")
        expect(heading).to_have_text("The run's report")
        saved = page.get_by_role("link", name="Save it")
        expect(saved).to_have_attribute("download", "bbb-report.html")
        held[0].fulfill(status=200, content_type="text/html", body="<h1>report AAA</h1>")
        assert page.evaluate("fetch('trimtab/status').then((answer) => answer.status)") == 401  # it had time to arrive
        expect(heading).to_have_text("The run's report")
        expect(saved).to_have_attribute("download", "bbb-report.html")
        blob = saved.get_attribute("href")
        person.press("Close")
        assert page.evaluate("(url) => fetch(url).then(() => 'there', () => 'gone')", blob) == "gone"
        page.unroute("**/trimtab/report/aaa")
        page.route("**/trimtab/report/bbb", lambda route: route.fulfill(status=500, body="x"))
        person.press("Report")
        expect(page.locator("#report-words")).to_contain_text("The server failed: status 500")
        expect(saved).to_be_hidden()


def test_reports_are_no_steps_of_the_way_back(browser: Browser) -> None:
    with alone(browser) as person:
        before = person.page.evaluate("history.length")
        for _ in range(2):
            person.press("Report")
            expect(person.page.frame_locator("#report-frame").get_by_role("heading")).to_have_text("The run's report")
            person.press("Close")
        assert person.page.evaluate("history.length") == before
        expect(person.page.locator("iframe")).to_have_count(0)
