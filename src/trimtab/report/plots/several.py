"""Quality against bytes and against prefill time, a mark for each of several runs."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.figures import kind, label
from trimtab.report.folder import Run
from trimtab.report.plots.cost import spread
from trimtab.report.several import one_machine
from trimtab.report.table import Cell, Table, columns
from trimtab.report.tables import quality_names, reading


def several(runs: Sequence[Run]) -> Plot:
    """A drawing for each cost that two runs or more have, of the quality that most have."""
    quality = _commonest(runs, list(dict.fromkeys(name for run in runs for name in quality_names(run))))
    names = list(dict.fromkeys(name for run in runs for name in run.names()))
    prefill = sorted((n for n in names if n.startswith("latency.prefill.")), key=lambda name: (len(name), name))
    costs = [name for one in (["bytes.weights"], prefill) if (name := _commonest(runs, one))]
    better = "higher" if quality and kind(quality).better == "higher" else "lower"
    about = f"Each run after trimming: {label(quality)} ({better} is better) against cost (left is cheaper). Bars are "
    about += "95 % intervals."
    charts = tuple(_chart(runs, index, quality, one) for index, one in enumerate(costs)) if quality else ()
    shown = [quality, *costs] if charts else []
    rows = tuple((Cell(run.folder), *(reading(run, "after", name) for name in shown)) for run in runs if shown)
    return Plot(
        "cost",
        about,
        charts,
        Table("Quality and cost of each run", columns("Run", *(f"#{label(name)}" for name in shown)), rows),
    )


def _commonest(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The first of the figures that most runs have after trimming; empty where no two have one."""
    counts = {name: sum(bool(run.get("after", name)) for run in runs) for name in names}
    most = max(counts.values(), default=0)
    return next((name for name in names if counts[name] == most), "") if most > 1 else ""


def _chart(runs: Sequence[Run], index: int, quality: str, price: str) -> Chart:
    series = []
    for at, run in enumerate(runs):
        q, c = run.get("after", quality), run.get("after", price)
        if q and c and q.value == q.value and c.value == c.value:
            tip = "\n".join((run.folder, spread(q), spread(c)))
            series.append(Series(run.folder, f"#{at}", (Point(c.value, q.value, tip, c.spread, q.spread),)))
    apart = price.startswith("latency") and not all(one_machine(runs[0], run) for run in runs[1:])
    units = [one.unit for name in (price, quality) for run in runs if (one := run.get("after", name))]
    title = label(price) + (", on different machines" if apart else "")
    across, up = Axis(label(price), units[0], zero=True), Axis(label(quality), units[-1])
    return Chart(f"cost-{index}", title, across, up, tuple(series))
