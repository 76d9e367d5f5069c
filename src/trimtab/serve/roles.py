"""A conversation by the model's chat template, without losing what a system or a developer says: many templates know
no developer, and pass over roles that they do not know."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from trimtab.serve.errors import ApiError, bad

UNFIT = (TemplateError, ValueError, KeyError, TypeError, IndexError, StopIteration, RuntimeError)
"""What processors and templates raise for a conversation that they do not take."""
TELLING = ("system", "developer")


def rendered(processor: Any, rows: Sequence[dict[str, Any]]) -> str:
    """The text of ``rows`` of ``role`` and ``content``. A developer's messages are a system's where the template leaves
    them out. Raises ApiError 400 for a conversation that the template refuses, and for one in which it leaves out what
    a system or a developer says."""
    rows = _known(processor, rows)
    text = _applied(processor, rows)
    lost = _lost(processor, rows)
    if lost is not None:
        raise bad(f"messages.{lost}: the model's chat template has no place for this {rows[lost]['role']} message; "
                  "accepted: its text in another one", f"messages.{lost}")  # fmt: skip
    return text


def _known(processor: Any, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    if all(row["role"] != "developer" for row in rows):
        return rows
    try:
        if _lost(processor, rows) is None:
            return rows
    except ApiError:  # it refuses such a role, or anything else of the conversation, which the next try says
        pass
    return [row | {"role": "system"} if row["role"] == "developer" else row for row in rows]


def _lost(processor: Any, rows: Sequence[dict[str, Any]]) -> int | None:
    """The first message with a text that is left out. Every such text is replaced by a mark of its own that nobody can
    know: the text itself may stand elsewhere too, and templates trim and quote it."""
    marks: dict[str, int] = {}

    def marked(at: int, text: str) -> str:
        if not text.strip():
            return text
        mark = secrets.token_hex(12)
        marks[mark] = at
        return mark

    def shown(at: int, content: Any) -> Any:
        if isinstance(content, str):
            return marked(at, content)
        return [part | {"text": marked(at, part["text"])} if "text" in part else part for part in content]

    probe = [row | {"content": shown(at, row["content"])} if row["role"] in TELLING else row
             for at, row in enumerate(rows)]  # fmt: skip
    if not marks:
        return None
    text = _applied(processor, probe)
    return next((at for mark, at in marks.items() if mark not in text), None)


def _applied(processor: Any, rows: Sequence[dict[str, Any]]) -> str:
    try:
        return str(processor.apply_chat_template(list(rows), tokenize=False, add_generation_prompt=True))
    except UNFIT as error:
        raise bad(f"messages: the model's chat template takes no such conversation ({type(error).__name__})",
                  "messages") from error  # fmt: skip
