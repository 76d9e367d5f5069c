"""Hosts in place of the library's linear layers and word tables; parameters are shared, never copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from trimtab.core.errors import BadInput
from trimtab.core.linear import Embedding, Host, Linear
from trimtab.core.weight import Dense


def install(model: nn.Module, tables: Mapping[str, float]) -> None:
    """Replace every ``nn.Linear``, and the embeddings named in ``tables`` (name to factor), by hosts.

    Layers that share a parameter (a tied embedding and head) get one common ``Weight``. Doing it again does nothing.
    Raises BadInput for a subclass of ``nn.Linear``, whose extra behaviour would be lost.
    """
    shared: dict[int, Dense] = {}

    def weight(value: Tensor) -> Dense:
        return shared.setdefault(id(value), Dense(value))

    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear):
            if type(module) is not nn.Linear:
                raise BadInput(f"{name}: got a {type(module).__name__}; accepted: plain torch.nn.Linear layers")
            model.set_submodule(name, Linear(weight(module.weight), module.bias, name))
        elif name in tables and isinstance(module, nn.Embedding):
            model.set_submodule(name, Embedding(weight(module.weight), name, tables[name]))


def hosts(model: nn.Module) -> Iterator[Host]:
    """Every host of the model, once, in the order of the library's modules."""
    return (module for module in model.modules() if isinstance(module, Host))
