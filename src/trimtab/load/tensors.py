"""The tensors of a model on disk: each once, shared ones by an alias table, read back into fresh aligned memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.place import places
from trimtab.core.stored import Stored
from trimtab.core.tensorfile import Late, save_tensors
from trimtab.core.tensorheader import read_header


def collect(model: nn.Module) -> tuple[dict[str, Tensor | Late], dict[str, str]]:
    """(tensors by state_dict name, aliases {name: name of the same tensor}); a matrix that is still in its file is
    handed out to be read when it is written. Raises Anomaly for a tensor on meta."""
    late = {f"{path}.value": one for path, one in model.named_modules(remove_duplicate=False)
            if isinstance(one, Stored)}  # fmt: skip
    owners: dict[object, str] = {}
    tensors: dict[str, Tensor | Late] = {}
    aliases = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if value.is_meta:
            raise Anomaly(f"{name}: the tensor has no values (it is on the meta device)")
        address = value.data_ptr() if value.numel() else name
        owner = owners.setdefault((address, value.shape, value.stride(), value.dtype), name)
        if owner == name:
            tensors[name] = late.get(name, value.detach())
        else:
            aliases[name] = owner
    return tensors, aliases


def save(path: Path, tensors: Mapping[str, Tensor | Late], metadata: str = "") -> None:
    """A safetensors file; the bytes depend on nothing but names, values and ``metadata``."""
    save_tensors(path, tensors, {"trimtab": metadata} if metadata else None)


def load(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, checked first (see ``core/tensorheader.py``)."""
    return {name: place.read() for name, place in places(path).items()}


def metadata(path: Path) -> str:
    """What ``save`` was given as ``metadata``."""
    read_header(path)
    with safe_open(path, framework="pt") as file:
        return str((file.metadata() or {}).get("trimtab", ""))


def assign(model: nn.Module, tensors: Mapping[str, Tensor], aliases: Mapping[str, str], where: str) -> None:
    """Give the model its tensors, shared ones as one object. Raises BadInput, naming ``where``, for any that is
    missing, left over or of another shape, and Anomaly where one is on meta afterwards."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    owned = {
        name: nn.Parameter(value, requires_grad=value.is_floating_point()) if name in parameters else value
        for name, value in tensors.items()
    }
    lost = [f"{name} (alias of {owner})" for name, owner in aliases.items() if owner not in owned]
    expected = set(model.state_dict()) - set(aliases)
    lost += sorted(expected - set(owned))
    over = sorted(set(owned) - expected)
    if lost or over:
        raise BadInput(
            f"{where}: {len(lost)} tensors are missing ({', '.join(lost[:8])}), {len(over)} are left over "
            f"({', '.join(over[:8])})"
        )
    try:
        model.load_state_dict({**owned, **{name: owned[owner] for name, owner in aliases.items()}}, assign=True)
    except RuntimeError as error:
        raise BadInput(f"{where}: {error}") from error
    empty = [name for name, value in (*model.named_parameters(), *model.named_buffers()) if value.is_meta]
    if empty:
        raise Anomaly(f"{where}: no values after loading: {', '.join(empty[:8])}")
