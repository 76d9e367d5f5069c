"""A run from load to report, stage by stage. Each stage ends with a line in the journal and is not done twice.

    plan (-> rehearsal) -> load -> loop versus library -> calibration audit -> baseline -> steps (-> the other arms of
    an ablation) -> artifact -> figures of what reloads from it -> seal -> gate in a fresh process -> timing of both
    sides -> verdict -> report

What is in memory (the model, its trimmed layers, its policies) is made again on resume from the stored layers; what was
measured is read from the journal and from ``readings.jsonl``.
"""

from __future__ import annotations

import hashlib
import time
from functools import partial
from typing import Any

from trimtab.core.reading import Reading
from trimtab.load.sources import open_source
from trimtab.run import (
    ablation,
    allocate,
    calibration,
    check,
    deliver,
    figures,
    foretold,
    invariants,
    judge,
    machine,
    rehearsal,
    sensitivity,
    steps,
    timing,
)
from trimtab.run.context import Context
from trimtab.run.folder import check_space
from trimtab.run.invariants import Invariant

Rows = list[dict[str, Any]]


def execute(context: Context) -> None:
    """Take the run to its end. Raises TrimtabError on what cannot go on; everything done so far stays done."""
    stage = context.journal.stage
    stage("begin", lambda: _begin(context))
    foreseen = stage("plan", lambda: foretold.write(context))
    if "artifact" not in context.journal.ended and rehearsal.wanted(foreseen):
        stage("rehearsal", lambda: rehearsal.rehearse(context))
    if "artifact" not in context.journal.ended:
        _load(context)
        stage("check", lambda: check.loop_equals_library(context))
        _shape(context)
    if "gate" not in context.journal.ended and context.folder.artifact.exists():
        deliver.reload(context)
    stage("after", lambda: figures.after(context))
    foretold.remembered(context)
    stage("seal", lambda: deliver.seal(context))
    timed = stage("gate", lambda: deliver.gate(context))["passed"] and not figures.streamed(context)
    stage("timing", lambda: timing.measure(context) if timed else deliver.untimed(context))
    stage("verdict", lambda: judge.judge(context))
    stage("end", lambda: deliver.report(context))


def _begin(context: Context) -> dict[str, Any]:
    check_space(context.folder.root, 50_000_000)
    recipe = hashlib.sha256(context.recipe.dump().encode()).hexdigest()
    return {"conditions": machine.conditions(), "recipe": recipe}


def _load(context: Context) -> None:
    recipe, begun = context.recipe, time.monotonic()
    context.progress("load", 0, 1)
    context.loaded = open_source(
        recipe.model, revision=recipe.revision, dtype=recipe.dtype, trust_remote_code=recipe.trust_remote_code,
        stream=recipe.stream,
    )  # fmt: skip
    for note in context.loaded.notes:
        context.log.info("load: %s", note)
    context.read("run", [Reading("seconds.load", time.monotonic() - begun, "s", how="timed")])
    check.fits(context)
    check_space(context.folder.root, 2 * context.loaded.source.bytes16)
    context.progress("load", 1, 1)


def _shape(context: Context) -> None:
    """Everything that changes the model: from the audit to the artifact that passed its gate."""
    stage = context.journal.stage
    batches = calibration.batches(context)
    stage("audit", lambda: calibration.audit(context, batches))
    allocate.sense(context)
    sensitivity.take(context)
    stage("before", lambda: figures.before(context))
    standing: list[Invariant] = []
    earlier = "before"
    for index, step in enumerate(context.recipe.steps, 1):
        label = steps.key(index, step)
        card = steps.card(step)
        begun = time.monotonic()
        rows, new = steps.APPLY[card.family](context, index, step, batches)
        spent = round(time.monotonic() - begun, 3)
        standing = steps.standing(standing, new, card, {row["name"] for row in rows})
        now = list(standing)
        stage(label, partial(_ended, context, rows, now, spent))
        stage(f"{label} figures", partial(figures.after_step, context, label, earlier))
        earlier = label
    if context.recipe.calibrate.ablation:
        stage(ablation.STAGE, lambda: ablation.measure(context, batches))
    stage("artifact", lambda: deliver.artifact(context, standing))


def _ended(context: Context, rows: Rows, standing: list[Invariant], spent: float) -> dict[str, Any]:
    checked = invariants.check(steps.state(context), standing)
    return {"layers": rows, "invariants": checked, "standing": [one.row() for one in standing],
            "seconds": spent}  # fmt: skip
