"""Sequences that are decoded side by side: how they begin, join those that run, leave, and take a step together.

By a plan every sequence has entries of its own, so rows join and leave at no cost; a call takes at most ``MOST`` of
them, whose sums are those of a row alone to the bit, so an answer does not depend on who else asks. By the loop rows
join in one cache, filled up on the left, where the model is float32 and no policy acts on the cache. Elsewhere rows
cannot be joined faithfully (a cache policy decides row by row and between words, in forms that do not line up; products
of bfloat16 differ by the number of rows): they take their steps one after the other, each in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.anatomy.base import Batch
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.trimmed import Trimmed
from trimtab.load.loaded import Loaded
from trimtab.runtime.plan.entries import Cache
from trimtab.runtime.plan.greedy import MOST
from trimtab.runtime.plan.model import Moved, Planned
from trimtab.serve.gathered import gathered, joined

CHUNK = 256 << 20
"""Bytes of a prompt's logits that are held at once where all of them are asked for."""

See = Callable[[Tensor], None]


@dataclass(frozen=True)
class Begun:
    """A prompt that was read: ``logits`` (words,) of its last token, ``gone``: tokens that policies took out of it."""

    slots: Slots
    logits: Float[Tensor, " words"]
    gone: int = 0


class Rows(Protocol):
    """What a lane of the scheduler does with a model."""

    how: str

    def begin(self, batch: Batch) -> Begun: ...
    def join(self, slots: Slots) -> None: ...
    def keep(self, which: Sequence[int]) -> None: ...
    def step(self, ids: Sequence[int]) -> Float[Tensor, "rows words"]: ...


class ByPlan:
    """Of a model with a plan, whose policies let it decode by it."""

    how = "plan"

    def __init__(self, model: Planned) -> None:
        self.model, self.running = model, list[Moved]()

    def begin(self, batch: Batch) -> Begun:
        slots = Moved()
        logits = self.model.prompt(batch, slots, 1)[0, -1]
        stored = slots.move(1).sequences[0][-1].count
        return Begun(slots, logits, int(batch["attention_mask"].sum()) - stored)

    def join(self, slots: Slots) -> None:
        assert isinstance(slots, Moved)
        slots.move(1)
        self.running.append(slots)

    def keep(self, which: Sequence[int]) -> None:
        self.running = [self.running[index] for index in which]

    def step(self, ids: Sequence[int]) -> Float[Tensor, "rows words"]:
        parts = [self._step(self.running[at : at + MOST], ids[at : at + MOST]) for at in range(0, len(ids), MOST)]
        return torch.cat(parts)

    def _step(self, rows: Sequence[Moved], ids: Sequence[int]) -> Tensor:
        cache = Cache([one.move(1).sequences[0] for one in rows])
        places = torch.stack([one.following[0] for one in rows if one.following is not None])
        every = torch.ones(len(rows), dtype=torch.bool)
        made = self.model.engine.step(cache, torch.tensor(ids), places, torch.arange(len(rows)), wanted=every)
        for one, place in zip(rows, places, strict=True):
            one.advance(place.view(1, 1), every[:1, None])
        assert made.logits is not None
        return made.logits


class Together:
    """By the loop, in one cache."""

    how = "loop"

    def __init__(self, model: Trimmed) -> None:
        self.model, self.running, self.count = model, Slots(), 0

    def begin(self, batch: Batch) -> Begun:
        return _begun(self.model, batch)

    def join(self, slots: Slots) -> None:
        self.running = joined([self.running, slots]) if self.count else slots
        self.count += 1

    def keep(self, which: Sequence[int]) -> None:
        self.running, self.count = gathered(self.running, which), len(which)

    def step(self, ids: Sequence[int]) -> Float[Tensor, "rows words"]:
        found: Tensor = step(self.model.anatomy, torch.tensor(ids)[:, None], self.running, logits_to_keep=1).logits
        return found[:, -1]


class InTurn:
    """One row after the other."""

    how = "loop, in turn"

    def __init__(self, model: Trimmed) -> None:
        self.model, self.running = model, list[Slots]()

    def begin(self, batch: Batch) -> Begun:
        return _begun(self.model, batch)

    def join(self, slots: Slots) -> None:
        self.running.append(slots)

    def keep(self, which: Sequence[int]) -> None:
        self.running = [self.running[index] for index in which]

    def step(self, ids: Sequence[int]) -> Float[Tensor, "rows words"]:
        made = [self.model.later(torch.tensor([[token]]), slots, None, 1)[0, -1]
                for token, slots in zip(ids, self.running, strict=True)]  # fmt: skip
        return torch.stack(made)


def rows_of(loaded: Loaded) -> Rows:
    """The way that is open to a model."""
    model: Any = loaded.model
    if not isinstance(model, Trimmed):
        model = Trimmed(loaded.anatomy)
    if isinstance(model, Planned) and not model.cached:
        return ByPlan(model)
    return InTurn(model) if model.cached or model.dtype != torch.float32 else Together(model)


def _begun(model: Trimmed, batch: Batch) -> Begun:
    slots = model.empty_cache()
    made = prefill(model.anatomy, batch, model.policies, slots, logits_to_keep=1)
    return Begun(slots, made.logits[0, -1], sum(int((one.before - one.after).sum()) for one in made.kept))


def read(rows: Any, batch: Batch, see: See) -> Begun | None:
    """As ``begin`` for a prompt of words alone, and ``see`` is shown the logits (n, words) of all of its tokens, part
    by part. None where a cache policy acts: what is read for its logits, which no such policy changes, is not what
    decoding goes on with."""
    model: Trimmed = rows.model
    bare = Planned(model.anatomy, model.engine) if isinstance(model, Planned) else Trimmed(model.anatomy)
    slots, last = bare.empty_cache(), None
    for ids, mask in _parts(batch, model.config.get_text_config().vocab_size):
        if last is None:
            logits = bare.prompt({"input_ids": ids, "attention_mask": mask}, slots, 0)
        else:
            logits = bare.later(ids, slots, mask.bool(), 0)
        see(logits[0])
        last = logits[0, -1]
    assert last is not None
    return None if model.cached else Begun(slots, last)


def _parts(batch: Batch, words: int) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(1, CHUNK // (4 * words))
    yield from zip(batch["input_ids"].split(size, 1), batch["attention_mask"].split(size, 1), strict=True)
