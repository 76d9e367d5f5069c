"""Attention sinks and a sliding window: the first few entries and the newest ones, at every step.

Softmax has to put its weight somewhere, and models put what they do not need on the first tokens. A window alone drops
these and breaks; with them a cache of ``sinks + window`` entries serves a text of any length:

    entry j of n stays while  j < sinks  or  j >= n - window

Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR 2024, arXiv 2309.17453; the
authors' public code is mit-han-lab/streaming-llm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.evict import Evict
from trimtab.core.keep import Place, Sight


@dataclass(frozen=True)
class Sinks:
    """``sinks``: how many of a row's first entries always stay (0: a window alone). ``window``: how many of its newest
    entries stay. ``policy`` raises ValueError for a negative number of sinks or no window."""

    sinks: int = 4
    window: int = 1020

    CARD: ClassVar[Card] = Card(
        name="sinks",
        family="cache",
        title="Efficient Streaming Language Models with Attention Sinks",
        year=2024,
        where="ICLR 2024, arXiv 2309.17453",
        saves="cache",
        guarantee="usual",
        establishes=("cache_kept",),
        preserves=("on_grid", "acts_8bit", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
        departures=(
            "Entries keep their original positions; the authors number them anew inside the cache at each step, by "
            "which a text can become longer than the model's positions reach. Here memory is bounded, not positions. "
            "The prompt is read whole, and the window counts what is stored once a token has been read, so that the "
            "next one sees sinks + window entries and itself."
        ),
    )

    def policy(self) -> Evict:
        if self.sinks < 0:
            raise ValueError(f"sinks: got {self.sinks}; accepted: 0 or more entries at the beginning")
        if self.window < 1:
            raise ValueError(f"window: got {self.window}; accepted: 1 or more entries at the end")
        score = partial(ends, sinks=self.sinks, window=self.window)
        return Evict(score, self.sinks + self.window, at=Place(axis="cache", when="step"))


def ends(valid: Bool[Tensor, "b *g s"], sight: Sight | None, sinks: int, window: int) -> Float[Tensor, "b *g s"]:
    """1 for the first ``sinks`` and the last ``window`` valid entries of each row, 0 for what lies between."""
    number = valid.long().cumsum(-1)
    newest = number[..., -1:] - number < window
    return ((number <= sinks) | newest).float()
