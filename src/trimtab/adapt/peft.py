"""Adapters as the PEFT library keeps them: a folder with ``adapter_config.json`` and ``adapter_model.safetensors``.

    base_model.model.NAME.lora_A.weight (r, in)     .lora_B.weight (out, r)     .lora_magnitude_vector (out,)  (DoRA)

PEFT computes W x + s B A x; with DoRA (Liu et al. 2024, arXiv 2402.09353) m / ||W + s B A||_row times that, which, once
trained, is one factor for each row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trimtab.core.errors import BadInput, Refused
from trimtab.core.factors import Diagonal, LowRank
from trimtab.core.files import replacing, write_atomic
from trimtab.core.joins import Chain, Sum
from trimtab.core.tensorfile import save_tensors
from trimtab.core.weight import Weight

CONFIG, TENSORS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
KEY = re.compile(r"(?:base_model\.model\.)?(?P<name>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?")
PLAIN = {"fan_in_fan_out": False, "bias": "none", "modules_to_save": None, "layer_replication": None}
"""What of PEFT's configuration must be so, since an adapter that says otherwise is more than B A."""


@dataclass(frozen=True)
class Adapter:
    """What stands beside one linear: B A with its scale, and DoRA's magnitudes where it has them."""

    low: LowRank
    magnitude: Float[Tensor, " out"] | None = None

    def beside(self, w: Weight) -> Weight:
        """``w`` with the adapter, as an expression."""
        both = Sum([*w, self.low] if isinstance(w, Sum) else [w, self.low])
        if self.magnitude is None:
            return both
        norm = both.dense().float().norm(dim=1)
        return Chain([Diagonal((self.magnitude.float() / norm).to(w.dtype)), both])


def write(folder: Path, adapters: Mapping[str, LowRank], base: str, alpha: float, rslora: bool) -> None:
    """A PEFT folder of ``adapters`` by module path, all of one rank and scale; tensors first, then what names them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{PREFIX}{name}.lora_A.weight": low.right.detach().contiguous() for name, low in adapters.items()}
    tensors |= {f"{PREFIX}{name}.lora_B.weight": low.left.detach().contiguous() for name, low in adapters.items()}
    with replacing(folder / TENSORS) as temporary:
        save_tensors(temporary, tensors, {"format": "pt"})
    first = next(iter(adapters.values()))
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": first.rank, "lora_alpha": alpha, "use_rslora": rslora, "use_dora": False, "lora_dropout": 0.0,
        "target_modules": sorted(adapters), **PLAIN,
    }  # fmt: skip
    write_atomic(folder / CONFIG, json.dumps(config, indent=1, sort_keys=True) + "\n")


def read(folder: Path) -> dict[str, Adapter]:
    """The adapters of a PEFT folder (LoRA, rsLoRA, DoRA) by module path.

    Raises Refused for a pickle, BadInput, naming the key, for another kind of adapter, one that changes more than B A,
    or tensors without their pair.
    """
    config = _config(folder)
    pairs: dict[str, dict[str, Tensor]] = {}
    for key, value in _tensors(folder).items():
        found = KEY.fullmatch(key)
        if found is None:
            raise BadInput(
                f"{folder / TENSORS}: got the tensor {key!r}; accepted: lora_A, lora_B, lora_magnitude_vector"
            )
        pairs.setdefault(found["name"], {})[found["part"]] = value
    made = {}
    for name, parts in pairs.items():
        if "lora_A" not in parts or "lora_B" not in parts:
            raise BadInput(f"{folder / TENSORS}: {name} has {', '.join(parts)}; both lora_A and lora_B are needed")
        scale = _scale(config, name, parts["lora_A"].shape[0])
        low = LowRank(parts["lora_B"], parts["lora_A"], scale)
        made[name] = Adapter(low, parts.get("lora_magnitude_vector"))
    if not made:
        raise BadInput(f"{folder / TENSORS}: holds no tensor")
    return made


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; accepted: a folder that PEFT or trimtab wrote") from error
    except ValueError as error:
        raise BadInput(f"{path}: not JSON ({error})") from error
    kind = config.get("peft_type")
    if kind != "LORA":
        raise BadInput(f"{path}: peft_type: got {kind!r}; accepted: 'LORA' (with use_rslora or use_dora too)")
    for key, wanted in PLAIN.items():
        if config.get(key, wanted) not in (wanted, []):
            raise BadInput(f"{path}: {key}: got {config[key]!r}; accepted: {wanted!r}")
    return config


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """alpha / r, or alpha / sqrt(r) for rsLoRA; ``alpha_pattern`` is by the end of a module path or its pattern."""
    alpha = float(config.get("lora_alpha", 8))
    for pattern, other in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            alpha = float(other)
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / TENSORS
    if not path.is_file():
        pickles = [one.name for one in folder.glob("adapter_model.*")]
        if pickles:
            raise Refused(
                f"{folder / pickles[0]}: a pickle, which can run any code when it is opened; accepted: {TENSORS}"
            )
        raise BadInput(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key).clone(memory_format=torch.contiguous_format) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BadInput(f"{path}: corrupt or truncated safetensors ({error})") from error
