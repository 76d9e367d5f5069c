"""An artifact written back as a plain Hugging Face folder with dense 16-bit weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from trimtab.core.errors import Refused
from trimtab.core.linear import Embedding, Linear, Patches
from trimtab.core.tensorfile import save_tensors
from trimtab.load.artifact import read
from trimtab.load.cache import new_folder
from trimtab.load.checkpoint import SINGLE


def export(artifact: Path, out: Path) -> int:
    """Write ``artifact`` to the new folder ``out``; bytes of the weight file. Any host is written as the library's own
    layer: its dense matrix, so the file is as large as before trimming.

    Raises Refused where ``out`` exists, or the artifact has policies, which such a folder cannot carry.
    """
    if out.exists():
        raise Refused(f"--out: {out} exists; name a new folder")
    loaded = read(artifact)
    if loaded.policies:
        names = ", ".join(method.CARD.name for method in loaded.policies)
        raise Refused(f"export: {artifact} has the policies {names}, which a plain folder cannot carry")
    tensors = dense_state(loaded.library)
    with new_folder(out) as fresh:
        save_tensors(fresh / SINGLE, tensors, {"format": "pt"})
        for path in sorted((artifact / "source").iterdir()):
            (fresh / path.name).write_bytes(path.read_bytes())
        (fresh / "trimtab-export.json").write_text(
            json.dumps({"from": loaded.source.id, "weights": "dense, 16 bits, values as trimmed"}), encoding="utf-8"
        )
        return (fresh / SINGLE).stat().st_size


def dense_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The library's own state: names and shapes as before hosting, tied matrices once."""
    patches = {id(module.linear): module.size for module in model.modules() if isinstance(module, Patches)}
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, Linear | Embedding) and id(module.w) not in seen:
            seen.add(id(module.w))
            matrix = module.w.dense().detach()
            if id(module) in patches:
                high, wide = patches[id(module)]
                matrix = matrix.unflatten(1, (-1, high, wide))
            found[f"{path.removesuffix('.linear') if id(module) in patches else path}.weight"] = matrix.contiguous()
            bias = getattr(module, "bias", None)
            if bias is not None:
                name = path.removesuffix(".linear") if id(module) in patches else path
                found[f"{name}.bias"] = bias.detach().contiguous()
    inside = {name for name in model.state_dict() if _hosted(model, name)}
    rest = {name: value for name, value in model.state_dict().items() if name not in inside}
    return found | {name: value.detach().contiguous() for name, value in rest.items()}


def _hosted(model: torch.nn.Module, name: str) -> bool:
    """Whether a state entry belongs to a host."""
    module, parts = model, name.split(".")
    for part in parts[:-1]:
        module = getattr(module, part)
        if isinstance(module, Linear | Embedding):
            return True
    return False
