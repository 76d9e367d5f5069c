"""Quality against cost: before, after each step, after; one drawing for each cost measured more than once."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.figures import kind, label
from trimtab.report.folder import Figure, Run
from trimtab.report.say import interval, say
from trimtab.report.table import Cell, Column, Table
from trimtab.report.tables import quality_names, reading

COSTS = ("bytes.weights", "flops.prefill", "latency.prefill.", "latency.decode.b1")
WORDS = {"before": "before", "step": "after a step", "after": "after, reloaded"}


def cost(run: Run) -> Plot:
    """The plot, with a drawing for each cost, and every moment of the run in its table."""
    names = quality_names(run)
    if not names:
        return Plot("cost", "", (), Table("", (), ()))
    better = "higher" if kind(names[0]).better == "higher" else "lower"
    about = f"{label(names[0])} ({better} is better) against cost (left is cheaper). Bars are 95 % intervals; the dots "
    about += "lead from before through the steps to after."
    charts = tuple(_chart(run, index, names[0], one) for index, one in enumerate(_costs(run)))
    return Plot("cost", about, charts, _table(run, names[:1], _costs(run)) if charts else Table("", (), ()))


def _costs(run: Run) -> list[str]:
    """Costs measured at two moments or more, of a batched time the largest batch."""
    found = []
    for prefix in COSTS:
        names = [name for name in run.names() if name == prefix or (prefix[-1] == "." and name.startswith(prefix))]
        names = [name for name in names if sum(bool(run.get(when, name)) for when in run.moments()) > 1]
        found += sorted(names, key=lambda name: (len(name), name))[-1:]
    return found


def _table(run: Run, names: Sequence[str], costs: Sequence[str]) -> Table:
    shown = [*names, *costs]
    columns = (Column("Moment"), *(Column(label(name), numeric=True) for name in shown))
    rows = tuple((Cell(when), *(reading(run, when, name) for name in shown)) for when in run.moments())
    return Table("Quality and cost at each moment", columns, rows)


def _chart(run: Run, index: int, quality: str, price: str) -> Chart:
    found = [(when, run.get(when, quality), run.get(when, price)) for when in run.moments()]
    drawn = [(when, q, c) for when, q, c in found if q and c and q.value == q.value and c.value == c.value]
    trail = Series("in order", "trail", tuple(Point(c.value, q.value, "") for _, q, c in drawn), "line")
    marks = [
        Series(WORDS[which], which, points)
        for which in WORDS
        if (points := tuple(_point(when, q, c) for when, q, c in drawn if (when if when in WORDS else "step") == which))
    ]
    units = (drawn[0][2].unit, drawn[0][1].unit) if drawn else ("", "")
    return Chart(f"cost-{index}", label(price), Axis(label(price), units[0], zero=True), Axis(label(quality), units[1]),
                 (trail, *marks))  # fmt: skip


def _point(when: str, q: Figure, c: Figure) -> Point:
    tip = "\n".join((when, spread(q), spread(c)))
    return Point(c.value, q.value, tip, c.spread, q.spread, note=when.split()[1] if when.startswith("step ") else "")


def spread(one: Figure) -> str:
    """``Accuracy, easyvqa: 97.0 % (96.2 to 97.7 %)``."""
    ends = interval(one.spread, one.unit)
    return f"{label(one.name)}: {say(one.value, one.unit)}" + (f" ({ends})" if ends else "")
