"""What each step did to each layer: the relative error of its output, by part, on a logarithmic scale."""

from __future__ import annotations

import math
from typing import Any

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.folder import Run
from trimtab.report.say import plain, say
from trimtab.report.table import Cell, Table, columns


def layers(run: Run) -> Plot:
    """One drawing a part, one mark a layer and step, the shape telling steps apart."""
    rows = list(run.result.get("layers") or [])
    drawn = [row for row in rows if _positive(row.get("error"))]
    steps = list(dict.fromkeys(str(row.get("step", "")) for row in drawn))
    parts = list(dict.fromkeys(row.get("part", "") for row in drawn))
    charts = tuple(
        _chart(index, part, [row for row in drawn if row.get("part", "") == part], steps)
        for index, part in enumerate(parts)
    )
    about = "How far each layer's output moved on calibration data, ‖(W′−W)X‖ / ‖WX‖. Lower is closer to the original."
    return Plot("layers", about, charts, _table(rows))


def worst(run: Run, count: int = 3) -> list[str]:
    """The layers that moved most, in words."""
    rows = [row for row in run.result.get("layers") or [] if _positive(row.get("error"))]
    rows.sort(key=lambda row: -row["error"])
    return [f"{row.get('name', '')} ({say(row['error'], 'share')})" for row in rows[:count]]


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _table(rows: list[dict[str, Any]]) -> Table:
    cells = []
    for row in rows:
        error, bits = row.get("error"), row.get("bits_per_weight")
        finite = error is not None and math.isfinite(error)
        shown = Cell(say(error, "share"), "" if finite else "bad", value=error) if error is not None else Cell("")
        wide = Cell(plain(bits), value=bits) if bits is not None else Cell("")
        cells.append((*(Cell(str(row.get(key, ""))) for key in ("name", "part", "step")), shown, wide))
    titles = columns("Layer", "Part", "Step", "#Relative error", "#Bits per weight")
    return Table("Error of each layer", titles, tuple(cells))


def _chart(index: int, part: str, rows: list[dict[str, Any]], steps: list[str]) -> Chart:
    order = {name: place for place, name in enumerate(dict.fromkeys(str(row.get("name", "")) for row in rows))}
    size = max(0.5, min(1.0, 20 / len(order)))
    series = tuple(
        Series(step, f"#{at}", tuple(
            Point(order[str(row.get("name", ""))], row["error"],
                  f"{row.get('name', '')}\n{step}: {say(row['error'], 'share')}", size=size)
            for row in rows if str(row.get("step", "")) == step
        ))
        for at, step in enumerate(steps)
    )  # fmt: skip
    middle = sorted(row["error"] for row in rows)[len(rows) // 2]
    words = "1 layer" if len(order) == 1 else f"{len(order)} layers in running order"
    names = tuple(name.rpartition(".")[2] for name in order)
    across = Axis(f"{words}; median {say(middle, 'share')}", names=names)
    return Chart(f"layers-{index}", part or "model", across, Axis("Relative error", "share", log=True),
                 tuple(one for one in series if one.points), height=170)  # fmt: skip
