"""Folders as ``trimtab export`` and ``trimtab run`` leave them, but for their weights: the built-in model's config and
words with a ``quantization_config`` of the exporters' own making, and an artifact's manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trimtab.core.acts import DynamicInt8
from trimtab.core.weight import Quantized
from trimtab.export import awq, compressed_tensors, gptq
from trimtab.load.builtin import builtin_folder
from trimtab.load.manifest import FILE, Base, Manifest, Policy


def codes(bits: int, group: int = 64, symmetric: bool = True) -> Quantized:
    """Of a matrix of 8 x 192."""
    made = torch.randint(0, 2**bits, (8, 192), dtype=torch.uint8)
    zero = None if symmetric else torch.ones(8, 192 // group, dtype=torch.uint8)
    return Quantized.of(made, torch.ones(8, 192 // group), zero, bits)


def described(name: str, w: Quantized, *, rounds: bool = False, where: str = "language_model.q_proj") -> dict[str, Any]:
    """What stands in the config of an export ``name``."""
    if name == "compressed-tensors":
        return compressed_tensors.described({where: w}, [], {where: DynamicInt8()} if rounds else {})
    return gptq.described({where: w}, gptq.is_first({where: w})) if name == "gptq" else awq.described(w, [])


def exported(
    folder: Path,
    about: dict[str, Any] | None = None,
    name: str | None = "dense",
    notes: Sequence[str] = (),
    **more: Any,
) -> Path:
    """A new folder; ``about``: its ``quantization_config``; ``name``: of the format, None for no record of an export;
    ``more``: of the config, None to leave a key out."""
    shutil.copytree(builtin_folder("easyvqa-llava"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text()) | more
    if about:
        config["quantization_config"] = about
    (folder / "config.json").write_text(json.dumps({key: one for key, one in config.items() if one is not None}))
    save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    if name is not None:
        (folder / "trimtab-export.json").write_text(json.dumps({"format": name, "notes": list(notes)}))
    return folder


def artifact(folder: Path, w: Quantized | None = None, policy: str | None = None) -> Path:
    """A folder with the manifest of an artifact: dense, or with one matrix of codes; ``policy``: a method's name."""
    folder.mkdir()
    spec = {"kind": "dense"} if w is None else w.spec()
    said = Manifest(
        base=Base(id="easyvqa-llava", revision="1", license="MIT", kind="builtin", bytes16=1), dtype="bfloat16",
        architecture="LlavaForConditionalGeneration", image_backend="pil", threads=3, lowered=True, versions={},
        bytes=1, weights={"a": spec}, aliases={}, policies=() if policy is None else (Policy(method=policy, knobs={}),),
    )  # fmt: skip
    (folder / FILE).write_text(said.dump())
    return folder
