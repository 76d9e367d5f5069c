"""Llama and what shares its layout: Mistral, Qwen2, Qwen3 (rotary positions, gated MLP, pre-norms, one final norm)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from trimtab.anatomy.base import Anatomy, Batch, Block, Part
from trimtab.anatomy.decoder import Decoder, rotary_of
from trimtab.core.errors import unknown
from trimtab.core.keep import Stream

LAYOUT = ("llama", "mistral", "qwen2", "qwen2_5_vl_text", "qwen2_vl_text", "qwen3", "qwen3_vl_text")


def decoder_of(name: str, module: Any) -> Decoder:
    """The stack ``module`` at the path ``name``, with the sliding windows that its configuration asks for.

    Raises BadInput for a stack of another layout.
    """
    config, count = module.config, len(module.layers)
    if config.model_type not in LAYOUT:
        raise unknown(f"{name}: decoder", config.model_type, LAYOUT)
    if config.model_type == "mistral":  # one window for all layers, or none
        windows, kinds = [config.sliding_window] * count, ["all"] * count
    else:
        kinds = list(getattr(config, "layer_types", None) or ["full_attention"] * count)
        windows = [config.sliding_window if kind == "sliding_attention" else None for kind in kinds]
    return Decoder(name, module, rotary_of(module), windows, ["all"] * count)


class Llama(Anatomy):
    """embed_tokens, layers, norm, lm_head."""

    PARTS: ClassVar[dict[str, Part]] = {
        "model.layers": "language",
        "model.embed_tokens": "embedding",
        "lm_head": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = ("model.layers", "model.embed_tokens", "model.norm", "lm_head")
    LOAD_AS: ClassVar[str] = "AutoModelForCausalLM"
    decodes: ClassVar[bool] = True

    @cached_property
    def decoder(self) -> Decoder:
        return decoder_of("model", self.model.model)

    def start(self, batch: Batch) -> Stream:
        return self.decoder.start(batch)

    def words(self, ids: Tensor, positions: Tensor, valid: Tensor) -> Stream:
        return self.decoder.words(ids, positions, valid)

    def build(self) -> Sequence[Block]:
        return self.decoder.blocks()

    def head_input(self, stream: Stream) -> Tensor:
        return self.decoder.normed(stream.x)

    def head(self, stream: Stream) -> Tensor:
        logits: Tensor = self.model.lm_head(self.head_input(stream))
        return logits
