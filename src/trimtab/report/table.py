"""One table, three ways out: the page, Markdown and the terminal all draw the same rows, so they cannot disagree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.report.figures import Tone
from trimtab.report.say import MINUS, Spread


@dataclass(frozen=True)
class Cell:
    """What is read (``text``, ``note`` smaller under it); for a figure its exact value, its interval, its unit, and of
    one that the run measured, which."""

    text: str
    tone: Tone = ""
    note: str = ""
    reading: str = ""  # "<when>/<name>"
    value: float | None = None
    spread: Spread | None = None
    unit: str = ""

    @property
    def exact(self) -> str:
        """The value with every digit, as JSON writes it."""
        return json.dumps(self.value)

    @property
    def ends(self) -> tuple[str, str] | None:
        """The interval's ends with every digit."""
        return (json.dumps(self.spread[0]), json.dumps(self.spread[1])) if self.spread else None


@dataclass(frozen=True)
class Column:
    """``spare`` columns are the first to go where there is no room: the highest number first. ``long`` ones hold
    sentences, and have room for them."""

    title: str
    numeric: bool = False
    spare: int = 0
    long: bool = False


@dataclass(frozen=True)
class Table:
    """``caption`` says what the rows are; the first cell of a row is its heading."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.rows)


def columns(*titles: str) -> tuple[Column, ...]:
    """Columns from titles; ``#`` in front makes one numeric."""
    return tuple(Column(title.lstrip("#"), title.startswith("#")) for title in titles)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    flat = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#!~$" else letter for letter in flat)


def fence(text: str, language: str = "") -> str:
    """A code block that nothing inside can close."""
    ticks = "`" * max(3, 1 + max((len(run) for run in _runs(text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def _runs(text: str) -> list[str]:
    return [run for run in "".join(c if c == "`" else " " for c in text).split() if run]


def markdown(table: Table) -> str:
    """A Markdown table; notes follow their text, what is worse is bold."""
    if not table:
        return ""
    lines = [_line([escape(column.title) for column in table.columns])]
    lines.append(_line(["---:" if column.numeric else "---" for column in table.columns]))
    blank = [""] * (len(table.columns) - 1)
    for row in table.rows:
        lines.append(
            _line([f"**{escape(row[0].text)}**", *blank] if len(row) == 1 else [_marked(cell) for cell in row])
        )
    return "\n".join(lines)


def _marked(cell: Cell) -> str:
    text = escape(cell.text)
    text = f"**{text}**" if cell.tone == "bad" and text else text
    return " ".join(part for part in (text, f"({escape(cell.note)})" if cell.note else "") if part)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def ascii_minus(text: str) -> str:
    """A plain hyphen for the minus sign, which some terminals' code pages do not have."""
    return text.replace(MINUS, "-")
