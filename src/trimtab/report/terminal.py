"""What ``trimtab run`` prints at the end: the verdict in a panel, the before and after table under it.

Narrow terminals lose the columns that can be spared, how a figure was had first, then n, then the intervals. Words and
marks carry the verdict; colour only repeats them, and rich leaves it out where NO_COLOR is set or there is no terminal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from trimtab.report.folder import Run, figures
from trimtab.report.table import Cell, Table, ascii_minus
from trimtab.report.tables import before_after
from trimtab.report.verdict import Entry, Verdict, verdict
from trimtab.report.words import flips

COLOURS = {"good": "green", "bad": "bold red", "warn": "yellow", "quiet": "dim", "": ""}
ROOM = ((96, 2), (80, 1), (0, 0))  # from this width on, columns up to this ``spare`` are shown
INTERVALS = 72  # narrower, intervals go


def show(result: dict[str, Any], readings: Iterable[dict[str, Any]], console: Console | None = None) -> None:
    """Print the table and the verdict of a run; ``readings`` are the rows of ``readings.jsonl``."""
    console = console or Console()
    run = Run(result, figures(list(readings)))
    table = before_after(run, brief=True)
    if table:
        console.print(rich_table(table, console.width))
    console.print(panel(verdict(run), flips(result.get("flips")), str(result.get("name") or "run")))


def rich_table(table: Table, width: int) -> RichTable:
    """``table`` as rich draws it, in ``width`` columns."""
    spare = next(level for least, level in ROOM if width >= least)
    keep = [index for index, column in enumerate(table.columns) if column.spare <= spare]
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", header_style="bold")
    for index in keep:
        column = table.columns[index]
        drawn.add_column(column.title, justify="right" if column.numeric else "left", overflow="fold")
    for row in table.rows:
        if len(row) == 1:
            drawn.add_row(Text(ascii_minus(row[0].text), "bold"))
        else:
            drawn.add_row(*(_cell(row[index], width >= INTERVALS) for index in keep))
    return drawn


def _cell(cell: Cell, notes: bool) -> Text:
    """Text is made a ``Text``, never markup, so that a name with brackets stays a name."""
    text = Text(ascii_minus(cell.text), COLOURS[cell.tone])
    if cell.note and notes:
        text.append("\n" + ascii_minus(cell.note), "dim")
    return text


def panel(found: Verdict, flipped: str, name: str) -> Panel:
    """The verdict: for the run in its title, then a line for each figure of each axis."""
    rows = RichTable.grid(padding=(0, 2))
    for axis, entries in found.axes:
        for entry in entries:
            rows.add_row(axis, Text(entry.status, COLOURS[entry.tone]), _change(entry))
    above = [Text(found.override, "bold red"), Text()] if found.override else []
    below = [Text(), Text(ascii_minus(flipped), "dim")] if flipped else []
    colour = COLOURS[found.tone]
    title = Text(f" {found.word}: {name} ", f"bold {colour.removeprefix('bold ')}")
    body = Group(*above, Text(found.sentence), Text(), rows, *below)
    return Panel(body, title=title, title_align="left", border_style=colour, box=box.ROUNDED, padding=(1, 2))


def _change(entry: Entry) -> Text:
    text = Text(ascii_minus(entry.change), "bold red" if entry.tone == "bad" else "bold")
    budget = f" (budget {entry.budget})" if entry.budget else ""
    text.append(f"  {entry.title}{budget}", "not bold default" if entry.tone == "bad" else "not bold")
    if entry.more:
        text.append(f"; {entry.more}", "not bold yellow")
    return text
