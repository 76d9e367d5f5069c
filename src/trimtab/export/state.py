"""A hosted model's tensors under the library's own names: dense matrices, and everything that is no host's."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from trimtab.core.linear import Embedding, Host, Linear, Recast


def dense_state(model: torch.nn.Module, without: Collection[str] = ()) -> dict[str, Tensor]:
    """The library's own state: names and shapes as before hosting, tied matrices once, at the first of their names.
    Hosts at the module paths ``without`` leave their bias only, the caller writes their matrix."""
    found: dict[str, Tensor] = {}
    apart: set[int] = set()  # weights that need no line of their own
    inner: set[int] = set()  # hosts whose module writes for them
    for path, module in model.named_modules():  # a module before those inside it
        if isinstance(module, Recast):
            found |= {f"{path}.{name}": value for name, value in module.original().items()}
            hosts = [host for host in module.modules() if isinstance(host, Host)]
            inner |= {id(host) for host in hosts}
            apart |= {id(host.w) for host in hosts}
        elif isinstance(module, Linear | Embedding) and id(module) not in inner:
            if path not in without and id(module.w) not in apart:
                found[f"{path}.weight"] = module.w.dense()
            apart.add(id(module.w))
            if isinstance(module, Linear) and module.bias is not None:
                found[f"{path}.bias"] = module.bias
    inside = {name for name in model.state_dict() if _hosted(model, name)}
    rest = {name: value for name, value in model.state_dict().items() if name not in inside}
    return {name: value.detach().contiguous() for name, value in (found | rest).items()}


def _hosted(model: torch.nn.Module, name: str) -> bool:
    """Whether a state entry belongs to a host."""
    module, parts = model, name.split(".")
    for part in parts[:-1]:
        module = getattr(module, part)
        if isinstance(module, Linear | Embedding):
            return True
    return False
