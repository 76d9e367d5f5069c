"""BERT-like encoders (MiniLM, BGE, E5 ...): post-norm layers, every token sees every other; no generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from trimtab.anatomy import masks
from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Anatomy, Batch, Block, Part, placed, under
from trimtab.anatomy.decoder import ids_and_valid
from trimtab.anatomy.slots import Slots
from trimtab.core.keep import Stream
from trimtab.core.stats import PADDING, TEXT

STAGES = (
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    ("attention.output.dense",),
    ("intermediate.dense",),
    ("output.dense",),
)


class Bert(Anatomy):
    """``head`` answers the last hidden state, from which sentence embeddings are pooled."""

    PARTS: ClassVar[dict[str, Part]] = {
        "encoder": "language",
        "embeddings.word_embeddings": "embedding",
        "pooler": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = ("embeddings.word_embeddings", "encoder.layer")
    POOLED: ClassVar[tuple[str, ...]] = ("pooler",)
    LOAD_AS: ClassVar[str] = "AutoModel (the encoder without a task head)"

    def start(self, batch: Batch) -> Stream:
        ids, valid = ids_and_valid(batch)
        positions = batch.get("position_ids")
        if positions is None:  # absolute ones: padding counts, as in the library
            positions = torch.arange(ids.shape[1], device=ids.device)
        positions = positions.expand_as(ids)
        x = self.model.embeddings(
            input_ids=ids, token_type_ids=batch.get("token_type_ids"), position_ids=positions.contiguous()
        )
        return placed(x, torch.where(valid, TEXT, PADDING), positions, valid)

    def build(self) -> Sequence[Block]:
        made = []
        for index, layer in enumerate(self.model.encoder.layer):
            name = f"encoder.layer.{index}"
            made.append(Block(name, "language", partial(_run, layer), under(name, STAGES)))
        return made

    def head_input(self, stream: Stream) -> Tensor:
        """The pooler's: the first token of each text, whatever padding stands before it."""
        return stream.x[torch.arange(len(stream.x), device=stream.x.device), stream.valid.int().argmax(1)]

    def head(self, stream: Stream) -> Tensor:
        return stream.x


def _run(layer: nn.Module, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
    return replace(stream, x=layer(stream.x, masks.everywhere(stream.valid), see=see))
