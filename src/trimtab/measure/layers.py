"""Operations by module: what each layer of a model does in one call, and by which operators.

A module's ``flops`` are all that was counted between its call and its return, its children's included; ``own`` are
those that none of its children did. The convention is one: a multiplication and an addition are two operations
(``flop``). Multiply-adds (``mac``), half as many, are shown under their own name and unit, and ``total`` refuses to add
the two.

What does its work outside torch's operators, a compiled kernel for one, is not seen: count the reference, whose
operators say what the arithmetic is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from trimtab.core.errors import BadInput
from trimtab.core.reading import Reading
from trimtab.measure.flops import Flops


@dataclass(frozen=True)
class Layer:
    """``path`` of a module ("" is the whole model), its class, how often it was called, and its operations in all."""

    path: str
    kind: str
    calls: int
    flops: int
    own: int
    operators: dict[str, int]

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.flops // 2


@dataclass
class _Tally:
    calls: int = 0
    flops: int = 0
    own: int = 0
    operators: Counter[str] = field(default_factory=Counter)


class _Calls:
    """The calls that are open, innermost last: path, what was counted before, and what its children did."""

    def __init__(self, mode: Flops) -> None:
        self.mode = mode
        self.open: list[tuple[str, Counter[str], int]] = []
        self.tallies: dict[str, _Tally] = {}

    def enter(self, path: str, *_: Any) -> None:
        self.open.append((path, Counter(self.mode.by_operator), 0))

    def leave(self, path: str, *_: Any) -> None:
        _path, before, inside = self.open.pop()
        done = self.mode.by_operator - before
        tally, all_of_it = self.tallies.setdefault(path, _Tally()), sum(done.values())
        tally.calls += 1
        tally.flops += all_of_it
        tally.own += all_of_it - inside
        tally.operators.update(done)
        if self.open:
            outer, start, sofar = self.open[-1]
            self.open[-1] = (outer, start, sofar + all_of_it)


def layers(model: nn.Module, fn: Callable[[], object]) -> list[Layer]:
    """Every module that one call of ``fn`` calls, in the model's order."""
    mode = Flops()
    calls, handles = _Calls(mode), []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(partial(calls.enter, path)))
        handles.append(module.register_forward_hook(partial(calls.leave, path)))
    try:
        with mode:
            fn()
    finally:
        for handle in handles:
            handle.remove()
    return [
        Layer(path, type(module).__name__, found.calls, found.flops, found.own, dict(found.operators))
        for path, module in model.named_modules()
        if (found := calls.tallies.get(path)) is not None
    ]


def by_part(found: Iterable[Layer], part_of: Callable[[str], str]) -> dict[str, int]:
    """Operations by what ``part_of`` says of each path (``language``, ``vision``), each counted once."""
    parts: Counter[str] = Counter()
    for layer in found:
        if layer.own:
            parts[part_of(layer.path)] += layer.own
    return dict(parts)


def macs(name: str, fn: Callable[[], object]) -> Reading:
    """The multiply-adds of one call, under their own unit."""
    mode = Flops()
    with mode:
        fn()
    return Reading(name, mode.total / 2, "mac")


def total(name: str, readings: Sequence[Reading]) -> Reading:
    """The sum of counted figures. Raises BadInput where units differ: operations and multiply-adds, say."""
    units = sorted({one.unit for one in readings})
    if len(units) != 1:
        got = " and ".join(units) or "nothing"
        raise BadInput(f"{name}: got {got}; accepted: figures of one unit (1 mac = 2 flop)")
    return Reading(name, sum(one.value for one in readings), units[0])
