"""What calibration showed each layer: the share of image, text and padding tokens, layers in running order."""

from __future__ import annotations

from typing import Any

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.folder import Run
from trimtab.report.say import say
from trimtab.report.table import Cell, Table, columns

KINDS = ("image", "video", "audio", "text", "padding")


def audit(run: Run) -> Plot:
    """One drawing for each part of the model; the table has the counts as they were recorded."""
    layers = list((run.result.get("audit") or {}).get("layers") or [])
    parts = list(dict.fromkeys(layer.get("part", "") for layer in layers))
    seen = [kind for kind in KINDS if any(layer.get(kind) for layer in layers)]
    charts = tuple(
        _chart(index, part, [layer for layer in layers if layer.get("part", "") == part], seen)
        for index, part in enumerate(parts)
    )
    rows = tuple(_row(layer, seen) for layer in layers)
    titles = ("Layer", "Part", *(f"#{kind.capitalize()}" for kind in seen), "#Image share")
    about = "A column for each linear layer, in running order: which tokens it saw."
    return Plot("audit", about, charts, Table("Tokens seen by layer", columns(*titles), rows))


def shares(layer: dict[str, Any]) -> dict[str, float]:
    """Each kind's share of what the layer saw, from counts or from shares; zeros where it saw nothing."""
    total = sum(float(layer.get(kind) or 0) for kind in KINDS)
    return {kind: float(layer.get(kind) or 0) / total if total else 0.0 for kind in KINDS}


def _row(layer: dict[str, Any], seen: list[str]) -> tuple[Cell, ...]:
    counts = [float(layer.get(kind) or 0) for kind in seen]
    cells = [Cell(f"{count:,.0f}" if count > 1 or not count else say(count, "share"), value=count) for count in counts]
    share = shares(layer)["image"]
    last = Cell(say(share, "share"), value=share)
    return (Cell(str(layer.get("name", ""))), Cell(str(layer.get("part", ""))), *cells, last)


def _chart(index: int, part: str, layers: list[dict[str, Any]], seen: list[str]) -> Chart:
    means = {kind: sum(shares(layer)[kind] for layer in layers) / len(layers) for kind in seen}
    said = ", ".join(f"{kind} {say(mean, 'share')}" for kind, mean in means.items() if mean)
    count = f"{len(layers)} layer" + ("s" if len(layers) != 1 else "")
    series = tuple(
        Series(kind, kind, tuple(
            Point(column, share, f"{layer.get('name', '')}\n{kind} {say(share, 'share')}")
            for column, layer in enumerate(layers) if (share := shares(layer)[kind])
        ), "bars")
        for kind in seen
    )  # fmt: skip
    names = tuple(str(layer.get("name", "")).rpartition(".")[2] for layer in layers)
    return Chart(f"audit-{index}", part or "model", Axis(f"{count}: {said or 'no token'}", names=names),
                 Axis("Tokens", "share", zero=True), series, stacked=True, height=140)  # fmt: skip
