"""Pictures on the page: chosen, dropped and pasted; shown small, taken out again, sent, and refused in words."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from page_person import Person, alone, picture
from page_stub import Answer, described
from PIL import Image
from playwright.sync_api import Browser, FilePayload, expect

COPY = """async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 30, height: 20 });
  canvas.getContext("2d").fillRect(0, 0, 30, 20);
  const blob = await new Promise((done) => canvas.toBlob(done));
  await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
}"""


def sent(asked: dict[str, Any], at: int = -1) -> list[tuple[str, Any]]:
    """The parts of a message: texts, and pictures as (format, size)."""
    found: list[tuple[str, Any]] = []
    for part in asked["messages"][at]["content"]:
        if part["type"] == "text":
            found.append(("text", part["text"]))
        else:
            head, data = part["image_url"]["url"].split(",")
            assert head.endswith(";base64")
            image = Image.open(io.BytesIO(base64.b64decode(data)))
            found.append((str(image.format), image.size))
    return found


def test_a_picture_is_chosen_seen_and_sent_before_the_words(browser: Browser) -> None:
    with alone(browser) as person:
        person.give(picture())
        tray = person.page.get_by_role("list", name="Pictures to send")
        expect(tray.get_by_role("img", name="cat.png")).to_be_visible()
        expect(tray).to_contain_text("60 × 40")
        expect(person.question).to_be_focused()
        person.ask("What is it?")
        person.answered("It is a circle.")
        expect(tray).to_be_hidden()
        expect(person.page.locator(".asked").get_by_role("img", name="cat.png")).to_be_visible()
        assert sent(person.server.asked[0]) == [("PNG", (60, 40)), ("text", "What is it?")]
        person.ask("Which colour?")
        person.answered("It is a circle.")
        assert sent(person.server.asked[1], 0) == [("PNG", (60, 40)), ("text", "What is it?")]
        assert person.server.asked[1]["messages"][-1]["content"] == "Which colour?"


def test_a_picture_is_pasted(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        person.page.evaluate(COPY)
        person.question.press("Control+v")
        expect(person.page.get_by_role("list", name="Pictures to send").get_by_role("img")).to_have_count(1)
        person.ask("What is it?")
        person.answered("It is a circle.")
        assert sent(person.server.asked[0])[0] == ("PNG", (30, 20))


def test_words_are_pasted_as_words(browser: Browser) -> None:
    with alone(browser) as person:
        person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        person.page.evaluate("navigator.clipboard.writeText('some words')")
        person.question.press("Control+v")
        expect(person.question).to_have_value("some words")


def drop(person: Person, file: Path) -> None:
    """A drag of a file from outside over the page, and its end."""
    session = person.page.context.new_cdp_session(person.page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": data})
        if kind == "dragOver" and person.page.locator(".sees:visible").count():
            expect(person.page.locator("#dock")).to_contain_class("dropping")


def test_a_picture_is_dropped_anywhere_on_the_page(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "dropped.jpg"
    Image.new("RGB", (50, 50), (0, 90, 200)).save(file)
    with alone(browser) as person:
        drop(person, file)
        expect(person.page.get_by_role("img", name="dropped.jpg")).to_be_visible()
        expect(person.page.locator("#dock")).not_to_contain_class("dropping")
        person.ask("What is it?")
        person.answered("It is a circle.")
        assert sent(person.server.asked[0])[0] == ("JPEG", (50, 50))


def test_a_picture_is_taken_out_by_the_keyboard(browser: Browser) -> None:
    with alone(browser) as person:
        person.give(picture("one.png"), picture("two.png"))
        expect(person.page.get_by_role("img")).to_have_count(2)
        person.page.get_by_role("button", name="Remove one.png").press("Enter")
        expect(person.page.get_by_role("img")).to_have_count(1)
        expect(person.page.get_by_role("button", name="Remove two.png")).to_be_focused()
        person.page.keyboard.press("Enter")
        expect(person.page.get_by_role("list", name="Pictures to send")).to_be_hidden()
        expect(person.question).to_be_focused()
        person.ask("Hello")
        person.answered("It is a circle.")
        assert person.server.asked[0]["messages"][0]["content"] == "Hello"


def test_a_large_photo_is_scaled_down_and_it_is_said(browser: Browser) -> None:
    with alone(browser) as person:
        person.give(picture("photo.jpg", (400, 100), "JPEG"))
        expect(person.page.get_by_text("scaled down from 400 × 100 to 200 × 50")).to_be_visible()
        person.ask("What is it?")
        person.answered("It is a circle.")
        assert sent(person.server.asked[0])[0] == ("JPEG", (200, 50))


TEXT: FilePayload = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}
BROKEN: FilePayload = {"name": "broken.png", "mimeType": "image/png", "buffer": picture()["buffer"][:40]}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (TEXT, "notes.txt is not taken: pictures can be PNG, JPEG, WebP, GIF or BMP."),
        (BROKEN, "broken.png is not taken: it is damaged, or no picture."),
        (picture("b.bmp", (100, 100), "BMP"), "b.bmp is not taken: sent, it has 40.1 kB, and the server takes 9 kB."),
    ],
    ids=["type", "damage", "size"],
)  # fmt: skip
def test_what_is_not_taken_is_said_in_words(browser: Browser, file: FilePayload, words: str) -> None:
    with alone(browser) as person:
        person.server.limits = person.server.limits | {"body": 9000}
        person.page.reload()
        expect(person.page.get_by_role("button", name="Add pictures")).to_be_visible()
        person.give(file, picture())
        expect(person.page.locator("#notice")).to_have_text(words)
        expect(person.page.get_by_role("list", name="Pictures to send").get_by_role("img")).to_have_count(1)


def test_more_than_the_server_takes_are_left_out_earlier_ones_counted(browser: Browser) -> None:
    with alone(browser) as person:
        person.give(*(picture(f"{name}.png") for name in "abcd"))
        words = "The server takes 3 pictures in a conversation: d.png was left out."
        expect(person.page.locator("#notice")).to_have_text(words)
        person.ask("What are they?")
        person.answered("It is a circle.")
        person.give(picture("e.png"))
        expect(person.page.locator("#notice")).to_contain_text("e.png was left out")
        person.press("New chat")
        person.give(picture("f.png"))
        expect(person.page.get_by_role("img", name="f.png")).to_be_visible()


def test_a_model_that_does_not_see_has_no_picture_controls(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "dropped.png"
    Image.new("RGB", (50, 50)).save(file)
    with alone(browser) as person:
        person.give(picture())
        person.page.get_by_label("Model", exact=True).select_option("words")
        expect(person.page.get_by_role("button", name="Add pictures")).to_be_hidden()
        expect(person.page.get_by_role("img")).to_have_count(0)
        expect(person.page.locator("#notice")).to_have_text("words takes no pictures: 1 picture kept aside.")
        drop(person, file)
        expect(person.page.locator("#notice")).to_have_text("words takes no pictures.")
        person.ask("Hello")
        person.answered("It is a circle.")
        assert person.server.asked[0]["messages"][0]["content"] == "Hello"
        person.page.get_by_label("Model", exact=True).select_option("shapes-w4")
        expect(person.page.get_by_role("img", name="cat.png")).to_be_visible()


def test_pictures_of_earlier_questions_are_not_sent_to_a_model_that_does_not_see(browser: Browser) -> None:
    with alone(browser) as person:
        person.server.models = [described("sees", "trimmed"), described("blind", "trimmed", sees=False)]
        person.page.reload()
        expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
        person.give(picture())
        person.server.script = [Answer(("A circle.",)), Answer(("Fine.",))]
        person.ask("What is it?")
        person.answered("A circle.")
        person.page.get_by_label("Model", exact=True).select_option("blind")
        person.ask("Tell me more")
        person.answered("Fine.")
        assert [m["content"] for m in person.server.asked[1]["messages"]] == [
            "What is it?", "A circle.", "Tell me more"]  # fmt: skip


def test_a_picture_that_hovers_in_vain_is_said_once(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "dropped.png"
    Image.new("RGB", (50, 50)).save(file)
    with alone(browser) as person:
        person.page.get_by_label("Model", exact=True).select_option("words")
        person.page.evaluate("""() => {
          window.writes = 0;
          new MutationObserver((all) => { window.writes += all.length; })
            .observe(document.getElementById("notice"), { childList: true });
        }""")
        for _ in range(3):
            drop(person, file)
        expect(person.notice).to_have_text("words takes no pictures.")
        assert person.page.evaluate("window.writes") == 1
