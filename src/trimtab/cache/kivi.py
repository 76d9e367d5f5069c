"""KIVI: a cache of few bits, keys with a grid for each channel and values with one for each token.

Some channels of keys are large in every token, so a grid over one channel and ``group_size`` tokens wastes nothing on
them; values have no such channels, and a grid for each token keeps its error in that token. The newest entries stay in
full precision, the older ones go in whole groups:

    of n entries  group_size * floor((n - residual) / group_size)  are codes,  none where that is negative

Tokens are read before their entries are stored, so a prompt's own logits do not change. No kernel multiplies codes:
they become numbers again at each step, which costs time and saves memory.

Source: Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", ICML 2024, arXiv 2402.02750; the
authors' public code is jy-yuan/KIVI.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from trimtab.cache.codes import Grouped
from trimtab.core.card import Card
from trimtab.core.keep import Act, Place, Sight
from trimtab.core.pack import period
from trimtab.core.slot import Once, Slot

BITS = (2, 4, 8)


@dataclass(frozen=True)
class KIVI:
    """``bits`` of a code: 2, 4 or 8. ``group_size``: the tokens that share a key channel's grid, and the channels that
    share a value's (a whole head where it does not divide one). ``residual``: at least so many of the newest entries
    stay as they are. ``policy`` raises ValueError for others, or a group that does not fill whole bytes."""

    bits: int = 4
    group_size: int = 32
    residual: int = 128

    CARD: ClassVar[Card] = Card(
        name="kivi",
        family="cache",
        title="KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache",
        year=2024,
        where="ICML 2024, arXiv 2402.02750",
        saves="cache",
        guarantee="always",
        establishes=("cache_kept",),
        preserves=("on_grid", "acts_8bit", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
        departures=(
            "Keys and values go into codes together, a group at a time, and never fewer than `residual` stay as they "
            "are; the authors gather `residual` keys and then code all of them, and code values one by one behind the "
            "newest `residual`. Groups are counted in each row by itself, from its first stored entry. Codes become "
            "numbers before they are multiplied; the authors' kernels do both at once."
        ),
    )

    def policy(self) -> Requantize:
        if self.bits not in BITS:
            raise ValueError(f"bits: got {self.bits}; accepted: {', '.join(map(str, BITS))}")
        if self.group_size < 1 or self.group_size % period(self.bits):
            raise ValueError(
                f"group_size: got {self.group_size}; accepted: a multiple of {period(self.bits)}, so that codes of "
                f"{self.bits} bits fill whole bytes"
            )
        if self.residual < 0:
            raise ValueError(f"residual: got {self.residual}; accepted: 0 or more entries in full precision")
        return Requantize(self.bits, self.group_size, self.residual)


@dataclass(frozen=True)
class Requantize:
    """The cache policy: whole groups of a layer's older entries become codes, after each step."""

    bits: int
    group_size: int
    residual: int
    at: ClassVar[Place] = Place(axis="cache", when="step")
    act: ClassVar[Act] = "requantize"

    def holds(self, n: int) -> dict[str, int]:
        """All entries are kept, so many of them ``coded`` with so many ``bits``."""
        coded = max(0, n - self.residual) // self.group_size * self.group_size
        return {"kept": n, "coded": coded, "bits": self.bits}

    def settle(self, slot: Slot, sight: Sight | None, once: Once) -> None:
        encode = partial(Grouped.of, bits=self.bits, group_size=self.group_size)
        slot.fold(encode, self.group_size, self.residual, once)
