"""A model that runs by its plan: prompts in few calls where their policies allow it (``prompt.py``), else by the loop,
whose cache goes over to the plan's; every later token is one call."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.anatomy.base import Anatomy, Batch
from trimtab.anatomy.loop import Policies
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.trimmed import Trimmed
from trimtab.core.errors import Refused
from trimtab.runtime.plan.engine import ROWS, Engine
from trimtab.runtime.plan.entries import Cache, movable
from trimtab.runtime.plan.prefix import Prefixes
from trimtab.runtime.plan.prompt import prompted


class Moved(Slots):
    """The loop's cache until the prompt is through, then the plan's: ``cache``."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Cache | None = None

    def nbytes(self) -> int:
        """Of the keys and values that are stored, as of every other cache; room for more is memory (peak), no entry."""
        return super().nbytes() if self.cache is None else self.cache.stored

    def extend(self, *args: Any, **kwargs: Any) -> Any:
        """Raises Refused once the entries are the plan's: the loop would begin with none."""
        if self.cache is not None:
            raise Refused("past_key_values: a plan goes on with it; accepted: token ids alone")
        return super().extend(*args, **kwargs)

    @property
    def movable(self) -> bool:
        """Whether a plan can go on with it, or does."""
        return self.cache is not None or (movable(self) and self.shift is None)

    def move(self, rows: int) -> Cache:
        """What the loop has stored for a batch of ``rows`` as the plan's. Raises Refused where it cannot be."""
        if not self.movable:
            raise Refused("cache: what the policies have stored cannot go on by a plan; accepted: policies that act on "
                          "the prompt and keep the same entries for all heads")  # fmt: skip
        if self.cache is None:
            self.cache = Cache.of(self, rows)
            self.layers.clear()  # no second copy
        return self.cache


class Planned(Trimmed):
    """``anatomy.model`` with ``policies``, decoding by ``engine``'s plan where that can be. ``prefixes``: beginnings of
    prompts that need not be read again."""

    def __init__(
        self, anatomy: Anatomy, engine: Engine, policies: Policies = (), prefixes: Prefixes | None = None
    ) -> None:
        super().__init__(anatomy, policies)
        self.engine, self.prefixes = engine, prefixes

    def over(self, anatomy: Anatomy) -> Planned:
        return Planned(anatomy, self.engine, self.policies, self.prefixes)

    def later(self, ids: Tensor, slots: Slots, valid: Tensor | None, logits_to_keep: int) -> Tensor:
        """By the plan where what the loop has stored can go over to it."""
        if isinstance(slots, Moved) and slots.movable:
            return self.step(
                slots, ids, torch.ones_like(ids, dtype=torch.bool) if valid is None else valid, logits_to_keep
            )
        return super().later(ids, slots, valid, logits_to_keep)

    def step(
        self, slots: Moved, ids: Integer[Tensor, "b n"], valid: Bool[Tensor, "b n"], keep: int = 0
    ) -> Float[Tensor, "b n words"]:
        """Logits of the next tokens of every row, float32, 0 at padding; of the last ``keep`` ones, 0 for all."""
        assert slots.following is not None
        batch, count = ids.shape
        cache = slots.move(batch)
        positions = slots.following[:, None] + valid.long().cumsum(1) - 1
        shown = torch.arange(count) >= (count - keep if keep else 0)
        logits = torch.zeros(batch, min(keep, count) or count, self.engine.plan.words, dtype=torch.float32)
        sequences = torch.arange(batch)[:, None].expand(batch, count)
        rows = valid.flatten().nonzero()[:, 0]
        wanted = (shown & valid).flatten()
        for part in rows.split(ROWS) if len(rows) else ():
            found = self.engine.step(cache, ids.flatten()[part], positions.flatten()[part], sequences.flatten()[part],
                                     wanted=wanted[part])  # fmt: skip
            if found.logits is not None:
                at = part[wanted[part]]
                logits[at // count, at % count - (count - logits.shape[1])] = found.logits
        slots.advance(positions.masked_fill(~valid, 0), valid)
        return logits

    def empty_cache(self) -> Slots:
        return Moved()

    def prompt(self, batch: Batch, slots: Slots | None, logits_to_keep: int) -> Tensor:
        """By the plan where it can be (``prompted``), else by the loop."""
        if self.engine.prompts and (slots is None or isinstance(slots, Moved)):
            found = prompted(self.engine, batch, self.policies, logits_to_keep=logits_to_keep, view=self.anatomy,
                             prefixes=self.prefixes)  # fmt: skip
            if found is not None:
                if slots is not None:
                    slots.cache = found.cache
                    slots.advance(found.positions, found.valid)
                return found.logits
        return super().prompt(batch, slots, logits_to_keep)
