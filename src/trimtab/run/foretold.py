"""The plan of a run, written down before its first measurement, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trimtab.core.errors import BadInput, Refused
from trimtab.core.files import write_atomic
from trimtab.core.reading import Reading
from trimtab.measure.memory import peak
from trimtab.run.context import Context
from trimtab.run.journal import whole_lines
from trimtab.run.limits import known, limits
from trimtab.run.plan import plan

FILE = "plan.json"
UNPLANNED = ("begin", "plan", "seal", "verdict", "end")
"""Stages that no plan foresees: they take moments."""


def write(context: Context) -> dict[str, Any]:
    """``plan.json``, from this machine's ceilings, which are measured now where nobody has yet; its guesses."""
    if known() is None:
        context.progress("looking at this machine, once", 0, 1)
    try:
        row = plan(context.recipe, limits(), convert=True).row()
    except (BadInput, Refused) as error:  # what loading will say again, or what a plan alone does not take
        row = {"guesses": [], "machine": "", "unforeseen": str(error)}
    if row["unforeseen"]:
        context.log.info("plan: times are not foreseen: %s", row["unforeseen"])
    write_atomic(context.folder.root / FILE, json.dumps(row, indent=1, allow_nan=False) + "\n")
    return {name: row[name] for name in ("guesses", "machine", "unforeseen")}


def scored(context: Context) -> list[dict[str, Any]]:
    """Each guess beside what was measured, None where nothing was."""
    rows: list[dict[str, Any]] = context.journal.ended["plan"]["result"]["guesses"]
    figures = {(one["when"], one["name"]): one["value"] for one in whole_lines(context.folder.readings)}
    spent = {f"seconds.{name}": seconds for name, seconds in context.journal.seconds().items()
             if name not in UNPLANNED}  # fmt: skip
    spent |= _resumed(context) | {name: value for (when, name), value in figures.items()
                                  if when == "run" and name.startswith("seconds.")}  # fmt: skip
    whole = {**spent, "seconds.total": sum(spent.values())}
    return [row | {"measured": _measured(row, figures, whole)} for row in rows]


def placed(context: Context) -> dict[str, Any] | None:
    """The roofline of ``plan.json`` with what was measured of each phase; None where times were not foreseen."""
    file = context.folder.root / FILE
    drawn: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")).get("roofline") or {}
    for side in drawn.get("sides", ()):
        found = context.figure(side["when"], f"latency.{side['phase']}.b{side['batch']}")
        side["measured"] = None if found is None else found["value"]
    return drawn or None


def _measured(row: Mapping[str, Any], figures: Mapping[Any, float], spent: Mapping[str, float]) -> float | None:
    if row["figure"].startswith("seconds."):
        return spent.get(row["figure"])
    return figures.get((row["when"], row["figure"]))


def _resumed(context: Context) -> dict[str, float]:
    """Steps time themselves: their stage in the journal only ends them."""
    ended = context.journal.ended
    return {f"seconds.{key}": ended[key]["result"]["seconds"] for key in ended
            if key.startswith("step ") and "seconds" in ended[key]["result"]}  # fmt: skip


def remembered(context: Context) -> None:
    """The peak of this process, which made the artifact, as a figure of the run."""
    context.read("run", [Reading("memory.peak", float(peak()), "bytes", how="timed")])
