"""What each step did to each layer: the relative error of its output, by part, on a logarithmic scale."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from trimtab.report import svg
from trimtab.report.folder import Run
from trimtab.report.say import plain, say
from trimtab.report.svg import Panel, Plot
from trimtab.report.table import Cell, Table, columns

LEFT, RIGHT, TOP, BOTTOM = 48.0, 350.0, 10.0, 140.0


def layers(run: Run) -> Plot:
    """One panel a part, one mark a layer and step, the shape telling steps apart."""
    rows = list(run.result.get("layers") or [])
    steps = list(dict.fromkeys(str(row.get("step", "")) for row in rows))
    drawn = [row for row in rows if _positive(row.get("error"))]
    low, high = _decades([row["error"] for row in drawn])
    parts = list(dict.fromkeys(row.get("part", "") for row in drawn))
    panels = tuple(
        _panel(index, part, [row for row in drawn if row.get("part", "") == part], steps, low, high)
        for index, part in enumerate(parts)
    )
    about = "How far each layer's output moved on calibration data, ‖(W′−W)X‖ / ‖WX‖. Lower is closer to the original."
    legend = tuple((svg.key(index, f"m-s{index % 4}"), name) for index, name in enumerate(steps))
    return Plot("layers", about, panels, legend, _table(rows))


def worst(run: Run, count: int = 3) -> list[str]:
    """The layers that moved most, in words."""
    rows = [row for row in run.result.get("layers") or [] if _positive(row.get("error"))]
    rows.sort(key=lambda row: -row["error"])
    return [f"{row.get('name', '')} ({say(row['error'], 'share')})" for row in rows[:count]]


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _decades(errors: list[float]) -> tuple[int, int]:
    if not errors:
        return -3, 0
    low, high = math.floor(math.log10(min(errors))), math.ceil(math.log10(max(errors)))
    return low, max(high, low + 1)


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


def _panel(index: int, part: str, rows: list[dict[str, Any]], steps: list[str], low: int, high: int) -> Panel:
    def height(error: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (math.log10(error) - low) / (high - low)

    body: list[Markup] = []
    for power in range(low, high + 1):
        y = height(10.0**power)
        body.append(svg.line(LEFT, y, RIGHT, y, "axis" if power == low else "grid"))
        body.append(svg.text(LEFT - 6, y + 4, f"{plain(100 * 10.0**power, 1)} %", "tick", "end"))
    order = {name: place for place, name in enumerate(dict.fromkeys(row.get("name", "") for row in rows))}
    pitch = min(26.0, (RIGHT - LEFT - 12) / max(len(order), 1))
    size = max(2.2, min(4.5, pitch * 0.4))
    for row in rows:
        step = steps.index(str(row.get("step", "")))
        x = LEFT + 10 + pitch * order[row.get("name", "")]
        tip = f"{row.get('name', '')}, {row.get('step', '')}: {say(row['error'], 'share')}"
        body.append(svg.mark(step, x, height(row["error"]), f"m-s{step % 4}", tip, size))
    middle = sorted(row["error"] for row in rows)[len(rows) // 2]
    words = "layer" if len(order) == 1 else "layers in running order"
    said = f"{len(order)} {words}; median {say(middle, 'share')}"
    body.append(svg.text(LEFT, BOTTOM + 17, said, "tick"))
    return svg.panel(f"layers-{index}", part or "model", said, BOTTOM + 24, body)
