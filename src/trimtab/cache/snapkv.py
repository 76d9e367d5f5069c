"""SnapKV: the end of the prompt says which of its entries the answer will need.

With a_h(i, j) the attention of query head h in the layer itself, the last ``window`` tokens of the prompt observe the
earlier entries j of key head g:

    score_g(j) = pool over j' around j of  sum over h of g and observing i of  a_h(i, j')

pool is the average over ``kernel`` neighbours, so that what stands beside an important entry stays with it. Each key
head keeps its own ``capacity - window`` best and the window itself; later tokens see these and one another.

Source: Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", NeurIPS 2024, arXiv 2404.14469; the
authors' public code is FasterDecoding/SnapKV. A step costs the same whatever the length of the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from trimtab.core.card import Card
from trimtab.core.evict import Evict
from trimtab.core.keep import Place, Sight
from trimtab.core.look import attention


@dataclass(frozen=True)
class SnapKV:
    """``capacity``: how many of a prompt's entries stay in each layer and key head, all where there are no more.

    ``window``: how many tokens at the prompt's end observe, and stay. ``kernel``: how many neighbours are averaged, an
    odd number; 1 for none. ``policy`` raises ValueError where ``capacity`` leaves no room beside the window.
    """

    capacity: int
    window: int = 32
    kernel: int = 5

    CARD: ClassVar[Card] = Card(
        name="snapkv",
        family="cache",
        title="SnapKV: LLM Knows What You are Looking for Before Generation",
        year=2024,
        where="NeurIPS 2024, arXiv 2404.14469",
        saves="cache",
        baseline="sinks",
        guarantee="usual",
        establishes=("cache_kept",),
        preserves=("on_grid", "acts_8bit", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
        departures=(
            "Where several query heads share a key head they choose together, by their sum; the authors repeat the "
            "keys, store each query head's choice and so keep a larger cache. Rows of a batch have their own windows, "
            "and padding observes nothing. Average pooling, the authors' default; they also offer the maximum."
        ),
    )

    def policy(self) -> Evict:
        if self.window < 1:
            raise ValueError(f"window: got {self.window}; accepted: 1 or more (tokens that observe)")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel: got {self.kernel}; accepted: an odd number of neighbours, 1 for none")
        if self.capacity <= self.window:
            raise ValueError(f"capacity: got {self.capacity}; accepted: more than the window of {self.window} entries")
        score = partial(observed, window=self.window, kernel=self.kernel)
        return Evict(score, self.capacity, at=Place(axis="cache", when="prefill"))


def observed(valid: Bool[Tensor, "b t"], sight: Sight | None, window: int, kernel: int) -> Float[Tensor, "b g t"]:
    """The pooled attention that each entry receives, by key head; infinite in the window, which always stays.

    Raises ValueError where the sight holds no attention over these entries.
    """
    if sight is None or sight.k is None or sight.k.shape[2] != valid.shape[1]:
        raise ValueError("snapkv: no attention over these entries was shown")
    at = valid.long().argsort(dim=1, stable=True)[:, -window:]  # of a row without earlier entries some padding too
    recent = torch.zeros_like(valid).scatter(1, at, True)
    received = [given.sum((1, 2)) for given in attention(sight, at)]
    earlier = torch.stack(received, 1).masked_fill(~(valid & ~recent)[:, None], 0.0)
    pooled = F.avg_pool1d(earlier, kernel, stride=1, padding=kernel // 2)
    return pooled.masked_fill(recent[:, None], torch.inf)
