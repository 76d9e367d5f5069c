"""Phi (1, 1.5, 2) and Phi-3 (3, 3.5, 4). Both turn a part of each head only; the rest differs.

Phi's attention and MLP stand side by side behind one norm: ``fc1`` reads what the queries read, so it is of their
stage. Phi-3 is Llama with fused projections, and in its long-context form with two sets of rotary frequencies.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from jaxtyping import Bool, Integer
from torch import Tensor

from trimtab.anatomy.decoder import Decoder, rotary_of
from trimtab.anatomy.llama import Llama
from trimtab.core.errors import Refused
from trimtab.core.keep import Stream

PARALLEL = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.fc1"),
    ("self_attn.dense",),
    ("mlp.fc2",),
)
FUSED = (("self_attn.qkv_proj",), ("self_attn.o_proj",), ("mlp.gate_up_proj",), ("mlp.down_proj",))


class Phi(Llama):
    """Differs from Llama in its layer, in the name of the final norm and in a bias of the head."""

    NEEDS: ClassVar[tuple[str, ...]] = ("model.layers", "model.embed_tokens", "model.final_layernorm", "lm_head")
    LOAD_AS: ClassVar[str] = "PhiForCausalLM"

    @cached_property
    def decoder(self) -> Decoder:
        module, count = self.model.model, len(self.model.model.layers)
        return Decoder(
            "model", module, rotary_of(module), [None] * count, ["all"] * count,
            stages=PARALLEL, norm="final_layernorm",
        )  # fmt: skip


class Phi3(Llama):
    """Differs from Llama in its fused projections; one sliding window for all layers, or none.

    Under ``longrope`` the library turns all tokens of a call by the frequencies for short or for long texts, whichever
    its last position asks for. Keys in the cache were turned by the frequencies of their own call.
    """

    LOAD_AS: ClassVar[str] = "Phi3ForCausalLM"

    @cached_property
    def decoder(self) -> Decoder:
        module, count = self.model.model, len(self.model.model.layers)
        windows = [self.model.config.sliding_window] * count
        return Decoder("model", module, rotary_of(module), windows, ["all"] * count, stages=FUSED)

    def words(
        self, ids: Integer[Tensor, "b t"], positions: Integer[Tensor, "b t"], valid: Bool[Tensor, "b t"]
    ) -> Stream:
        """The next tokens. Raises Refused where they pass the length at which the frequencies change."""
        rope = self.model.config.rope_parameters
        if rope["rope_type"] == "longrope":
            _refuse_passing(positions, valid, rope["original_max_position_embeddings"])
        return super().words(ids, positions, valid)


def _refuse_passing(positions: Tensor, valid: Tensor, short: int) -> None:
    newest = int(positions.masked_fill(~valid, -1).max())
    if newest < short:
        return
    first = positions.masked_fill(~valid, newest + 1).amin(1)[valid.any(1)]  # of each row: how many went before
    if int(first.max()) <= short:
        raise Refused(
            f"longrope: the conversation passes {short} tokens (original_max_position_embeddings), and the keys of its "
            "earlier tokens were turned by the frequencies for shorter ones; accepted: the whole conversation as a new "
            "prompt"
        )
