"""A run in small before a long one: two samples, one layer of each shape, the whole artifact saved and gated.

What cannot end well ends here, in minutes: a calibration that shows no picture to the model, a fit that meets numbers
that are none, an artifact that there is no room for or that does not reload. Nothing of it is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from trimtab import methods
from trimtab.anatomy import Anatomy
from trimtab.core.errors import Anomaly
from trimtab.core.heap import give_back
from trimtab.load.sources import open_source
from trimtab.run import allocate, audit, calibration, check, deliver, sensitivity, steps
from trimtab.run.arms import LAYERWISE
from trimtab.run.context import Context
from trimtab.run.folder import Folder
from trimtab.run.follow import targeted
from trimtab.run.invariants import Invariant
from trimtab.run.journal import Journal
from trimtab.run.recipe import Recipe, Step

LONG = 300.0
"""Seconds that a plan must foresee for a rehearsal to be held before the run."""
SAMPLES = 2


def wanted(foreseen: Mapping[str, Any]) -> bool:
    """Whether the plan puts the run above ``LONG``."""
    total = next((one["predicted"] for one in foreseen["guesses"] if one["figure"] == "seconds.total"), 0.0)
    return bool(total > LONG)


def rehearse(context: Context) -> dict[str, Any]:
    """Raises whatever ends it, and Anomaly where the artifact does not pass its gate: then nothing was begun."""
    folder = Folder(context.folder.state / "rehearsal")
    shutil.rmtree(folder.root, ignore_errors=not folder.root.exists())
    folder.root.mkdir(mode=0o700)
    folder.private()
    small = Context(context.recipe, context.name, folder, Journal(folder.root), context.progress)
    try:
        return _held(small)
    finally:
        small.loaded = None
        shutil.rmtree(folder.root)
        give_back()


def _held(small: Context) -> dict[str, Any]:
    recipe = small.recipe
    small.loaded = open_source(recipe.model, revision=recipe.revision, dtype=recipe.dtype,
                               trust_remote_code=recipe.trust_remote_code, stream=recipe.stream)  # fmt: skip
    check.fits(small)
    small.recipe = smaller(recipe, small.loaded.anatomy)
    small.journal.stage("check", lambda: check.loop_equals_library(small))
    small.journal.stage("audit", lambda: asdict(audit.NOT_NEEDED))
    batches = calibration.batches(small)
    allocate.sense(small)
    sensitivity.take(small)
    standing: list[Invariant] = []
    for index, step in enumerate(small.recipe.steps, 1):
        small.progress("rehearsal", index - 1, len(small.recipe.steps) + 1)
        rows, new = steps.APPLY[steps.card(step).family](small, index, step, batches)
        standing = steps.standing(standing, new, steps.card(step), {row["name"] for row in rows})
    made = small.journal.stage("artifact", lambda: deliver.artifact(small, standing))
    found = deliver.gate(small)
    if not found["passed"]:
        reasons = "; ".join(found["reasons"])
        raise Anomaly(f"rehearsal: an artifact of two samples does not reload as it was: {reasons}; nothing was begun")
    layers = sum(len(one.targets or ()) for one in small.recipe.steps)
    return {"samples": SAMPLES, "bytes": made["bytes"], "layers": layers}


def smaller(recipe: Recipe, anatomy: Anatomy) -> Recipe:
    """``recipe`` with two samples, and of each step's layers the first of each part and shape."""
    given = recipe.calibrate.model_copy(update={"num_samples": SAMPLES, "batch_size": SAMPLES, "audit": "check"})
    made = [_few(anatomy, step) for step in recipe.steps]
    return recipe.model_copy(update={"calibrate": given, "steps": tuple(made)})


def _few(anatomy: Anatomy, step: Step) -> Step:
    method = methods.make(step.method, step.knobs)
    if hasattr(method, "epochs"):
        return step.model_copy(update={"knobs": step.knobs | {"epochs": 1, "num_samples": 8 * method.batch_size}})
    if method.CARD.family not in LAYERWISE:
        return step
    hosts = dict(anatomy.linears()) | dict(anatomy.embeddings())
    idle = set(anatomy.idle())
    first: dict[Any, str] = {}
    for name in targeted(anatomy, step, method):
        if name not in idle:
            first.setdefault((anatomy.part_of(name), hosts[name].w.shape), name)
    return step.model_copy(update={"targets": _literal(first.values()), "ignore": ()})


def _literal(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.replace(".", r"\.") for name in names)
