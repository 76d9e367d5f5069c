"""Gemma 3's text model: scaled embedding, sliding and global layers with a rotary base each, q/k norms, sandwich norms.

Its norms multiply by (1 + w) and stand on both sides of attention and MLP, so nothing may be folded through them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from trimtab.anatomy.decoder import Decoder, Rotary
from trimtab.anatomy.llama import Llama
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream


def rotary_by_type(module: Any) -> Rotary:
    """The rotary embedding of a stack with one base for each layer type."""

    def angles(positions: Tensor, dtype: torch.dtype, kind: str) -> tuple[Tensor, Tensor]:
        like = torch.empty(0, dtype=dtype, device=positions.device)
        cos, sin = module.rotary_emb(like, positions, kind)
        return cos, sin

    return angles


class Gemma(Llama):
    """Differs from Llama in the decoder's rotary angles, the embedding's factor and the cap on the logits."""

    LOAD_AS: ClassVar[str] = "Gemma3ForCausalLM (text only)"

    @cached_property
    def decoder(self) -> Decoder:
        config, module = self.model.config, self.model.model
        if config.use_bidirectional_attention:
            raise BadInput("use_bidirectional_attention: got True; accepted: False (a decoder that generates text)")
        windows = [config.sliding_window if kind == "sliding_attention" else None for kind in config.layer_types]
        return Decoder("model", module, rotary_by_type(module), windows, config.layer_types)

    def tables(self) -> dict[str, float]:
        return dict.fromkeys(super().tables(), self.model.config.hidden_size**0.5)

    def head(self, stream: Stream) -> Tensor:
        logits, cap = super().head(stream), self.model.config.final_logit_softcapping
        return logits if cap is None else torch.tanh(logits / cap) * cap
