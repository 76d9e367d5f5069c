"""What a page shows, as plain data: its JSON twin, for programs that read reports."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

from trimtab.report.folder import Run
from trimtab.report.table import Cell

FORMAT = 1


def plain(value: Any) -> Any:
    """Views, tables and charts by the names of their fields; what is not finite is null, and its text says so."""
    if isinstance(value, Cell):
        return _cell(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(cell: Cell) -> dict[str, Any]:
    """A cell without what it has nothing to say in, but for its text."""
    low, high = cell.spread or (None, None)
    rest = {"value": cell.value, "low": low, "high": high, "unit": cell.unit, "reading": cell.reading,
            "note": cell.note, "tone": cell.tone}  # fmt: skip
    return {"text": cell.text} | {key: plain(item) for key, item in rest.items() if item not in (None, "")}


def readings(run: Run) -> list[dict[str, Any]]:
    """Every figure of a run with its unit and interval."""
    return [
        {"when": one.when, "name": one.name, "value": plain(one.value), "unit": one.unit,
         "low": plain(one.spread[0]) if one.spread else None, "high": plain(one.spread[1]) if one.spread else None,
         "n": one.n, "how": one.how}
        for one in run.figures.values()
    ]  # fmt: skip


def document(kind: str, **given: Any) -> str:
    """The text of a twin: ``format``, ``kind``, then what is given."""
    return json.dumps({"format": FORMAT, "kind": kind} | plain(given), allow_nan=False, ensure_ascii=False) + "\n"
