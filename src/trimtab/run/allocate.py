"""Before a ``mixed`` step: a pass that changes nothing, from which each layer gets its bits.

The blocks run over the calibration samples as the model stands; every layer of the step is rounded at each of its
choices, and what that would lose is set against the bits it would take. The answer is a stage of the journal: a resumed
run goes on with the bits that were given, whatever has been trimmed by then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from trimtab import methods
from trimtab.core.card import Card
from trimtab.core.errors import Anomaly, BadInput, Infeasible
from trimtab.core.fit import Fit, Site
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import PADDING, Gram
from trimtab.core.weight import Weight
from trimtab.quantize.allocate import Choice, allocate
from trimtab.quantize.mixed import Mixed, lost
from trimtab.quantize.rtn import RTN
from trimtab.run import sensitivity
from trimtab.run.context import Context
from trimtab.run.recipe import Step
from trimtab.run.targets import select
from trimtab.run.walk import walk

Note = Callable[[str, "list[Choice]"], None]
"""Told a layer's name and its choices, in the order of the step's."""


@dataclass(frozen=True)
class Trial:
    """Rounds a matrix at each of the choices of ``mixed``, tells ``note`` what each would cost, and leaves it as it is.
    ``sensed``: what the errors are weighed by."""

    mixed: Mixed
    sensed: Sensitivity
    note: Note
    CARD: ClassVar[Card] = Mixed.CARD

    def check(self, width: int, rows: int | None = None) -> None:
        """As ``mixed``."""
        self.mixed.check(width, rows)

    def stored(self, rows: int, width: int, before: int) -> int:
        """What there is."""
        return before

    def __call__(self, w: Weight, site: Site) -> Weight:
        """Raises Anomaly where an error is no number."""
        assert site.gram is not None, "the bench passes on no layer that nothing was seen of"
        knobs, (rows, width) = self.mixed, w.shape
        counts = weight(self.sensed, site.name, site.gram)
        found = []
        for bits in knobs.choices:
            rounded = RTN(bits, knobs.group_size, knobs.symmetric, knobs.clip)(w, site)
            loss = counts * lost(w, rounded, site.gram.read()) / 2
            if not math.isfinite(loss):
                raise Anomaly(f"{site.name}: at {bits} bits the error of its output is {loss}. Look at the calibration "
                              "data of this layer")  # fmt: skip
            found.append(Choice(loss, knobs.takes(bits, rows, width, w.dtype)))
        self.note(site.name, found)
        return w


@dataclass(frozen=True)
class Allotted:
    """``mixed``, which knows the bits of each layer by name."""

    mixed: Mixed
    bits: Mapping[str, int]
    CARD: ClassVar[Card] = Mixed.CARD

    def check(self, width: int, rows: int | None = None) -> None:
        """As ``mixed``."""
        self.mixed.check(width, rows)

    def stored(self, rows: int, width: int, before: int) -> int:
        """As ``mixed``."""
        return self.mixed.stored(rows, width, before)

    def __call__(self, w: Weight, site: Site) -> Weight:
        """The method of ``mixed`` at the bits of this layer."""
        return self.mixed.at(self.bits[site.name])(w, site)


def weight(sensed: Sensitivity, name: str, gram: Gram) -> float:
    """The mean square of the loss's gradient behind the block of layer ``name``, over the kinds that were seen at its
    input. In the last block it is the one at its input: of what leaves it only the words before an answer are read,
    but its keys and values of every token count. Before the language model it is the one at what enters that."""
    index = sensed.block(name)
    row = sensed.square[0 if index is None else min(index + 1, len(sensed.blocks) - 1)]
    counts = gram.seen.double()
    counts[PADDING] = 0
    return float(row.double() @ counts / counts.sum())


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

    def work() -> dict[str, Any]:
        return sensitivity.measure(anatomy, sensitivity.taught(context)).row()

    return Sensitivity.of(context.journal.stage(sensitivity.STAGE, work))


def allotted(context: Context, label: str, step: Step, mixed: Mixed, batches: Sequence[Any]) -> Fit:
    """The fit that knows each layer's bits, from the journal or from a pass now. Raises Infeasible, with the least
    possible, where the budget pays for no assignment."""
    sensed = sense(context)
    assert sensed is not None, "the step is one of the recipe's"
    total = len(context.loaded.anatomy.blocks()) + 1

    def work() -> dict[str, Any]:
        found: dict[str, list[Choice]] = {}
        walk(context.loaded.anatomy, batches, Trial(mixed, sensed, found.__setitem__),
             step.targets or ("all-linear",), ignore=step.ignore,
             allow_unseen=context.recipe.calibrate.allow == "text_only",
             on_layer=lambda at, *_: context.progress(stage, min(at + 1, total), total))  # fmt: skip
        hosts = dict(context.loaded.anatomy.linears())
        return solved(mixed, found, sum(math.prod(hosts[name].w.shape) for name in found))

    stage = f"{label} allocation"
    return Allotted(mixed, context.journal.stage(stage, work)["bits"])


def _least(mixed: Mixed, weights: Sequence[Weight]) -> tuple[int, int]:
    """The bits that matrices take at least, and how many weights they have."""
    least = sum(min(mixed.takes(bits, *w.shape, w.dtype) for bits in mixed.choices) for w in weights)
    return least, sum(math.prod(w.shape) for w in weights)


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
    chosen = allocate(tables, most)

    def sums(indices: Sequence[int]) -> dict[str, Any]:
        taken = [row[at] for row, at in zip(tables, indices, strict=True)]
        return {"stored_bits": sum(one.bits for one in taken), "loss": math.fsum(one.loss for one in taken)}

    equal = [{"bits": bits} | sums([at] * len(tables)) for at, bits in enumerate(mixed.choices)]
    paid = [one for one in equal if one["stored_bits"] <= most]
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
    equal = found["equal"]
    if equal is None or not equal["loss"]:
        return text
    return f"{text} Estimated loss {found['loss'] / equal['loss']:.2f}x of {equal['bits']} bits for every layer."
