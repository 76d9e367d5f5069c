"""The roofline: what this machine could do at most, and where each operator stands under it, before and after.

Attainable operations/s = min(peak of the type, intensity x bandwidth), with intensity = operations / bytes moved
(Williams, Waterman and Patterson 2009). A mark is an operator at its predicted operations/s; marks of equal work (the
same matrix in every layer) are drawn as one, their seconds added.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.folder import Run
from trimtab.report.plots.predicted import percent
from trimtab.report.say import plain, say
from trimtab.report.table import Cell, Table, columns

SMALLEST, LARGEST = 0.6, 3.0
"""Diameters of the marks of the quickest and of the slowest operator, over the usual one."""


@dataclass(frozen=True)
class Work:
    """Operators of equal work: the n-th parts of their names are left out, ``layers.*.mlp.up_proj``."""

    name: str
    kind: str
    part: str
    flops: float
    bytes: float
    dtype: str
    seconds: float
    bound: str
    count: int

    @property
    def drawn(self) -> bool:
        """Whether it has a place on logarithmic axes: a copy does no operation."""
        return self.flops > 0 and self.bytes > 0 and self.seconds > 0


def sides(run: Run) -> list[dict[str, Any]]:
    """What was predicted of each phase, before and after."""
    return list((run.result.get("roofline") or {}).get("sides") or [])


def choice(side: dict[str, Any]) -> str:
    """``prefill, batch 8, 256 tokens``: what a reader chooses among."""
    length = side.get("length")
    return f"{side.get('phase', '')}, batch {side.get('batch', 1)}" + (f", {length:,} tokens" if length else "")


def grouped(rows: Sequence[dict[str, Any]]) -> list[Work]:
    """Rows of equal work as one, in running order; seconds are added, the rest is that of each."""
    found: dict[tuple[Any, ...], Work] = {}
    for row in rows:
        name = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", str(row.get("name", "")))
        one = Work(name, str(row.get("kind", "")), str(row.get("part", "")), float(row.get("flops") or 0),
                   float(row.get("bytes") or 0), str(row.get("dtype", "")), float(row.get("seconds") or 0),
                   str(row.get("bound", "")), 1)  # fmt: skip
        key = (one.name, one.kind, one.part, one.flops, one.bytes, one.dtype, one.bound)
        old = found.get(key)
        found[key] = one if old is None else replace(one, seconds=old.seconds + one.seconds, count=old.count + 1)
    return list(found.values())


def roofline(run: Run) -> Plot:
    """A drawing for each phase, and every operator in the table."""
    every = sides(run)
    choices = list(dict.fromkeys(choice(side) for side in every))
    machine = (run.result.get("roofline") or {}).get("machine") or {}
    charts = tuple(
        chart for index, name in enumerate(choices)
        if (chart := _chart(index, name, [side for side in every if choice(side) == name], machine))
    )  # fmt: skip
    where = machine.get("name") or "this machine"
    about = (
        f"Attainable operations/s over operations per byte moved, on {where}. Lines are what it can reach: level where "
        "arithmetic bounds, sloped where memory does. A mark is an operator at its predicted speed; its size says its "
        "share of the time. What does no arithmetic is in the table only."
    )
    return Plot("roofline", about, charts, _table(every))


def _chart(index: int, name: str, found: list[dict[str, Any]], machine: dict[str, Any]) -> Chart | None:
    works = {str(side.get("when", "")): [w for w in grouped(side.get("rows") or []) if w.drawn] for side in found}
    every = [work for side in works.values() for work in side]
    if not every:
        return None
    slowest = max(work.seconds for work in every)
    looks = {"before": "before", "after": "after"}
    marks = [Series(when, looks.get(when, "other"), tuple(_point(when, work, slowest) for work in side))
             for when, side in works.items() if side]  # fmt: skip
    xs = [work.flops / work.bytes for work in every]
    x = Axis("Operations per byte", log=True)
    return Chart(f"roofline-{index}", name, x, Axis("Operations/s", "op/s", log=True),
                 (*_ceilings(machine, min(xs) / 2, max(xs) * 2), *marks), name, wide=True, height=250)  # fmt: skip


def _point(when: str, work: Work, slowest: float) -> Point:
    size = SMALLEST + (LARGEST - SMALLEST) * math.sqrt(work.seconds / slowest)
    rate = work.flops * work.count / work.seconds
    often = f" x {work.count}" if work.count > 1 else ""
    tip = f"{work.name}{often}, {when}\n{say(work.seconds, 's')}, bound by {work.bound}\n{say(rate, 'op/s')} of "
    tip += f"{work.dtype} at {plain(work.flops / work.bytes)} per byte"
    return Point(work.flops / work.bytes, rate, tip, size=round(size, 2))


def _ceilings(machine: dict[str, Any], low: float, high: float) -> list[Series]:
    """Level lines for peaks, slopes for bandwidths; each ends where it meets the highest of the other kind."""
    peaks = {str(k): float(v) for k, v in (machine.get("peaks") or {}).items() if v}
    speeds = {str(k): float(v) for k, v in (machine.get("bandwidth") or {}).items() if v}
    top, fastest = max(peaks.values(), default=0.0), max(speeds.values(), default=0.0)
    if not top or not fastest:
        return []
    low = min(low, top / fastest / 2)  # the corner of the roof is always in view
    high = max(high, 2 * top / min(speeds.values()))
    found = []
    for at, (dtype, peak) in enumerate(sorted(peaks.items(), key=lambda item: -item[1])):
        name, start = f"peak {dtype}: {say(peak, 'op/s')}", max(low, peak / fastest)
        found.append(Series(name, f"#{at}", (Point(start, peak, name), Point(high, peak, "")), "line"))
    for at, (size, speed) in enumerate(sorted(speeds.items(), key=lambda item: -item[1]), len(found)):
        name = f"{say(speed, 'bytes/s')} from {say(float(size), 'bytes') if size.isdigit() else size}"
        ends = (low, min(high, top / speed))
        points = tuple(Point(x, x * speed, name if x == low else "") for x in ends)
        found.append(Series(name, f"#{at}", points, "line"))
    return found


def said(side: dict[str, Any]) -> str:
    """What was predicted for a phase, and what it took."""
    guess, real = side.get("predicted"), side.get("measured")
    came = "not measured" if real is None else f"measured {say(real, 's')}"
    words = f"{side.get('when', '')}: predicted {say(guess, 's')}, {came}"
    return words + (f" ({percent(real / guess - 1)})" if real and guess else "")


def _table(every: list[dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for side in every:
        rows.append((Cell(f"{choice(side)}, {said(side)}"),))
        rows += [_row(work) for work in grouped(side.get("rows") or [])]
    titles = columns("Operator", "#Count", "Part", "#Operations", "#Bytes", "#Per byte", "Type", "#Seconds", "Bound by")
    return Table("Operators", titles, tuple(rows))


def _row(work: Work) -> tuple[Cell, ...]:
    per = Cell(plain(work.flops / work.bytes), value=work.flops / work.bytes) if work.drawn else Cell("", "quiet")
    return (
        Cell(work.name), Cell(f"{work.count:,}", value=work.count), Cell(work.part),
        Cell(say(work.flops, "flop"), value=work.flops, unit="flop"),
        Cell(say(work.bytes, "bytes"), value=work.bytes, unit="bytes"), per, Cell(work.dtype),
        Cell(say(work.seconds, "s"), value=work.seconds, unit="s"), Cell(work.bound),
    )  # fmt: skip
