"""How many numbers a model has and how many bytes they take, tied and shared tensors once."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from trimtab.core.reading import Reading
from trimtab.core.weight import Weight


def parameters(model: nn.Module) -> int:
    """Numbers that the model computes with: out x in of each weight, however it is stored, and every parameter that
    is not in a weight."""
    inside: set[int] = set()
    total = 0
    for weight in outermost(model):
        tensors = {id(one) for one in (*weight.parameters(), *weight.buffers())}
        total += 0 if tensors <= inside else weight.shape[0] * weight.shape[1]
        inside |= tensors
    return total + sum(one.numel() for one in model.parameters() if id(one) not in inside)


def outermost(model: nn.Module) -> Iterator[Weight]:
    """The outermost weights, each once."""
    nested = {id(inner) for one in model.modules() if isinstance(one, Weight) for inner in list(one.modules())[1:]}
    return (one for one in model.modules() if isinstance(one, Weight) and id(one) not in nested)


def stored(model: nn.Module) -> int:
    """Bytes of the unique tensors that are saved: parameters and persistent buffers."""
    unique = {identity(one): one.numel() * one.element_size() for one in model.state_dict(keep_vars=True).values()}
    return sum(unique.values())


def identity(tensor: Tensor) -> tuple[object, ...]:
    """Equal for the same stretch of memory; tensors without any (on ``meta``) are themselves."""
    place = id(tensor) if tensor.is_meta else tensor.data_ptr()
    return place, tuple(tensor.shape), tensor.dtype


def stored16(model: nn.Module) -> int:
    """Bytes of the same model saved in 16 bits."""
    return 2 * parameters(model)


def readings(model: nn.Module) -> list[Reading]:
    """``parameters``, ``bytes.weights`` and ``bytes.weights16``, counted."""
    return [
        Reading("parameters", float(parameters(model)), "parameters"),
        Reading("bytes.weights", float(stored(model)), "bytes"),
        Reading("bytes.weights16", float(stored16(model)), "bytes"),
    ]
