"""What transformers' reader of GGUF files leaves out of the config, from the file's own keys and tensors.

It drops tensors of biases that the config does not name, takes default widths of heads for Qwen 3, reads no rotary
scaling, and keeps Gemma's default scale of queries. Each of these loads without a word and answers wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.errors import BadInput

KNOWN = ("llama", "qwen2", "qwen3", "gemma3")
PUBLISHED = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""Of Llama 3.1 and its successors; a file holds only what follows from them."""


def complete(path: Path, config: Any) -> Any:
    """``config`` as transformers read it from the file, with what the file says besides. Architectures outside
    ``KNOWN`` are left as they are. Raises BadInput for a rotary scaling that the library has no words for."""
    import gguf

    reader: Any = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    if arch not in KNOWN:
        return config
    said = {name.removeprefix(f"{arch}."): field.contents() for name, field in reader.fields.items()
            if name.startswith(f"{arch}.")}  # fmt: skip
    tensors = {one.name: one for one in reader.tensors}
    if "attention.key_length" in said:
        config.head_dim = int(said["attention.key_length"])
    if arch == "llama":
        config.attention_bias = "blk.0.attn_q.bias" in tensors
        config.mlp_bias = "blk.0.ffn_up.bias" in tensors
    full = config.rope_parameters.get("full_attention", config.rope_parameters)
    _scale(path, full, said)
    if "rope_freqs.weight" in tensors:
        divisors = torch.tensor(tensors["rope_freqs.weight"].data.copy())
        full |= _long(path, divisors, full["rope_theta"], said)
    if arch == "gemma3":
        near = config.rope_parameters["sliding_attention"]
        near["rope_theta"] = float(said.get("rope.freq_base_swa", 10_000.0))
        whole = config.hidden_size // config.num_attention_heads
        config.query_pre_attn_scalar = whole if config.num_hidden_layers == 62 else config.head_dim
    return config


def has_words(path: Path) -> bool:
    """Whether the file holds a tokenizer; without one it says ``none``."""
    import gguf

    field: Any = gguf.GGUFReader(path).fields.get("tokenizer.ggml.model")
    return field is None or field.contents() != "none"


def _scale(path: Path, rope: dict[str, Any], said: Mapping[str, Any]) -> None:
    kind = said.get("rope.scaling.type", "none")
    if kind == "linear" and said.get("rope.scaling.factor", 1.0) != 1.0:
        rope |= {"rope_type": "linear", "factor": float(said["rope.scaling.factor"])}
    elif kind not in ("none", "linear"):
        raise BadInput(f"{path}: rope.scaling.type is {kind!r}; accepted: none and linear, and Llama 3.1's frequencies")
    if "rope.freq_base" in said:
        rope["rope_theta"] = float(said["rope.freq_base"])


def _long(path: Path, divisors: Tensor, theta: float, said: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters from which ``divisors`` follow, if they are Llama 3.1's."""
    context = int(said.get("rope.scaling.original_context_length", 8192))
    rope = {"rope_type": "llama3", "rope_theta": theta, "factor": round(float(divisors.max()), 4), **PUBLISHED,
            "original_max_position_embeddings": context}  # fmt: skip
    if not torch.allclose(frequency_divisors(rope, 2 * len(divisors)), divisors, rtol=1e-4):
        raise BadInput(f"{path}: rope_freqs.weight does not follow from a factor and Llama 3.1's other parameters")
    return rope


def frequency_divisors(rope: Mapping[str, Any], width: int) -> Float[Tensor, " half"]:
    """By what each rotary frequency is divided: ``factor`` where its wave is longer than context / low, 1 where it is
    shorter than context / high, in between 1 / ((1 - s) / factor + s) with s = (context / wave - low) / (high - low)
    (Llama 3.1, 2024)."""
    context, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    wave = 2 * math.pi * rope["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    share = ((context / wave - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - share) / factor + share)).float()
