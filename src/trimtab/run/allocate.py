"""Before a ``mixed`` step: a pass that changes nothing, from which each layer gets its bits.

The blocks run over the calibration samples as the model stands; every layer of the step is rounded at each of its
choices, and what that would lose is set against the bits it would take. The answer is a stage of the journal: a resumed
run goes on with the bits that were given, whatever has been trimmed by then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trimtab import methods
from trimtab.core.errors import BadInput, Infeasible
from trimtab.core.fit import Fit
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.weight import Weight
from trimtab.quantize.allocate import Choice, allocate
from trimtab.quantize.grid import span
from trimtab.quantize.mixed import Mixed
from trimtab.run import sensitivity
from trimtab.run.context import Context
from trimtab.run.recipe import Step
from trimtab.run.targets import select
from trimtab.run.trial import Allotted, Trial
from trimtab.run.walk import walk
from trimtab.run.weigh import maker
from trimtab.runtime.dtype import compute_dtype
from trimtab.runtime.held import HOLD, held_dtype
from trimtab.runtime.times import Grid, seconds


def sense(context: Context) -> Sensitivity | None:
    """The gradients that the steps of a recipe need, from the journal or measured now, before any step; None where none
    is ``mixed``. Raises BadInput where one names a word embedding or a head, Infeasible where a budget is too small."""
    chosen = [(i, one) for i, one in enumerate(context.recipe.steps) if methods.get(one.method) is Mixed]
    anatomy = context.loaded.anatomy
    hosts = dict(anatomy.linears())
    for index, step in chosen:
        names = select(anatomy, step.targets or ("all-linear",), step.ignore)
        for name in names:
            if anatomy.part_of(name) in ("embedding", "head"):
                raise BadInput(f"steps.{index}.mixed: {name}: behind an embedding or a head no gradient was taken to "
                               "weigh its error by; accepted: layers of the blocks (ignore: [embedding, head], and a "
                               "step of their own)")  # fmt: skip
        mixed = methods.make(step.method, step.knobs)
        payable(mixed, *_least(mixed, [hosts[name].w for name in names]))
    if not chosen:
        return None
    return sensitivity.estimate(context)


def allotted(context: Context, label: str, step: Step, mixed: Mixed, batches: Sequence[Any]) -> Fit:
    """The fit that knows each layer's bits, from the journal or from a pass now. Raises Infeasible, with the least
    possible, where the budget pays for no assignment."""
    sensed = sense(context)
    assert sensed is not None, "the step is one of the recipe's"
    given, total = context.recipe.calibrate, len(context.loaded.anatomy.blocks()) + 1

    def work() -> dict[str, Any]:
        found: dict[str, list[Choice]] = {}
        walk(context.loaded.anatomy, batches, Trial(mixed, sensed, found.__setitem__),
             step.targets or ("all-linear",), ignore=step.ignore,
             unseen=given.unreached, make=maker(context.loaded.anatomy, mixed, context.arm or given.weigh, sensed),
             on_layer=lambda at, *_: context.progress(stage, min(at + 1, total), total))  # fmt: skip
        hosts = dict(context.loaded.anatomy.linears())
        if mixed.milliseconds is not None:
            times = timed(mixed, {name: hosts[name].w for name in found})
            found = {name: [one._replace(seconds=s) for one, s in zip(row, times[name], strict=True)]
                     for name, row in found.items()}  # fmt: skip
        return solved(mixed, found, sum(math.prod(hosts[name].w.shape) for name in found))

    stage = f"{label} allocation"
    return Allotted(mixed, context.journal.stage(stage, work)["bits"])


def timed(mixed: Mixed, weights: Mapping[str, Weight]) -> dict[str, list[float]]:
    """By layer the seconds of its product at each choice; every shape is timed once. What AWQ keeps beside the codes
    counts as nothing, and a model is taken for one of these layers alone where it may hold dense copies."""
    held = sum(math.prod(w.shape) * held_dtype(w, compute_dtype()).itemsize for w in weights.values()) <= HOLD
    once: dict[Grid, float] = {}
    found: dict[str, list[float]] = {}
    for name, w in weights.items():
        rows, width = w.shape
        grids = [Grid(rows, width, bits, span(mixed.group_size, width), mixed.symmetric, w.dtype, held)
                 for bits in mixed.choices]  # fmt: skip
        once |= {grid: seconds(grid, mixed.rows) for grid in grids if grid not in once}
        found[name] = [once[grid] for grid in grids]
    return found


def _least(mixed: Mixed, weights: Sequence[Weight]) -> tuple[int, int]:
    """The bits that matrices take at least, and how many weights they have."""
    least = sum(min(mixed.takes(bits, *w.shape, w.dtype) for bits in mixed.choices) for w in weights)
    return least, sum(math.prod(w.shape) for w in weights)


def unpaid(where: str, method: Any, weights: Sequence[Weight]) -> list[str]:
    """What a plan says of a step whose budget is too small; nothing of one that is not ``mixed``."""
    if isinstance(method, Mixed):
        try:
            payable(method, *_least(method, weights))
        except Infeasible as error:
            return [f"{where}.{error}"]
    return []


def payable(mixed: Mixed, least: int, weights: int) -> None:
    """Raises Infeasible where the budget of so many weights is below ``least``, the bits that they take at least."""
    most = mixed.most(weights)
    if least > most:
        each = math.ceil(1000 * least / weights) / 1000
        share = math.ceil(10000 * each / 16) / 10000
        raise Infeasible(f"mixed: bits: {most:,} ({most / weights:.3f} a weight) do not pay for the least of "
                         f"{list(mixed.choices)} and its scales; the least possible is {least:,} (bits: {each} or "
                         f"budget: {share}x), and with larger groups less")  # fmt: skip


def solved(mixed: Mixed, found: Mapping[str, Sequence[Choice]], weights: int) -> dict[str, Any]:
    """The bits of each layer, what they take and lose, and, for comparison, the best equal bits that the budget pays
    for."""
    most, tables = mixed.most(weights), list(found.values())
    payable(mixed, sum(min(one.bits for one in row) for row in tables), weights)
    longest = None if mixed.milliseconds is None else mixed.milliseconds / 1000
    chosen = allocate(tables, most, longest)

    def sums(indices: Sequence[int]) -> dict[str, Any]:
        taken = [row[at] for row, at in zip(tables, indices, strict=True)]
        return {"stored_bits": sum(one.bits for one in taken), "loss": math.fsum(one.loss for one in taken),
                "seconds": math.fsum(one.seconds for one in taken)}  # fmt: skip

    equal = [{"bits": bits} | sums([at] * len(tables)) for at, bits in enumerate(mixed.choices)]
    paid = [one for one in equal if one["stored_bits"] <= most and (longest is None or one["seconds"] <= longest)]
    best = min(paid, key=lambda one: one["loss"], default=None)
    bits = {name: mixed.choices[at] for name, at in zip(found, chosen, strict=True)}
    return {"bits": bits, "most_bits": most, "weights": weights, "equal": best, **sums(chosen)}


def said(found: Mapping[str, Any] | None) -> str:
    """An allocation in a sentence, "" where there is none."""
    if found is None:
        return ""
    counts = Counter(found["bits"].values())
    layers = ", ".join(f"{counts[bits]} layers at {bits}" for bits in sorted(counts))
    text = (f"Bits by layer: {layers}; {found['stored_bits'] / found['weights']:.3f} stored for each weight of "
            f"{found['most_bits'] / found['weights']:.3f} allowed.")  # fmt: skip
    if found["seconds"]:
        text += f" Their products were timed at {1000 * found['seconds']:.3g} ms."
    equal = found["equal"]
    if equal is None or not equal["loss"]:
        return text
    return f"{text} Estimated loss {found['loss'] / equal['loss']:.2f}x of {equal['bits']} bits for every layer."
