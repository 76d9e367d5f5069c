"""What calibration showed each layer: the share of image, text and padding tokens, layers in running order."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from trimtab.report import svg
from trimtab.report.folder import Run
from trimtab.report.say import say, tick
from trimtab.report.svg import Panel, Plot
from trimtab.report.table import Cell, Table, columns

KINDS = ("image", "video", "audio", "text", "padding")
LEFT, RIGHT, TOP, HEIGHT = 40.0, 352.0, 8.0, 96.0


def audit(run: Run) -> Plot:
    """One panel for each part of the model; the table has the counts as they were recorded."""
    layers = list((run.result.get("audit") or {}).get("layers") or [])
    parts = list(dict.fromkeys(layer.get("part", "") for layer in layers))
    seen = [kind for kind in KINDS if any(layer.get(kind) for layer in layers)]
    panels = tuple(
        _panel(index, part, [layer for layer in layers if layer.get("part", "") == part], seen)
        for index, part in enumerate(parts)
    )
    rows = tuple(_row(layer, seen) for layer in layers)
    titles = ("Layer", "Part", *(f"#{kind.capitalize()}" for kind in seen), "#Image share")
    about = "A column for each linear layer, in running order: which tokens it saw."
    legend = tuple((svg.key(2, f"k-{kind}"), kind) for kind in seen)
    return Plot("audit", about, panels, legend, Table("Tokens seen by layer", columns(*titles), rows))


def shares(layer: dict[str, Any]) -> dict[str, float]:
    """Each kind's share of what the layer saw, from counts or from shares; zeros where it saw nothing."""
    total = sum(float(layer.get(kind) or 0) for kind in KINDS)
    return {kind: float(layer.get(kind) or 0) / total if total else 0.0 for kind in KINDS}


def _row(layer: dict[str, Any], seen: list[str]) -> tuple[Cell, ...]:
    counts = [float(layer.get(kind) or 0) for kind in seen]
    cells = [Cell(f"{count:,.0f}" if count > 1 or not count else say(count, "share"), value=count) for count in counts]
    share = shares(layer)["image"]
    return (Cell(str(layer.get("name", ""))), Cell(str(layer.get("part", ""))), *cells, Cell(say(share, "share")))


def _panel(index: int, part: str, layers: list[dict[str, Any]], seen: list[str]) -> Panel:
    body: list[Markup] = []
    for value in (0.0, 0.5, 1.0):
        y = TOP + HEIGHT * (1 - value)
        body.append(svg.line(LEFT - 4, y, RIGHT, y, "grid"))
        body.append(svg.text(LEFT - 8, y + 4, tick(value, "share"), "tick", "end"))
    pitch = min(24.0, (RIGHT - LEFT) / max(len(layers), 1))
    gap = 1.0 if pitch > 4 else 0.0
    for place, layer in enumerate(layers):
        y = TOP + HEIGHT
        for kind, share in shares(layer).items():
            if kind in seen and share:
                tip = f"{layer.get('name', '')}: {kind} {say(share, 'share')}"
                y -= share * HEIGHT
                body.append(svg.rect(LEFT + place * pitch, y, pitch - gap, share * HEIGHT, f"k-{kind}", tip))
    means = {kind: sum(shares(layer)[kind] for layer in layers) / len(layers) for kind in seen}
    said = ", ".join(f"{kind} {say(mean, 'share')}" for kind, mean in means.items() if mean)
    count = f"{len(layers)} layer" + ("s" if len(layers) != 1 else "")
    body.append(svg.text(LEFT, TOP + HEIGHT + 17, f"{count}: {said or 'no token'}", "tick"))
    return svg.panel(f"audit-{index}", part or "model", f"{count}: {said}", TOP + HEIGHT + 24, body)
