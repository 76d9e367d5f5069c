"""A LLaVA's tower and projector as ``mmproj-model.gguf``, in the layout of llama.cpp's ``clip`` architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from trimtab.core.errors import Refused
from trimtab.export.gguf.entry import Entry, Value, entry, plain

TOP = {
    "vision_tower.embeddings.class_embedding": "v.class_embd",
    "vision_tower.embeddings.patch_embedding.weight": "v.patch_embd.weight",
    "vision_tower.embeddings.position_embedding.weight": "v.position_embd.weight",
    "vision_tower.pre_layrnorm.weight": "v.pre_ln.weight",
    "vision_tower.pre_layrnorm.bias": "v.pre_ln.bias",
    "multi_modal_projector.linear_1.weight": "mm.0.weight",
    "multi_modal_projector.linear_1.bias": "mm.0.bias",
    "multi_modal_projector.linear_2.weight": "mm.2.weight",
    "multi_modal_projector.linear_2.bias": "mm.2.bias",
}
LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out", "layer_norm1": "ln1", "layer_norm2": "ln2", "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}  # fmt: skip
LAYERS, POST = "vision_tower.encoder.layers.", "vision_tower.post_layernorm."


def layers(config: Any) -> int:
    """How many layers of the tower are run: those up to the one whose states are shown."""
    shown: int = config.vision_feature_layer
    return shown if shown >= 0 else int(config.vision_config.num_hidden_layers) + shown + 1


def check(config: Any) -> None:
    """Raises Refused for a vision side that llama.cpp's LLaVA graph does not run, by its key."""
    head = "--format gguf: "
    tower: Any = getattr(config, "vision_config", None)
    if config.model_type != "llava" or getattr(tower, "model_type", None) != "clip_vision_model":
        raise Refused(
            f"{head}the model is a {config.model_type!r} with a {getattr(tower, 'model_type', None)!r}; accepted: a "
            "'llava' with a 'clip_vision_model', or a text model; nearest: --format dense, or llama.cpp's converter"
        )
    wanted: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "vision_feature_select_strategy": (config.vision_feature_select_strategy, ("default",)),
        "projector_hidden_act": (config.projector_hidden_act, ("gelu",)),
        "multimodal_projector_bias": (config.multimodal_projector_bias, (True,)),
        "vision_config.hidden_act": (tower.hidden_act, ("quick_gelu", "gelu")),
    }
    for key, (got, accepted) in wanted.items():
        if got not in accepted:
            raise Refused(f"{head}config.{key} is {got!r}; accepted: {', '.join(map(repr, accepted))}")
    if not isinstance(config.vision_feature_layer, int):
        raise Refused(f"{head}config.vision_feature_layer is {config.vision_feature_layer}; accepted: one layer")
    if layers(config) < 1:
        raise Refused(f"{head}config.vision_feature_layer shows no layer of the tower; accepted: at least one")
    if tower.intermediate_size == tower.hidden_size:
        raise Refused(
            f"{head}config.vision_config.intermediate_size is hidden_size ({tower.hidden_size}), and llama.cpp then "
            "takes the two halves of the MLP for each other; accepted: another size"
        )


def entries(config: Any, values: Mapping[str, Value]) -> list[Entry]:
    """The file's tensors. ``values``: of tower and projector by the library's names behind ``model.``. Layers behind
    the one that is shown, and the tower's last norm, are left out: nothing reads them."""
    found = [(name, _name(config, name), value) for name, value in values.items()]
    return [_entry(name, place, value) for name, place, value in found if place is not None]


def _name(config: Any, name: str) -> str | None:
    """Where a tensor goes; None where it is not needed. Raises Refused for one that has no place."""
    if name in TOP or name.startswith(POST):
        return TOP.get(name)
    if name.startswith(LAYERS):
        number, _, rest = name.removeprefix(LAYERS).partition(".")
        path, _, role = rest.rpartition(".")
        if path in LAYER:
            return f"v.blk.{number}.{LAYER[path]}.{role}" if int(number) < layers(config) else None
    raise Refused(f"--format gguf: {name} has no place in llama.cpp's 'clip'; nearest: --format dense")


def _entry(name: str, place: str, value: Value) -> Entry:
    """What is added or convolved in llama.cpp must be numbers: the patches' and positions' tables are in float32."""
    if not isinstance(value, Tensor):
        return entry(value, place, name)
    return plain(place, value, "F32" if "embed" in name else None)


def describe(writer: Any, config: Any, processor: Any) -> None:
    """The keys of tower and projector."""
    tower, images = config.vision_config, processor.image_processor
    writer.add_clip_projector_type("mlp")
    writer.add_clip_has_vision_encoder(True)
    writer.add_bool("clip.has_text_encoder", False)  # these two are asked for by older versions
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_vision_image_size(tower.image_size)
    writer.add_vision_patch_size(tower.patch_size)
    writer.add_vision_embedding_length(tower.hidden_size)
    writer.add_vision_feed_forward_length(tower.intermediate_size)
    writer.add_vision_projection_dim(config.text_config.hidden_size)
    writer.add_vision_block_count(layers(config))
    writer.add_vision_head_count(tower.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(tower.layer_norm_eps)
    writer.add_vision_image_mean([float(value) for value in images.image_mean])
    writer.add_vision_image_std([float(value) for value in images.image_std])
    writer.add_array("clip.vision.feature_layer", [layers(config)])
    writer.add_vision_use_gelu(tower.hidden_act == "gelu")
