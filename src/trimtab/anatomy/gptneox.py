"""GPT-NeoX (Pythia): one fused projection for queries, keys and values, rotary on a part of each head, biases.

Attention and MLP stand side by side behind a norm each (``use_parallel_residual``), or one behind the other; both are
inside the library's layer, and the stages are the same.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from trimtab.anatomy.base import Part
from trimtab.anatomy.decoder import Decoder, rotary_of
from trimtab.anatomy.llama import Llama

STAGES = (("attention.query_key_value",), ("attention.dense",), ("mlp.dense_h_to_4h",), ("mlp.dense_4h_to_h",))


class GptNeoX(Llama):
    """Differs from Llama in names, and in what a layer calls its cache."""

    PARTS: ClassVar[dict[str, Part]] = {
        "gpt_neox.layers": "language",
        "gpt_neox.embed_in": "embedding",
        "lm_head": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = (
        "gpt_neox.layers", "gpt_neox.embed_in", "gpt_neox.final_layer_norm", "lm_head",
    )  # fmt: skip
    LOAD_AS: ClassVar[str] = "GPTNeoXForCausalLM"

    @cached_property
    def decoder(self) -> Decoder:
        module = self.model.gpt_neox
        count = len(module.layers)
        return Decoder(
            "gpt_neox", module, rotary_of(module), [None] * count, ["all"] * count,
            stages=STAGES, table="embed_in", norm="final_layer_norm", cache="layer_past",
        )  # fmt: skip
