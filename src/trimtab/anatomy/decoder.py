"""A stack of causal decoder layers as blocks: what Llama-like models, Gemma, Phi, GPT-NeoX, OPT and LLaVA share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import Any

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from trimtab.anatomy import masks
from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Batch, Block, placed, positions_of, under
from trimtab.anatomy.recent import Recent
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput
from trimtab.core.keep import SIZE, Stream
from trimtab.core.stats import PADDING, TEXT

STAGES = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
# Per-token tensors that a stream may carry beside the words, by their name in ``Stream.side``:
GRID = "grid"  # (b, t, 3) time, row and column of each token, where rotary angles follow these and not the positions
BLOCK = "block"  # (b, t) tokens of one number see one another whatever their order; -1: none
DEEP = "deep.{}"  # (b, t, d) added to what leaves the decoder layer of that number
# (positions or grid, dtype, layer type) -> cos, sin
Rotary = Callable[[Tensor, torch.dtype, str], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Decoder:
    """``module``: the library's stack (a word table, ``layers``, a final norm) at the module path ``name``.

    ``windows``: for each layer how many positions it sees, or None for all. ``kinds``: each layer's type, which
    ``rotary`` is asked with (None: positions are not rotary). ``bounded``: a block (``BLOCK``) reaches back no further
    than the window either. ``stages`` of one layer; ``table``, ``norm``: what the stack calls these; ``cache``: what a
    layer calls its cache.
    """

    name: str
    module: Any
    rotary: Rotary | None
    windows: Sequence[int | None]
    kinds: Sequence[str]
    bounded: bool = False
    stages: Sequence[Sequence[str]] = STAGES
    table: str = "embed_tokens"
    norm: str = "norm"
    cache: str = "past_key_values"
    seen: Recent = field(default_factory=lambda: Recent(2))  # masks are large: as many as there are layer types
    turned: Recent = field(default_factory=lambda: Recent(2))
    turning: AbstractContextManager[bool] = field(default_factory=Lock)

    def blocks(self) -> list[Block]:
        made = []
        for index, layer in enumerate(self.module.layers):
            name = f"{self.name}.layers.{index}"
            made.append(Block(name, "language", partial(self.run, index, layer), under(name, self.stages)))
        return made

    def run(self, index: int, layer: nn.Module, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        """``layer`` in the place of that index."""
        keys, valid, window, size = stream.positions, stream.valid, self.windows[index], stream.side.get(SIZE)
        if slots is not None:
            keys, valid = slots.extend(index, stream.positions, stream.valid, window, size)
            size = slots.layers[index].size
        whole = keys.shape == stream.positions.shape  # later words are of no block
        seen = self.seen(
            masks.shown, stream.positions, keys, valid, window, self.module.config.num_attention_heads,
            stream.side.get(BLOCK) if whole else None, self.bounded, size, stream.x.dtype,
        )  # fmt: skip
        where = stream.side.get(GRID, stream.positions)
        with self.turning:  # some of the library's change their frequencies by the length that they are asked for
            turned = self.rotary and self.turned(self.rotary, where, stream.x.dtype, self.kinds[index])
        x = layer(
            stream.x,
            attention_mask=seen,
            position_embeddings=turned,
            position_ids=stream.positions,
            see=see,
            **{self.cache: slots},
        )
        deep = stream.side.get(DEEP.format(index))
        return replace(stream, x=x if deep is None else x + deep)

    def words(
        self, ids: Integer[Tensor, "b t"], positions: Integer[Tensor, "b t"], valid: Bool[Tensor, "b t"]
    ) -> Stream:
        """Text tokens as they enter the first layer."""
        kinds = torch.where(valid, TEXT, PADDING)
        return placed(getattr(self.module, self.table)(ids), kinds, positions, valid)

    def start(self, batch: Batch) -> Stream:
        """The prompt as text; positions are the batch's, or counted as ``generate`` does."""
        ids, valid = ids_and_valid(batch)
        positions = batch.get("position_ids")
        return self.words(ids, positions_of(valid) if positions is None else positions.expand_as(ids), valid)

    def normed(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """After the final norm."""
        found: Tensor = getattr(self.module, self.norm)(x)
        return found


def ids_and_valid(batch: Batch, prefix: str = "") -> tuple[Integer[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """``input_ids`` and where they are no padding; ``prefix`` stands before both names in the batch. Raises BadInput
    without them, or for a mask of another shape."""
    ids, mask = batch.get(f"{prefix}input_ids"), batch.get(f"{prefix}attention_mask")
    if ids is None:
        raise BadInput(f"batch: got {', '.join(sorted(batch)) or 'nothing'}; {prefix}input_ids is missing")
    if mask is None:
        return ids, torch.ones_like(ids, dtype=torch.bool)
    if mask.shape != ids.shape:
        raise BadInput(
            f"{prefix}attention_mask: got shape {tuple(mask.shape)}; accepted: that of {prefix}input_ids, "
            f"{tuple(ids.shape)}"
        )
    return ids, mask.bool()


def rotary_of(module: Any) -> Rotary:
    """The rotary embedding of a stack whose layers all share one."""

    def angles(positions: Tensor, dtype: torch.dtype, kind: str) -> tuple[Tensor, Tensor]:
        like = torch.empty(0, dtype=dtype, device=positions.device)
        cos, sin = module.rotary_emb(like, position_ids=positions)
        return cos, sin

    return angles
