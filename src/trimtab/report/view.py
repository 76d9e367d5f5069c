"""Everything that the page and its Markdown twin show, in the order in which a sceptical engineer reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from trimtab.report import efficiency, tables, words
from trimtab.report.arms import arms, weighing
from trimtab.report.chart import Plot
from trimtab.report.figures import Tone
from trimtab.report.folder import Run
from trimtab.report.plots.audit import audit
from trimtab.report.plots.cost import cost
from trimtab.report.plots.layers import layers, worst
from trimtab.report.plots.predicted import predicted, scored
from trimtab.report.plots.robust import robust
from trimtab.report.plots.roofline import roofline
from trimtab.report.plots.spent import bounds, spent
from trimtab.report.plots.time import time
from trimtab.report.say import say
from trimtab.report.table import Cell, Table, columns
from trimtab.report.verdict import Verdict, verdict


@dataclass(frozen=True)
class StepView:
    """One step: the method with its knobs, how long it took, and whether each standing invariant held after it."""

    title: str
    knobs: str
    seconds: str
    note: str
    invariants: Table
    broken: int


@dataclass(frozen=True)
class View:
    """The report as data. Empty tables and plots are sections that the run has nothing to say in."""

    name: str
    model: str
    verdict: Verdict
    stamped: bool
    notes: tuple[str, ...]
    before_after: Table
    flips: str
    cost: Plot
    time: Plot
    robust_words: str
    robust: Plot
    audit_words: tuple[str, ...]
    audit: Plot
    weighing: Table
    arms: Table
    layers: Plot
    worst: tuple[str, ...]
    check: str
    steps: tuple[StepView, ...]
    controls: Table
    arithmetic: Table
    energy_words: str
    energy: Table
    idealized: Table
    six: Table
    predicted: Plot
    scored: str
    roofline: Plot
    spent: Plot
    bounds: Plot
    recipe: str
    python: str
    shell: str
    artifact: Table
    place: str
    machine: Table
    stages: Table
    samples: Table


def build(run: Run) -> View:
    """The view of a run; ``run.samples`` is None unless the user asked for them."""
    result = run.result
    python, shell = words.loading(run)
    energy_words, energy = efficiency.energy(run)
    return View(
        name=str(result.get("name") or run.folder), model=words.model(result.get("model") or {}), verdict=verdict(run),
        stamped=run.samples is not None, notes=tuple(str(note) for note in result.get("notes") or ()),
        before_after=tables.before_after(run), flips=words.flips(result.get("flips")), cost=cost(run), time=time(run),
        robust_words=words.robust(result.get("robust") or []), robust=robust(run),
        audit_words=words.audited(result.get("audit") or {}), audit=audit(run), layers=layers(run),
        weighing=weighing(run), arms=arms(run),
        worst=tuple(worst(run)),
        check=words.checked(result.get("check") or {}), steps=tuple(_step(step) for step in result.get("steps") or ()),
        arithmetic=efficiency.arithmetic(run), energy_words=energy_words, energy=energy,
        idealized=efficiency.idealized(run), six=efficiency.six(run),
        controls=tables.controls(run), predicted=predicted(run), scored=scored(run), roofline=roofline(run),
        spent=spent(run), bounds=bounds(run), recipe=run.recipe, python=python, shell=shell,
        artifact=_artifact(result.get("artifact") or {}), place=words.machine(result.get("machine") or {}),
        machine=tables.facts("Machine", result.get("machine") or {}),
        stages=tables.stages(run), samples=tables.changed_answers(run),
    )  # fmt: skip


def _step(step: dict[str, Any]) -> StepView:
    rows = step.get("invariants") or []
    cells = tuple(
        (Cell(str(row.get("name", "")), note=f"since {row['step']}" if row.get("step") else ""),
         Cell("holds" if row.get("holds") else "BROKEN", _tone(row)), Cell(_detail(row)))
        for row in rows
    )  # fmt: skip
    table = Table("Invariants", columns("Invariant", "State", "Detail"), cells)
    knobs = ", ".join(f"{key} {_knob(value)}" for key, value in (step.get("knobs") or {}).items())
    title = f"{step.get('index', '')} {step.get('method', '')}".strip()
    broken = sum(not row.get("holds") for row in rows)
    return StepView(title, knobs, say(step.get("seconds"), "s"), str(step.get("note") or ""), table, broken)


def _knob(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)


def _artifact(artifact: dict[str, Any]) -> Table:
    given = {"folder": PurePath(str(artifact["path"])).name} if artifact.get("path") else {}
    if artifact.get("bytes") is not None:
        given["size"] = f"{say(artifact['bytes'], 'bytes')} ({artifact['bytes']:,} bytes)"
    gate = dict(artifact.get("gate") or {})
    checks = gate.pop("checks", None) or ()
    rest = {key: value for key, value in artifact.items() if key not in ("path", "bytes", "gate")}
    table = tables.facts("Artifact", given | rest | {"gate": gate})
    rows = tuple(
        (Cell(f"gate, {row.get('name', '')}"), Cell("holds" if row.get("holds") else "FAILS", _tone(row), _detail(row)))
        for row in checks
    )
    return replace(table, rows=table.rows + rows)


def _tone(row: dict[str, Any]) -> Tone:
    return "good" if row.get("holds") else "bad"


def _detail(row: dict[str, Any]) -> str:
    return str(row.get("detail") or "")
