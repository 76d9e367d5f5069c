"""What each module of a model holds: numbers, whether they are trained, and stored bytes by dtype, each tensor once.

Summed over all modules the numbers are ``params.parameters`` and the bytes ``params.stored``: those of the tensors in a
checkpoint, with scales, zeros, masks and packed codes as they are stored. A shared tensor (a tied embedding) belongs to
the module that comes first. Buffers are apart; those that are not saved (rotary frequencies) are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from trimtab.core.weight import Weight
from trimtab.measure.params import identity, outermost


@dataclass(frozen=True)
class Holding:
    """``path`` of a module and its class; ``numbers`` it computes with, ``trained`` of them with gradients on; bytes of
    its ``buffers``, which are among ``bytes`` by dtype."""

    path: str
    kind: str
    numbers: int
    trained: int
    buffers: int
    bytes: dict[str, int]

    @property
    def stored(self) -> int:
        """Bytes of all dtypes."""
        return sum(self.bytes.values())


def inventory(model: nn.Module) -> list[Holding]:
    """A row for every module that holds something itself, in the model's order."""
    seen: set[tuple[object, ...]] = set()
    weights = {id(one) for one in outermost(model)}
    inside = {id(tensor) for one in outermost(model) for tensor in (*one.parameters(), *one.buffers())}
    counted: set[int] = set()
    rows = []
    for path, module in model.named_modules():
        numbers = trained = buffers = 0
        held: Counter[str] = Counter()
        if isinstance(module, Weight) and id(module) in weights:
            tensors = {id(one) for one in (*module.parameters(), *module.buffers())}
            numbers += 0 if tensors <= counted else module.shape[0] * module.shape[1]
            counted |= tensors
        for name, tensor in _own(module):
            new = id(tensor) not in inside and id(tensor) not in counted and isinstance(tensor, nn.Parameter)
            numbers += tensor.numel() if new else 0
            trained += tensor.numel() if tensor.requires_grad and identity(tensor) not in seen else 0
            counted |= {id(tensor)} if new else set()
            if identity(tensor) in seen:
                continue
            seen.add(identity(tensor))
            held[str(tensor.dtype).removeprefix("torch.")] += tensor.nbytes
            buffers += tensor.nbytes if name in module._buffers else 0
        if numbers or held:
            rows.append(Holding(path, type(module).__name__, numbers, trained, buffers, dict(held)))
    return rows


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """What a checkpoint has of the module itself, under its attributes' names."""
    unsaved = module._non_persistent_buffers_set
    held = {**module._parameters, **{name: one for name, one in module._buffers.items() if name not in unsaved}}
    return [(name, one) for name, one in held.items() if one is not None]


def totals(rows: Iterable[Holding], part_of: Callable[[str], str] = lambda path: "") -> dict[str, Holding]:
    """The sums by what ``part_of`` says of each path; by default all under ""."""
    found: dict[str, Holding] = {}
    for row in rows:
        part = part_of(row.path)
        sofar = found.get(part, Holding(part, "", 0, 0, 0, {}))
        held = Counter(sofar.bytes) + Counter(row.bytes)
        found[part] = Holding(part, "", sofar.numbers + row.numbers, sofar.trained + row.trained,
                              sofar.buffers + row.buffers, dict(held))  # fmt: skip
    return found
