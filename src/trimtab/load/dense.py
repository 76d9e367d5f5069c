"""An artifact written back as a plain Hugging Face folder with dense 16-bit weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from trimtab.core.errors import Refused
from trimtab.core.linear import Embedding, Host, Linear, Recast
from trimtab.core.tensorfile import save_tensors
from trimtab.load.artifact import read
from trimtab.load.cache import new_folder
from trimtab.load.checkpoint import SINGLE
from trimtab.load.manifest import read_manifest


def export(artifact: Path, out: Path) -> int:
    """Write ``artifact`` to the new folder ``out``; bytes of the weight file. Any host is written as the library's own
    layer: its dense matrix, so the file is as large as before trimming.

    Raises Refused where ``out`` exists, or the artifact has policies or rounds inputs: such a folder cannot say it.
    """
    if out.exists():
        raise Refused(f"--out: {out} exists; name a new folder")
    if read_manifest(artifact).activations:
        raise Refused(f"export: {artifact} rounds the input of its linears to 8 bits, which a plain folder cannot say; "
                      "trim with rtn or gptq for dense weights")  # fmt: skip
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
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():  # a module before those inside it
        if isinstance(module, Recast):
            found |= {f"{path}.{name}": value for name, value in module.original().items()}
            seen |= {id(host.w) for host in module.modules() if isinstance(host, Host)}
        elif isinstance(module, Linear | Embedding) and id(module.w) not in seen:
            seen.add(id(module.w))
            found[f"{path}.weight"] = module.w.dense()
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
