"""What a mixed step fits with: first a trial that changes nothing, then the method that knows each layer's bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from trimtab.core.card import Card
from trimtab.core.errors import Anomaly
from trimtab.core.fit import Site
from trimtab.core.sensitivity import Sensitivity
from trimtab.core.stats import PADDING, Gram
from trimtab.core.weight import Weight
from trimtab.quantize.allocate import Choice
from trimtab.quantize.mixed import Mixed, lost
from trimtab.quantize.rtn import RTN

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
