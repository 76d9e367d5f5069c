"""Which cache entries stay, and in what form: policies that the loop asks after each layer.

Like ``Keep`` for tokens: a score, a budget, an act and a place. They act once the layer has run, so the tokens that are
being read see everything; what is gone is gone for those that come later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from trimtab.core.card import Card
from trimtab.core.keep import Act, Place, Sight, best
from trimtab.core.slot import Once, Slot

# (validity (b, s) or (b, g, s), what the prompt's layer was seen to do) -> (b, s) or (b, g, s)
CacheScore = Callable[[Tensor, "Sight | None"], Tensor]


@runtime_checkable
class CachePolicy(Protocol):
    """What the loop asks of a cache policy; ``at.axis`` is "cache"."""

    @property
    def at(self) -> Place: ...
    @property
    def act(self) -> Act: ...

    def holds(self, n: int) -> dict[str, int]:
        """What is stored, in numbers, of ``n`` entries: how many are ``kept``, and whatever else is promised."""

    def settle(self, slot: Slot, sight: Sight | None, once: Once) -> None:
        """Change what a layer stores after it ran; ``sight`` is that of the prompt, if the policy acts on it alone."""


@dataclass(frozen=True)
class Evict:
    """Of each row's entries (each key head's, where the score has heads) the ``capacity`` best-scored stay; rows that
    have no more are left alone. Kept entries stay in order at their original positions."""

    score: CacheScore
    capacity: int
    at: Place
    act: ClassVar[Act] = "drop"

    def holds(self, n: int) -> dict[str, int]:
        return {"kept": min(n, self.capacity)}

    def chosen(self, valid: Bool[Tensor, "b *g s"], sight: Sight | None = None) -> Bool[Tensor, "b *h s"]:
        """True at every entry that stays."""
        score: Float[Tensor, "b *h s"] = self.score(valid, sight)
        return best(score, _like(valid, score), self.capacity)

    def settle(self, slot: Slot, sight: Sight | None, once: Once) -> None:
        if slot.valid.shape[-1] <= self.capacity:
            return
        chosen = once(self.chosen, slot.valid) if sight is None else self.chosen(slot.valid, sight)
        if not once(_same, chosen, slot.valid):
            slot.keep(chosen, once)


def _like(valid: Tensor, other: Tensor) -> Tensor:
    """``valid`` for every key head where ``other`` has heads."""
    return valid if valid.ndim == other.ndim else valid[:, None].expand_as(other)


def _same(chosen: Bool[Tensor, "b *h s"], valid: Bool[Tensor, "b *g s"]) -> bool:
    return bool((chosen == _like(valid, chosen)).all())


class CacheMethod(Protocol):
    """A frozen dataclass of knobs that names a cache policy."""

    CARD: ClassVar[Card]

    def policy(self) -> CachePolicy: ...
