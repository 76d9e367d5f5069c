"""Where time goes: vision, prefill and decode apart, before and after, one panel a batch size, one scale a panel."""

from __future__ import annotations

from markupsafe import Markup

from trimtab.report import svg
from trimtab.report.figures import label
from trimtab.report.folder import Run
from trimtab.report.say import interval, say
from trimtab.report.svg import Panel, Plot
from trimtab.report.table import Cell, Table, columns
from trimtab.report.tables import changed, reading

LEFT, RIGHT, BAR = 66.0, 268.0, 15.0
PARTS = ("vision", "prefill", "decode")


def time(run: Run) -> Plot:
    """Bars of seconds; vision is once an image, prefill once a prompt, decode once for each token of the answer."""
    about = (
        "Vision and prefill are paid once for each batch, decode for every token of the answers. Thin lines: spread."
    )
    found = [name for name in run.names() if name.startswith("latency.") and name.count(".") == 2]
    names = sorted(found, key=_order)
    batches = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    panels = tuple(_panel(run, batch, [n for n in names if n.endswith("." + batch)]) for batch in batches)
    legend = tuple((svg.key(2, f"b-{when}"), when) for when in ("before", "after"))
    return Plot("time", about, panels, legend, _table(run, names))


def _table(run: Run, names: list[str]) -> Table:
    rows = tuple(
        (Cell(label(name)), reading(run, "before", name), reading(run, "after", name), changed(run, name))
        for name in names
    )
    return Table("Seconds by part and batch", columns("Part", "#Before", "#After", "#Change"), rows)


def _order(name: str) -> tuple[int, str, int]:
    """Small batches first, and in each the order in which a model works."""
    _, part, batch = name.split(".")
    return len(batch), batch, [*PARTS, part].index(part)


def _panel(run: Run, batch: str, names: list[str]) -> Panel:
    found = [run.get(when, name) for name in names for when in ("before", "after")]
    ends = [max(one.value, one.spread[1] if one.spread else 0) for one in found if one]
    top = max((end for end in ends if end == end), default=1.0) or 1.0
    body, y, said = [], 6.0, []
    for name in names:
        part = name.split(".")[1]
        body.append(svg.text(0, y + BAR + 5, svg.short(part, 10), "name"))
        for when in ("before", "after"):
            body += _bar(run, when, name, y, top)
            one = run.get(when, name)
            said += [f"{part} {when} {say(one.value, one.unit)}"] if one else []
            y += BAR + 3
        y += 12
    title = f"Batch {batch.removeprefix('b')}" if batch[1:].isdigit() else batch
    return svg.panel(f"time-{batch}", title, "; ".join(said), y - 6, body)


def _bar(run: Run, when: str, name: str, y: float, top: float) -> list[Markup]:
    one = run.get(when, name)
    if one is None or one.value != one.value:
        return [svg.text(LEFT, y + BAR - 3, f"{when}: not measured", "tick")]
    scale = (RIGHT - LEFT) / top
    tip = f"{label(name)}, {when}: {say(one.value, one.unit)} ({interval(one.spread, one.unit)})"
    marks = [svg.rect(LEFT, y, one.value * scale, BAR, f"b-{when}", tip)]
    end = one.value * scale
    if one.spread:
        end = max(end, one.spread[1] * scale)
        middle = y + BAR / 2
        marks.append(svg.line(LEFT + one.spread[0] * scale, middle, LEFT + one.spread[1] * scale, middle, "whisker"))
    return [*marks, svg.text(LEFT + end + 6, y + BAR - 3, say(one.value, one.unit), "value")]
