"""What a person does with the page, and what they see."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from page_stub import Stub, stub
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect


def picture(name: str = "cat.png", size: tuple[int, int] = (60, 40), form: str = "PNG") -> FilePayload:
    stream = io.BytesIO()
    Image.new("RGB", size, (200, 60, 30)).save(stream, form)
    return {"name": name, "mimeType": f"image/{form.lower()}", "buffer": stream.getvalue()}


# Pictures are read when a test says so, by ``read()``.
HOLD = """() => {
  const real = window.createImageBitmap;
  const held = new Promise((go) => { window.read = go; });
  window.createImageBitmap = async (...what) => { await held; return real(...what); };
}"""


@dataclass
class Person:
    """A person at an open page; ``complaints`` is what the browser's console was told, ``requests`` where it went,
    ``failed`` where it did not get."""

    page: Page
    server: Stub
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def question(self) -> Locator:
        return self.page.get_by_role("textbox", name="Question")

    @property
    def notice(self) -> Locator:
        return self.page.locator("#notice")

    @property
    def tray(self) -> Locator:
        return self.page.get_by_role("list", name="Pictures to send")

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("article")

    def ask(self, words: str) -> None:
        self.question.fill(words)
        self.question.press("Enter")

    def press(self, name: str, exact: bool = True) -> None:
        self.page.get_by_role("button", name=name, exact=exact).click()

    def give(self, *files: FilePayload) -> None:
        """By the button, as a person does: the browser's own box for files."""
        with self.page.expect_file_chooser() as box:
            self.press("Add pictures")
        box.value.set_files(list(files))

    def answered(self, words: str) -> Locator:
        """The last answer, once it is whole and says so."""
        last = self.answers.last
        expect(last.locator(".text")).to_have_text(words)
        expect(last).not_to_have_attribute("aria-busy", "true")
        return last


@contextmanager
def at_the_page(browser: Browser, server: Stub, ready: bool = True, **context: Any) -> Iterator[Person]:
    opened = browser.new_context(**({"viewport": {"width": 1200, "height": 800}} | context))
    opened.set_default_timeout(8000)
    person = Person(opened.new_page(), server)
    person.page.on("request", lambda request: person.requests.append(request.url))
    person.page.on("requestfailed", lambda request: person.failed.append(request.url))
    person.page.on("console", lambda message: person.complaints.append(message.text))
    person.page.on("pageerror", lambda error: person.complaints.append(str(error)))
    try:
        person.page.goto(server.url)
        if ready:
            expect(person.page.get_by_role("button", name="Send")).to_be_enabled()
        yield person
    finally:
        opened.close()


@contextmanager
def alone(browser: Browser, **context: Any) -> Iterator[Person]:
    """A person at the page of a server of their own; what asks other servers or is complained of fails the test."""
    with stub() as server, at_the_page(browser, server, **context) as person:
        yield person
        assert person.complaints == []
        assert [url for url in person.requests if not url.startswith((server.url, "blob:", "data:"))] == []
