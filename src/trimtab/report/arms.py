"""What a run found of the ways to weigh tokens in calibration: its arms, and what an image token counted where."""

from __future__ import annotations

from typing import Any

from trimtab.report.figures import kind
from trimtab.report.folder import Run
from trimtab.report.say import interval, points, say
from trimtab.report.table import Cell, Table, columns

ARMS = {
    "pooled": "every token alike",
    "balanced": "image tokens by r",
    "text": "text tokens alone",
    "image": "image tokens alone",
}


def arms(run: Run) -> Table:
    """A row for each arm of an ablation; changes are by pairs, with their 95 % intervals."""
    rows = tuple(_row(row) for row in run.result.get("arms") or [])
    titles = columns("Calibration", "#Quality", "#n", "#Since the untouched model", "#Since this run's own arm")
    return Table("Arms of the ablation", titles, rows)


def _row(row: dict[str, Any]) -> tuple[Cell, ...]:
    unit = row.get("unit") or kind(str(row.get("figure", ""))).unit
    spread = row.get("spread")
    note = interval((float(spread[0]), float(spread[1])) if spread else None, unit)
    name = str(row.get("arm", ""))
    said = f"{ARMS.get(name, '')}{', this run' if row.get('own') else ''}"
    return (Cell(name, note=said), Cell(say(row.get("value"), unit), note=note, value=row.get("value")),
            Cell(f"{row.get('n', 0):,}", "quiet"), _change(row.get("since_before")),
            _change(row.get("since_own")))  # fmt: skip


def _change(found: dict[str, Any] | None) -> Cell:
    """Green or red only where the interval leaves 0 out."""
    if not found:
        return Cell("", "quiet")
    low, high = float(found["low"]), float(found["high"])
    note = f"{points(low)} to {points(high)}"
    return Cell(points(found["value"]), "good" if low > 0 else "bad" if high < 0 else "", note, value=found["value"])


def weighing(run: Run) -> Table:
    """r by decoder block: what an image token counts beside one of text, where an arm was balanced."""
    rows = tuple((Cell(str(row.get("block", ""))), Cell(f"{row['ratio']:.3f}", value=row["ratio"]))
                 for row in run.result.get("weighing") or [])  # fmt: skip
    return Table("Weight of an image token by block", columns("Block", "#r"), rows)
