"""Reads a run folder: ``result.json``, ``readings.jsonl``, ``recipe.resolved.yaml``, and only if asked the samples."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput, Refused
from trimtab.report.figures import kind
from trimtab.report.say import Spread

FORMAT = 1


@dataclass(frozen=True)
class Figure:
    """A line of ``readings.jsonl``: ``when`` is before, after, plan, or ``step 1 gptq``."""

    when: str
    name: str
    value: float
    unit: str
    spread: Spread | None
    n: int
    how: str


@dataclass(frozen=True)
class Run:
    """What a run left behind. ``figures`` are keyed by (when, name); of a repeated one the last counts."""

    result: dict[str, Any]
    figures: dict[tuple[str, str], Figure]
    recipe: str = ""
    samples: tuple[dict[str, Any], ...] | None = None
    folder: str = ""

    def get(self, when: str, name: str) -> Figure | None:
        return self.figures.get((when, name))

    def names(self) -> list[str]:
        """Every figure's name, in the order in which the run measured them."""
        return list(dict.fromkeys(name for _, name in self.figures))

    def moments(self) -> list[str]:
        """before, each step, after: as far as the run went."""
        found = list(dict.fromkeys(when for when, _ in self.figures if when not in ("before", "after", "plan")))
        ends = {when for when, _ in self.figures}
        return [*(["before"] if "before" in ends else []), *found, *(["after"] if "after" in ends else [])]


def read(folder: Path, with_samples: bool = False) -> Run:
    """The run in ``folder``. Raises BadInput on a missing or unreadable file, Refused on a newer format."""
    folder = Path(folder)
    result = _json(folder / "result.json")
    if result.get("format", FORMAT) != FORMAT:
        raise Refused(f"{folder / 'result.json'}: format {result['format']!r}; this version reads format {FORMAT}")
    recipe = folder / "recipe.resolved.yaml"
    samples = tuple(lines(folder / "predictions.jsonl")) if with_samples else None
    text = recipe.read_text(encoding="utf-8") if recipe.exists() else ""
    return Run(result, figures(lines(folder / "readings.jsonl")), text, samples, folder.name)


def figures(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Figure]:
    """Rows of ``readings.jsonl`` by (when, name). Raises BadInput on a row without when, name or value."""
    found = {}
    for number, row in enumerate(rows, 1):
        missing = [key for key in ("when", "name", "value") if key not in row]
        if missing:
            raise BadInput(f"readings.jsonl, row {number}: no {', '.join(missing)}; a reading has when, name and value")
        spread = (_number(row["spread"][0]), _number(row["spread"][1])) if row.get("spread") else None
        unit = row.get("unit") or kind(row["name"]).unit
        one = Figure(row["when"], row["name"], _number(row["value"]), unit, spread, row.get("n", 1), row.get("how", ""))
        found[one.when, one.name] = one
    return found


def _number(value: float | None) -> float:
    """JSON has no name for what is not finite; writers say null, or NaN as Python does."""
    return math.nan if value is None else float(value)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadInput(f"{path}: missing; is this a run folder? One that was interrupted: trimtab resume DIR") from None
    except ValueError as error:
        raise BadInput(f"{path}: not valid JSON ({error})") from error


def lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise BadInput(f"{path}, line {number}: not valid JSON ({error})") from error
    return rows
