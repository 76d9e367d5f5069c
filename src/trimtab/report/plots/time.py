"""Where time goes: vision, prefill and decode apart, before and after, a drawing for each batch size."""

from __future__ import annotations

from trimtab.report.chart import Axis, Chart, Plot, Point, Series
from trimtab.report.figures import label
from trimtab.report.folder import Run
from trimtab.report.plots.cost import spread
from trimtab.report.say import say
from trimtab.report.table import Cell, Table, columns
from trimtab.report.tables import changed, reading

PARTS = ("vision", "prefill", "decode")


def time(run: Run) -> Plot:
    """Bars of seconds; vision is once an image, prefill once a prompt, decode once for each token of the answer."""
    about = (
        "Vision and prefill are paid once for each batch, decode for every token of the answers. Thin lines: spread."
    )
    found = [name for name in run.names() if name.startswith("latency.") and name.count(".") == 2]
    names = sorted(found, key=_order)
    batches = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    charts = tuple(_chart(run, batch, [n for n in names if n.endswith("." + batch)]) for batch in batches)
    return Plot("time", about, charts, _table(run, names))


def _table(run: Run, names: list[str]) -> Table:
    rows = tuple(
        (Cell(label(name)), *(reading(run, when, one) for when in ("before", "after") for one in _three(name)),
         changed(run, name))
        for name in names
    )  # fmt: skip
    titles = columns("Part", "#Before", "#its p95", "#a second", "#After", "#its p95", "#a second", "#Change")
    return Table("Seconds by part and batch", titles, rows)


def _three(name: str) -> tuple[str, str, str]:
    """A latency, its tail, and the throughput: rows a second, of decoding words."""
    return name, f"{name}.p95", name.replace("latency.", "throughput.")


def _order(name: str) -> tuple[int, str, int]:
    """Small batches first, and in each the order in which a model works."""
    _, part, batch = name.split(".")
    return len(batch), batch, [*PARTS, part].index(part)


def _chart(run: Run, batch: str, names: list[str]) -> Chart:
    title = f"Batch {batch.removeprefix('b')}" if batch[1:].isdigit() else batch
    series = tuple(Series(when, when, _points(run, when, names), "bars") for when in ("before", "after"))
    parts = tuple(name.split(".")[1] for name in names)
    return Chart(f"time-{batch}", title, Axis("Time", "s", zero=True), Axis("", names=parts), series)


def _points(run: Run, when: str, names: list[str]) -> tuple[Point, ...]:
    """What was measured; of what was not there is no bar, and the table says so."""
    found = [(row, run.get(when, name)) for row, name in enumerate(names)]
    return tuple(
        Point(one.value, row, f"{when}\n{spread(one)}", one.spread, note=say(one.value, one.unit))
        for row, one in found if one and one.value == one.value
    )  # fmt: skip
