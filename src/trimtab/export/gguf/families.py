"""The decoders that can leave as GGUF: llama.cpp's name for each, its names for their tensors, and what it assumes.

llama.cpp has one fixed graph for an architecture. What a config can say and the graph cannot do is refused here by its
key; a window of attention that the graph lacks becomes the context length, up to which there is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trimtab.core.errors import Refused, nearest

LAYER = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
NORMED = LAYER | {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
SANDWICH = NORMED | {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
ROPES = ("default", "linear", "llama3")
"""Kinds of rotary scaling that are written: none, one factor, or one factor for each frequency as a tensor."""


@dataclass(frozen=True)
class Family:
    """``layer``: module path in a layer -> name in a block. ``turned``: rows of q and k are paired as neighbours, where
    the library pairs halves of a head. ``one``: norms multiply by 1 + w, which the file holds as such. ``act``: the
    activation of the graph. ``biased``: whether q, k and v may have biases that are no default of the model's."""

    arch: str
    layer: Mapping[str, str] = field(default_factory=lambda: LAYER)
    turned: bool = False
    one: bool = False
    act: str = "silu"
    biased: bool = True


FAMILIES: dict[str, Family] = {
    "llama": Family("llama", turned=True),
    "mistral": Family("llama", turned=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3", NORMED, biased=False),
    "gemma3_text": Family("gemma3", SANDWICH, one=True, act="gelu_pytorch_tanh", biased=False),
}
"""By the ``model_type`` of the text config."""


def family_of(config: Any) -> Family:
    """The family of a text config, if the graph of its architecture does all that the config says. Raises Refused."""
    kind = config.model_type
    if kind not in FAMILIES:
        raise Refused(f"--format gguf: the decoder is a {kind!r}{nearest(kind, FAMILIES)}; accepted: "
                      f"{', '.join(FAMILIES)}; nearest: --format dense, and llama.cpp's own converter")  # fmt: skip
    found = FAMILIES[kind]
    act = getattr(config, "hidden_activation", None) or config.hidden_act
    if act != found.act:
        _refuse("hidden_act", act, found.act)
    if not found.biased and config.attention_bias:
        _refuse("attention_bias", True, "False")
    for name, rope in ropes(config).items():
        kind = rope.get("rope_type", "default")
        if kind not in ROPES or (kind != "default" and name == "sliding_attention"):
            _refuse(f"rope_parameters.{name}.rope_type", kind, ", ".join(ROPES))
        if rope.get("partial_rotary_factor", 1.0) != 1.0:
            _refuse("partial_rotary_factor", rope["partial_rotary_factor"], "1")
    if found.arch == "gemma3":
        _check_gemma(config)
    return found


def _check_gemma(config: Any) -> None:
    """llama.cpp's graph has a full layer every sixth, no caps, and a scale that follows from the sizes."""
    pattern = ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(config.num_hidden_layers)]
    if list(config.layer_types) != pattern:
        _refuse("layer_types", "another pattern", "every sixth layer full_attention, the others sliding_attention")
    for key in ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention"):
        if getattr(config, key, None):
            _refuse(key, getattr(config, key), "none")
    if config.query_pre_attn_scalar != query_scale(config):
        _refuse("query_pre_attn_scalar", config.query_pre_attn_scalar, str(query_scale(config)))


def query_scale(config: Any) -> int:
    """By whose root llama.cpp divides Gemma's products: the head's width, in the 27B (62 layers) hidden / heads."""
    whole: int = config.hidden_size // config.num_attention_heads
    return whole if config.num_hidden_layers == 62 else int(config.head_dim)


def ropes(config: Any) -> dict[str, dict[str, Any]]:
    """The rotary parameters by kind of attention."""
    found: dict[str, Any] = config.rope_parameters
    nested = {name: one for name, one in found.items() if name in ("full_attention", "sliding_attention")}
    return nested or {"full_attention": found}


def head_dim(config: Any) -> int:
    """Width of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def window(config: Any) -> int | None:
    """The model's window of attention where the graph would look further: None where there is none or it knows it."""
    if config.model_type == "gemma3_text" or getattr(config, "use_sliding_window", True) is False:
        return None
    kinds = getattr(config, "layer_types", None)
    found: int | None = getattr(config, "sliding_window", None)
    if found is None or found >= config.max_position_embeddings:
        return None
    return found if kinds is None or "sliding_attention" in kinds else None


def _refuse(key: str, got: object, accepted: str) -> None:
    raise Refused(f"--format gguf: config.{key} is {got!r}, which llama.cpp's graph does not do; accepted: {accepted}")
