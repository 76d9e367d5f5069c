"""The verdict in words: for the run, and for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.report.figures import Tone, change, kind, label
from trimtab.report.folder import Run
from trimtab.report.say import say
from trimtab.report.table import Cell
from trimtab.report.tables import reading

TONES: dict[str, Tone] = {
    "ACCEPTED": "good", "better": "good", "same": "quiet", "worse": "bad", "REGRESSION": "bad", "ANOMALOUS": "bad",
    "INFEASIBLE": "bad", "INCONCLUSIVE": "warn", "INEFFECTIVE": "warn",
    "ABLATION": "warn",
}  # fmt: skip
SENTENCES = {
    "ACCEPTED": "Every budget is met, and the artifact was reloaded and checked in a fresh process.",
    "REGRESSION": "A budget is broken, and the samples suffice to say so.",
    "INCONCLUSIVE": "The samples do not suffice to say whether a budget is met.",
    "INEFFECTIVE": "A step claims a saving that the budget names, and none was measured on this machine.",
    "ABLATION": "This run compares ways to calibrate. It accepts no artifact, whatever its budget says.",
    "ANOMALOUS": "Figures are not finite or contradict each other, an invariant broke, or the artifact reloads wrong.",
    "INFEASIBLE": "The plan says that this cannot be done on this machine.",
}
AXES = ("quality", "size", "speed", "memory")


@dataclass(frozen=True)
class Entry:
    """One figure of an axis: its status in a word, what changed, and the sentence that explains it."""

    title: str
    status: str
    tone: Tone
    change: str
    before: Cell
    after: Cell
    budget: str
    text: str
    more: str


@dataclass(frozen=True)
class Verdict:
    """``word`` and ``sentence`` for the run, ``axes`` in fixed order with the entries that have a budget first."""

    word: str
    tone: Tone
    sentence: str
    override: str
    axes: tuple[tuple[str, tuple[Entry, ...]], ...]


def verdict(run: Run) -> Verdict:
    """The verdict of a run as it is shown everywhere: page, Markdown, terminal."""
    word = str(run.result.get("verdict") or "UNFINISHED")
    rows = run.result.get("axes") or []
    axes = tuple((axis, _entries(run, [row for row in rows if row.get("axis") == axis])) for axis in AXES)
    sentence = SENTENCES.get(word, "The run ended before a verdict.")
    return Verdict(word, TONES.get(word, "warn"), sentence, override(run), axes)


COUNTED = {"speed": "timed rounds", "memory": "measurements"}
"""What there would have to be more of, by axis; samples elsewhere."""


def override(run: Run) -> str:
    """The line that must come first where calibration was allowed to see no images, or was an ablation."""
    audit = run.result.get("audit") or {}
    said = []
    if audit.get("ablation"):
        said.append(f"calibrate.audit: ablation, the arm {audit.get('weigh', 'pooled')!r}. This run compares ways to "
                    "calibrate, and its artifact is not to be served.")  # fmt: skip
    if audit.get("verdict") == "overridden":
        said.append("allow: text_only. The calibration audit was overridden: calibration hardly saw images, by the "
                    "user's wish.")  # fmt: skip
    return " ".join(said)


def _entries(run: Run, rows: Sequence[dict[str, Any]]) -> tuple[Entry, ...]:
    return tuple(_entry(run, row) for row in sorted(rows, key=lambda row: not row.get("budget")))


def _entry(run: Run, row: dict[str, Any]) -> Entry:
    name, status = str(row.get("figure", "")), str(row.get("status", ""))
    said = row.get("change") or change(name, row.get("before"), row.get("after")).text
    text, more = str(row.get("text") or ""), row.get("more_samples")
    text = "" if text.startswith(name) and not row.get("budget") else text  # it would only repeat the row
    return Entry(
        label(name), status, TONES.get(status, "warn"), str(said), _end(run, "before", row), _end(run, "after", row),
        str(row.get("budget") or ""), text.replace(name, label(name)),
        f"{more:,} more {COUNTED.get(str(row.get('axis')), 'samples')} would decide it"
        if more and "would decide" not in text else "",
    )  # fmt: skip


def _end(run: Run, when: str, row: dict[str, Any]) -> Cell:
    """The figure at one end: the reading where it is the same value, else the verdict's own."""
    name, value = str(row.get("figure", "")), row.get(when)
    one = run.get(when, name)
    if one is not None and one.value == value:
        return replace(reading(run, when, name), note="")
    return Cell(say(value, kind(name).unit), "" if value is not None else "quiet", value=value)
