"""``calibrate.audit: ablation``: the recipe's steps fitted once for each way to weigh kinds of tokens, and compared.

The arms differ in the decoder's blocks alone: tower, projector and word table are those that the recipe's own way made,
and the untied head is fitted on pooled rows in each. Every arm answers the same test questions once; what it gained or
lost is told by pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from trimtab.core.reading import Reading
from trimtab.load.sources import open_source
from trimtab.run import figures, quality, steps
from trimtab.run.arms import ARMS, Weigh
from trimtab.run.context import Context

STAGE = "arms"


def measure(context: Context, batches: Sequence[Any]) -> dict[str, Any]:
    """A row for each arm: its quality, and how that differs from the untouched model's and the recipe's own arm's."""
    recipe = context.recipe
    own = steps.key(len(recipe.steps), recipe.steps[-1])
    rows = []
    for arm in ARMS:
        mine = arm == recipe.calibrate.weigh
        when = own if mine else f"arm {arm}"
        reading = _taken(context, own) if mine else _fitted(context, batches, arm, when)
        rows.append({"arm": arm, "own": mine, "figure": reading.name, "value": reading.value, "unit": reading.unit,
                     "spread": reading.spread, "n": reading.n, "since_before": figures.gained(context, when, "before"),
                     "since_own": None if mine else figures.gained(context, when, own)})  # fmt: skip
    return {"arms": rows}


def _taken(context: Context, when: str) -> Reading:
    """The recipe's own arm was measured after its last step."""
    kind = "perplexity" if context.recipe.task.type == "text" else "accuracy"
    row = context.figure(when, f"{kind}.{context.recipe.task.name}")
    assert row is not None, "evaluate.after_step is above 0 in an ablation"
    spread = None if row["spread"] is None else (row["spread"][0], row["spread"][1])
    return Reading(row["name"], row["value"], row["unit"], spread, row["n"], row["how"])


def _fitted(context: Context, batches: Sequence[Any], arm: Weigh, when: str) -> Reading:
    """Another arm, from the untouched model on; its layers and answers are stored as they come."""
    given = context.recipe
    loaded = open_source(
        given.model, revision=given.revision, dtype=given.dtype, trust_remote_code=given.trust_remote_code,
        stream=context.loaded.streamed,
    )  # fmt: skip
    other = replace(context, loaded=loaded, arm=arm)
    for index, step in enumerate(given.steps, 1):
        steps.fit(other, index, step, batches)
    loaded.lower()
    return quality.measure(other, when, given.task, given.evaluate.after_step)
