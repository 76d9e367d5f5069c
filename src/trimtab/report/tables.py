"""The report's tables: before and after, controls, steps, stages, machine, changed answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trimtab.report.figures import CONTROLS, Tone, change, label, shown_as
from trimtab.report.folder import Run
from trimtab.report.say import interval, plain, say
from trimtab.report.table import Cell, Column, Table, columns

GROUPS = (
    ("Quality", ("accuracy", "perplexity")),
    ("Size", ("bytes", "parameters")),
    ("Speed", ("latency", "flops")),
    ("Memory", ("memory",)),
)
OWN_TABLES = ("seconds", "throughput", "energy", "power")
"""Figures that stand in tables of their own."""
BYTES = ("memory", "available")  # what a machine says in bytes
ABSENT = Cell("not measured", "quiet")


def reading(run: Run, when: str, name: str) -> Cell:
    """The cell of a figure with its interval under it, or the words that it was not measured."""
    one = run.get(when, name)
    if one is None:
        return ABSENT
    tone: Tone = "bad" if one.value != one.value or abs(one.value) == float("inf") else ""
    spread = one.spread if one.spread and all(abs(end) < float("inf") for end in one.spread) else None
    text, note = say(one.value, one.unit), interval(spread, one.unit)
    return Cell(text, tone, note, f"{when}/{name}", one.value, spread, one.unit)


def quality_names(run: Run) -> list[str]:
    """Figures of quality, what the budget names first."""
    named = [axis.get("figure") for axis in run.result.get("axes") or [] if axis.get("axis") == "quality"]
    found = [name for name in run.names() if name.startswith(("accuracy", "perplexity")) and not shown_as(name)]
    return sorted(found, key=lambda name: named.index(name) if name in named else len(named))


def before_after(run: Run, brief: bool = False) -> Table:
    """Every figure of both ends, grouped; ``brief`` leaves out what only a second look wants."""
    titles = (
        Column("Figure"), Column("Before", True), Column("After", True), Column("Change", True),
        Column("n", True, 1), Column("How", spare=2),
    )  # fmt: skip
    ends = [name for when, name in run.figures if when in ("before", "after")]
    names = [name for name in dict.fromkeys(ends) if not name.startswith(OWN_TABLES) and not shown_as(name)]
    names = [name for name in names if not name.endswith(".p95")]
    rows: list[tuple[Cell, ...]] = []
    known = tuple(start for _, starts in GROUPS for start in starts)
    for title, starts in (*GROUPS, ("Other", ())):
        group = [name for name in names if (name.startswith(starts) if starts else not name.startswith(known))]
        group = [name for name in group if not (brief and name == "bytes.weights16")]
        rows += [(Cell(title),)] if group else []
        rows += [_pair(run, name) for name in group]
    return Table("Before and after", titles, tuple(rows))


def _pair(run: Run, name: str) -> tuple[Cell, ...]:
    ends = [one for one in (run.get("before", name), run.get("after", name)) if one]
    counts = " / ".join(dict.fromkeys(f"{one.n:,}" for one in ends if one.how != "counted" or one.n > 1))
    how = " / ".join(dict.fromkeys(one.how for one in ends))
    cells = reading(run, "before", name), reading(run, "after", name), changed(run, name)
    return (Cell(label(name)), *cells, Cell(counts, "quiet"), Cell(how, "quiet"))


def changed(run: Run, name: str) -> Cell:
    """Weights are compared with the same model in 16 bits, as the budget is; all else with before."""
    first, last = run.get("before", name), run.get("after", name)
    half = run.get("after", "bytes.weights16") or run.get("before", "bytes.weights16")
    if name == "bytes.weights" and half and first and half.value != first.value:
        return Cell(*change(name, half.value, last.value if last else None)[:2], "of 16-bit weights")
    spreads = (first.spread if first else None, last.spread if last else None)
    found = change(name, first.value if first else None, last.value if last else None, spreads)
    if found.tone in ("good", "bad") and _undecided(run, name):  # pairs of timings know more than two intervals
        return Cell(found.text, "quiet", "not sure, see the verdict")
    return Cell(*found)


def _undecided(run: Run, name: str) -> bool:
    rows = [axis for axis in run.result.get("axes") or [] if axis.get("figure") == name]
    return any(axis.get("status") == "same" for axis in rows)


def controls(run: Run) -> Table:
    """Accuracy with the image, without it, and from a table of questions: what sight is worth here."""
    names = [name for name in run.names() if shown_as(name) in CONTROLS]
    bases = dict.fromkeys(name.rpartition(".")[0] for name in names)
    rows: list[tuple[Cell, ...]] = []
    for base in bases:
        for name in (base, *(one for one in names if one.rpartition(".")[0] == base)):
            words = CONTROLS.get(name.rpartition(".")[2], "with the image")
            ends = [run.get(when, name) for when in ("before", "after")]
            counts = " / ".join(dict.fromkeys(f"{one.n:,}" for one in ends if one))
            rows.append((
                Cell(f"{base.partition('.')[2]}: {words}"), reading(run, "before", name), reading(run, "after", name),
                Cell(counts, "quiet"),
            ))  # fmt: skip
    return Table("Controls", columns("Accuracy", "#Before", "#After", "#n"), tuple(rows))


def stages(run: Run) -> Table:
    """Seconds of each stage and its share of the whole."""
    found = {str(name): float(value) for name, value in (run.result.get("seconds") or {}).items()}
    total = sum(found.values()) or 1.0
    rows = [(Cell(name), Cell(say(value, "s"), value=value, unit="s"), Cell(say(value / total, "share")))
            for name, value in found.items()]  # fmt: skip
    return Table("Seconds of each stage", columns("Stage", "#Time", "#Share"), tuple(rows))


def facts(caption: str, given: dict[str, Any]) -> Table:
    """Plain data as rows of name and value, nested names joined by dots."""
    rows = tuple((Cell(name), Cell(text)) for name, text in _flat(given))
    return Table(caption, columns("What", "Value"), rows)


def _flat(given: dict[str, Any], start: str = "") -> Iterable[tuple[str, str]]:
    for key, value in given.items():
        key = key if key.startswith("_") else key.replace("_", " ")
        if isinstance(value, dict):
            yield from _flat(value, f"{start}{key}, ")
        elif key in BYTES and isinstance(value, int | float):
            yield f"{start}{key}", say(value, "bytes")
        elif isinstance(value, list | tuple):
            yield f"{start}{key}", ", ".join(str(item) for item in value)
        elif isinstance(value, bool) or value is None:
            yield f"{start}{key}", {True: "yes", False: "no", None: "not known"}[value]
        else:
            yield f"{start}{key}", plain(value) if isinstance(value, float) else str(value)


def changed_answers(run: Run) -> Table:
    """Answers that differ after trimming, from ``predictions.jsonl``; only in a report that may hold samples."""
    rows = [row for row in run.samples or () if row.get("before") != row.get("after")]
    extra = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in ("id", "before", "after")]
    titles = columns("Id", "Before", "After", *(key.replace("_", " ").capitalize() for key in extra))
    cells = tuple(tuple(Cell(_said(row.get(key))) for key in ("id", "before", "after", *extra)) for row in rows)
    return Table("Changed answers", titles, cells)


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
