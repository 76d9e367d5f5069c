"""Operations by part and operator, joules, the idealized runtime and EfficientLLM's six figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trimtab.report.figures import Tone, change, label
from trimtab.report.folder import Run
from trimtab.report.say import plain, say
from trimtab.report.table import Cell, Table, columns
from trimtab.report.tables import changed, reading

ENDS = ("before", "after")
SIX = {
    "efficiency.memory": ("Memory, of this machine's", "share", "lower"),
    "efficiency.compute": ("Operations, of the highest peak measured here", "share", "higher"),
    "efficiency.latency": ("Time of an answer", "s", "lower"),
    "efficiency.throughput": ("Words a second", "", "higher"),
    "efficiency.throughput_per_parameter": ("Words a second and million parameters", "", "higher"),
    "efficiency.energy": ("Energy of an answer", "J", "lower"),
    "efficiency.compression": ("Compression times quality kept", "x", "higher"),
}
SCALE = {"efficiency.throughput_per_parameter": 1e6}


def arithmetic(run: Run) -> Table:
    """Operations of one row, by part of the model and by operator."""
    both = [(run.result.get("arithmetic") or {}).get(when) or {} for when in ENDS]
    rows: list[tuple[Cell, ...]] = []
    for phase in dict.fromkeys(name for one in both for name in one):
        rows.append((Cell(phase.capitalize()),))
        for key, start in (("parts", ""), ("operators", "by ")):
            sides = [(one.get(phase) or {}).get(key) or {} for one in both]
            rows += [_counted(f"{start}{name}", [side.get(name, 0) for side in sides])
                     for name in dict.fromkeys(name for side in sides for name in side)]  # fmt: skip
    titles = columns("Where", "#Before", "#After", "#Change", "#Multiply-adds after")
    return Table("Operations at batch 1", titles, tuple(rows))


def _counted(name: str, ends: list[float]) -> tuple[Cell, ...]:
    cells = (Cell(say(one, "flop"), value=one, unit="flop") for one in ends)
    found = Cell(*change("flops", ends[0], ends[1])[:2])
    return (Cell(name.removeprefix("by aten.") if name.startswith("by ") else name), *cells, found,
            Cell(say(ends[1] / 2, "flop").replace("FLOP", "MAC"), value=ends[1] / 2, unit="mac"))  # fmt: skip


def energy(run: Run) -> tuple[str, Table]:
    """Who says what joules there were, and the joules."""
    names = [name for name in run.names() if name.startswith(("energy.", "power."))]
    rows = tuple((Cell(label(name)), reading(run, "before", name), reading(run, "after", name), changed(run, name))
                 for name in names)  # fmt: skip
    found = _found(run).get("energy") or {}
    said = f"Energy, {found['source']}. An answer has {found['tokens']} words." if found else ""
    return said, Table("Energy at batch 1", columns("Call", "#Before", "#After", "#Change"), rows)


def idealized(run: Run) -> Table:
    """F at each length of prompt, g, and the mean of a few queries, as if each side had this machine to itself."""
    found = _found(run).get("idealized") or {}
    fits, means = found.get("fits") or {}, {row["model"]: row for row in found.get("rows") or ()}
    if set(fits) != set(ENDS):
        return Table("Idealized runtime", columns("Figure", "#Before", "#After", "#Change"), ())
    before, after = (fits[when] for when in ENDS)
    rows = [_ends(f"Picture and prompt of {length:g} tokens", [one, other], "s", "lower")
            for length, one, other in zip(before["prompts"], before["first"], after["first"], strict=True)]  # fmt: skip
    rows.append(_ends("One word more", [before["per_token"], after["per_token"]], "s", "lower"))
    queries = ", ".join(str(output) for _, output in found["queries"])
    said = f"prompt of {found['queries'][0][0]} tokens and answers of {queries} words, mean"
    rows += [_ends(f"{title}: {said}", [means[when][key] for when in ENDS], unit, "lower")
             for title, key, unit in (("Seconds", "seconds", "s"), ("Energy", "joules", "J"))]  # fmt: skip
    r2 = (Cell(plain(one["r2"]), value=one["r2"], note=f"{one['n']} timings") for one in (before, after))
    rows.append((Cell("R² of the fit"), *r2, Cell("", "quiet")))
    return Table("Idealized runtime", columns("Figure", "#Before", "#After", "#Change"), tuple(rows))


def six(run: Run) -> Table:
    """A row for each figure; which side another beats in all of them is said in the last."""
    found = {row["name"]: row for row in _found(run).get("six") or ()}
    if set(found) != set(ENDS):
        return Table("Six figures of efficiency", columns("Figure", "#Before", "#After", "#Change"), ())
    rows = [_ends(title, [found[when]["figures"][name] * SCALE.get(name, 1) for when in ENDS], unit, better)
            for name, (title, unit, better) in SIX.items()]  # fmt: skip
    rows.append((Cell("Beaten in all by the other"), *_beaten(found), Cell("", "quiet")))
    return Table("Six figures of efficiency", columns("Figure", "#Before", "#After", "#Change"), tuple(rows))


def _beaten(found: dict[str, Any]) -> Iterator[Cell]:
    words: dict[Any, tuple[str, Tone]] = {True: ("no", "good"), False: ("yes", "bad"), None: ("not known", "quiet")}
    for when in ENDS:
        yield Cell(*words[found[when]["pareto"]])


def _ends(title: str, ends: list[float], unit: str, better: str) -> tuple[Cell, ...]:
    cells = (Cell(say(one, unit), value=one, unit=unit) for one in ends)
    name = {"lower": "latency", "higher": "throughput"}[better]
    return (Cell(title), *cells, Cell(*change(name, ends[0], ends[1])[:2]))


def _found(run: Run) -> dict[str, Any]:
    return run.result.get("efficiency") or {}
