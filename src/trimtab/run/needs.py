"""Memory that a process will have had at its peak: of answering one batch, and of a run that makes the artifact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from trimtab import methods
from trimtab.load.blank import Blank
from trimtab.measure.ceilings import Ceilings
from trimtab.measure.roofline import Operation
from trimtab.run import deliver
from trimtab.run.arms import LAYERWISE
from trimtab.run.follow import targeted
from trimtab.run.forecast import Forecast
from trimtab.run.foresee import Phase, foresee, has_plan
from trimtab.run.prospect import Prospect
from trimtab.run.walk import HELD

WORDS = "tokenizer.json"
ARRAYS = 3
"""Arrays of an operation's size that are alive at once: what goes in, what comes out, the stream beside them."""


def process(found: Blank, known: Ceilings) -> float:
    """Bytes of a process with its libraries and the model's tokenizer."""
    file = Path(found.folder) / WORDS
    return known.resident + (known.words * file.stat().st_size if file.is_file() else 0.0)


def answering(
    found: Blank, known: Ceilings, batch: Mapping[str, Tensor], after: Prospect | None, weights: float
) -> float:
    """Bytes of a fresh process that loads a model of so many bytes of ``weights`` and answers ``batch``, the logits of
    all words of it."""
    words = batch["input_ids"].numel()
    return _answering(found, known, foresee(found.anatomy, batch, known, after), words, after, weights)


def _answering(
    found: Blank, known: Ceilings, phases: Mapping[str, Phase], words: int, after: Prospect | None, weights: float
) -> float:
    """A plan reads matrices in an order of its own: they are there twice."""
    rows = [one for name, phase in phases.items() if name != "decode" for one in phase.operations]
    planned = after is not None and has_plan(found.anatomy, known, after)
    table = found.anatomy.model.config.get_text_config().vocab_size
    logits = words * table * (4 if planned else found.anatomy.model.dtype.itemsize)
    return process(found, known) + weights * (2 if planned else 1) + arrays(rows) + logits


def both(told: Forecast, found: Blank) -> dict[str, float]:
    """``before`` and ``after``, on a batch of the gate's samples."""
    made = {}
    for when, side, weights in (("before", told.before, told.bytes16), ("after", told.after, told.bytes)):
        phases = told.phases(told.recipe.task, deliver.GATE_ROWS, when == "after")
        words = deliver.GATE_ROWS * told.tokens
        made[when] = _answering(found, told.known, phases, words, side, weights)
    return made


def working(told: Forecast, found: Blank) -> float:
    """A run: the model as it came, what calibration holds of its samples within a block, the statistics and a fit's
    copies of the widest matrix; or an evaluation's batch, whichever is more."""
    recipe, widest, held = told.recipe, 0.0, 0.0
    hosts = dict(told.anatomy.linears()) | dict(told.anatomy.embeddings())
    for step in recipe.steps:
        method = methods.make(step.method, step.knobs)
        if method.CARD.family not in LAYERWISE:
            continue
        shapes = [hosts[name].w.shape for name in targeted(told.anatomy, step, method)]
        widest = max([widest, *(4.0 * (2 * width**2 + 3 * out * width) for out, width in shapes)])
        if method.CARD.needs != "nothing":
            rows = min(HELD, recipe.calibrate.num_samples * told.tokens)
            held = max(held, 2.0 * rows * sum(sorted({width for _, width in shapes})[-3:]))
    size = min(recipe.evaluate.batch_size, recipe.evaluate.limit) if recipe.task.type != "text" else 1
    asked = [one for name, phase in told.phases(recipe.task, size, False).items() if name != "decode"
             for one in phase.operations]  # fmt: skip
    return process(found, told.known) + told.bytes16 + max(widest + held, arrays(asked))


def arrays(operations: Iterable[Operation]) -> float:
    """Bytes of what the widest operation works on."""
    return ARRAYS * max((one.activations for one in operations), default=0.0)
