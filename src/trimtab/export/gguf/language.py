"""A decoder as GGUF: the entries of its tensors and the keys that describe it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Integer
from torch import Tensor

from trimtab.core.errors import Refused
from trimtab.export.gguf.entry import Entry, Value, entry, plain
from trimtab.export.gguf.families import Family, family_of, head_dim, ropes, window
from trimtab.load.gguf_config import frequency_divisors

TOP = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}


def entries(config: Any, values: Mapping[str, Value]) -> list[Entry]:
    """The file's tensors. ``values``: of the decoder, by the library's names from ``embed_tokens``, ``layers``,
    ``norm`` or ``lm_head`` on. Raises Refused for a form or a tensor that the architecture has no room for."""
    family = family_of(config)
    made = [_entry(config, family, name, value) for name, value in values.items()]
    return made + list(_frequencies(config))


def _entry(config: Any, family: Family, name: str, value: Value) -> Entry:
    path, _, role = name.rpartition(".")
    place = _place(family, path)
    if place is None:
        raise Refused(f"--format gguf: {name} has no place in llama.cpp's {family.arch!r}; nearest: --format dense")
    if not isinstance(value, Tensor):
        made = entry(value, f"{place}.{role}", name)
    else:
        shifted = value.float() + 1 if family.one and path.endswith("norm") else value
        made = plain(f"{place}.{role}", shifted)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(path.rpartition(".")[2])
    return made.rows(neighbours(made.shape[0], heads)) if family.turned and heads else made


def _place(family: Family, path: str) -> str | None:
    parts = path.split(".")
    if parts[0] != "layers":
        return TOP.get(path)
    inner = family.layer.get(".".join(parts[2:]))
    return None if inner is None else f"blk.{parts[1]}.{inner}"


def neighbours(rows: int, heads: int) -> Integer[Tensor, " rows"]:
    """Row order in which what the library's rotary embedding turns together, i and i + d/2 of a head of width d,
    become neighbours, as in the original LLaMA."""
    return torch.arange(rows).view(heads, 2, -1).transpose(1, 2).reshape(-1)


def _frequencies(config: Any) -> Iterator[Entry]:
    rope = ropes(config)["full_attention"]
    if rope.get("rope_type") == "llama3":
        yield plain("rope_freqs.weight", frequency_divisors(rope, head_dim(config)))


def describe(writer: Any, config: Any) -> None:
    """The keys of the architecture, through the package's own writer."""
    full = ropes(config)["full_attention"]
    near = ropes(config).get("sliding_attention")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(window(config) or config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_rope_dimension_count(head_dim(config))
    writer.add_rope_freq_base(float(full["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if full.get("rope_type") == "linear":
        writer.add_string(f"{writer.arch}.rope.scaling.type", "linear")
        writer.add_rope_scaling_factor(float(full["factor"]))
    if full.get("rope_type") == "llama3":  # beside the divisors themselves, so that they can be named again
        writer.add_rope_scaling_orig_ctx_len(int(full["original_max_position_embeddings"]))
    if near is not None:
        writer.add_sliding_window(config.sliding_window)
        writer.add_float32(f"{writer.arch}.rope.freq_base_swa", float(near["rope_theta"]))
