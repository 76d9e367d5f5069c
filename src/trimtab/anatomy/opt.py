"""OPT: learned positions, a tied head, norms before or (350m) behind attention and MLP, words that may be narrower.

The layers around which something stands carry it: the first block adds positions to the words, after widening them
(``project_in``); the last ends with the final norm and ``project_out``. So a stream of words is as wide as the table,
a token's position is looked up where it is used, and what is dropped before moves no position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar

from torch import Tensor

from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Block, Call, Part
from trimtab.anatomy.decoder import Decoder
from trimtab.anatomy.llama import Llama
from trimtab.anatomy.slots import Slots
from trimtab.core.keep import Stream

NAME = "model.decoder"
STAGES = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.out_proj",),
    ("fc1",),
    ("fc2",),
)


class Opt(Llama):
    """Where words are as wide as the layers there is no ``project_in`` and no ``project_out``."""

    PARTS: ClassVar[dict[str, Part]] = {
        f"{NAME}.layers": "language",
        f"{NAME}.project_in": "language",
        f"{NAME}.project_out": "language",
        f"{NAME}.embed_tokens": "embedding",
        "lm_head": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = (f"{NAME}.layers", f"{NAME}.embed_tokens", f"{NAME}.embed_positions", "lm_head")
    LOAD_AS: ClassVar[str] = "OPTForCausalLM"

    @cached_property
    def decoder(self) -> Decoder:
        module = self.model.model.decoder
        count = len(module.layers)
        return Decoder(NAME, module, None, [None] * count, ["all"] * count, stages=STAGES)

    def build(self) -> Sequence[Block]:
        made = self.decoder.blocks()
        module = self.decoder.module
        before = () if module.project_in is None else ((f"{NAME}.project_in",),)
        made[0] = replace(made[0], call=partial(self._enter, made[0].call), stages=(*before, *made[0].stages))
        behind = () if module.project_out is None else ((f"{NAME}.project_out",),)
        made[-1] = replace(made[-1], call=partial(self._leave, made[-1].call), stages=(*made[-1].stages, *behind))
        return made

    def _enter(self, first: Call, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        module = self.decoder.module
        x = stream.x if module.project_in is None else module.project_in(stream.x)
        x = x + module.embed_positions(stream.valid, position_ids=stream.positions)
        return first(replace(stream, x=x), slots, see)

    def _leave(self, last: Call, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        module, stream = self.decoder.module, last(stream, slots, see)
        x = stream.x if module.final_layer_norm is None else module.final_layer_norm(stream.x)
        return replace(stream, x=x if module.project_out is None else module.project_out(x))

    def head_input(self, stream: Stream) -> Tensor:
        return stream.x
