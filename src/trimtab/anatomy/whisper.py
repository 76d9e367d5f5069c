"""Whisper: an encoder of sound, and a decoder whose every layer listens to it.

The two convolutions over the spectrogram overlap, so they are no linear layers: they stay the library's, before the
first block. Sound has no padding (silence is sound); words have, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from trimtab.anatomy import masks
from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Anatomy, Batch, Block, Call, Part, placed, positions_of, under
from trimtab.anatomy.decoder import ids_and_valid
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput
from trimtab.core.keep import Stream
from trimtab.core.stats import AUDIO, PADDING, TEXT

HEARS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.out_proj",),
    ("fc1",),
    ("fc2",),
)
CROSSED = ("encoder_attn.k_proj", "encoder_attn.v_proj")
LISTENS = (*HEARS[:2], ("encoder_attn.q_proj",), CROSSED, ("encoder_attn.out_proj",), *HEARS[2:])


@dataclass(frozen=True)
class Heard(Stream):
    """``beside``: the words that wait while sound passes through the encoder; then the sound, to which they listen."""

    beside: Stream | None = None

    @classmethod
    def of(cls, stream: Stream, beside: Stream) -> Heard:
        """``stream`` with another ``beside`` it."""
        return cls(stream.x, stream.positions, stream.kinds, stream.valid, stream.source, stream.side, beside)


class Whisper(Anatomy):
    """The last block of the encoder ends with its norm, and hands over to the words.

    ``decodes`` is False: the library's ``generate`` seeks through a recording, sets and suppresses tokens, and falls
    back to other temperatures. It runs on our hosts as on its own layers; the loop has no step of its own beside it.
    """

    PARTS: ClassVar[dict[str, Part]] = {
        "model.encoder": "audio",
        "model.decoder.layers": "language",
        "model.decoder.embed_tokens": "embedding",
        "proj_out": "head",
    }
    NEEDS: ClassVar[tuple[str, ...]] = ("model.encoder.layers", "model.decoder.layers", "proj_out")
    LOAD_AS: ClassVar[str] = "WhisperForConditionalGeneration"

    def start(self, batch: Batch) -> Stream:
        ids, valid = ids_and_valid(batch, "decoder_")
        positions = batch.get("decoder_position_ids")
        positions = positions_of(valid) if positions is None else positions.expand_as(ids)
        decoder = self.model.model.decoder
        x = decoder.embed_tokens(ids) + decoder.embed_positions(ids, position_ids=positions)
        return Heard.of(self._sound(batch), placed(x, torch.where(valid, TEXT, PADDING), positions, valid))

    def _sound(self, batch: Batch) -> Stream:
        """Two frames of the spectrogram to a token, in their places."""
        features, encoder = batch.get("input_features"), self.model.model.encoder
        frames = 2 * encoder.max_source_positions
        if features is None or features.shape[-1] != frames:
            got = "nothing" if features is None else f"shape {tuple(features.shape)}"
            raise BadInput(f"input_features: got {got}; accepted: (batch, mel bins, {frames}), as its processor makes")
        x = F.gelu(encoder.conv1(features.to(encoder.conv1.weight.dtype)))
        x = F.gelu(encoder.conv2(x)).permute(0, 2, 1) + encoder.embed_positions.weight
        here = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        return placed(x, torch.full_like(here, AUDIO), here, torch.ones_like(here, dtype=torch.bool))

    def build(self) -> Sequence[Block]:
        made = []
        for index, layer in enumerate(self.model.model.encoder.layers):
            name = f"model.encoder.layers.{index}"
            made.append(Block(name, "audio", partial(_hear, layer), under(name, HEARS)))
        made[-1] = replace(made[-1], call=partial(self._hand_over, made[-1].call))
        for index, layer in enumerate(self.model.model.decoder.layers):
            name = f"model.decoder.layers.{index}"
            made.append(Block(name, "language", partial(_listen, layer), under(name, LISTENS), _rows))
        return made

    def _hand_over(self, last: Call, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        sound = last(stream, slots, see)
        assert isinstance(sound, Heard)
        assert sound.beside is not None
        return Heard.of(sound.beside, replace(sound, x=self.model.model.encoder.layer_norm(sound.x), beside=None))

    def head_input(self, stream: Stream) -> Tensor:
        x: Tensor = self.model.model.decoder.layer_norm(stream.x)
        return x

    def head(self, stream: Stream) -> Float[Tensor, "b t v"]:
        logits: Tensor = self.model.proj_out(self.head_input(stream))
        return logits


def _hear(layer: nn.Module, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
    return replace(stream, x=layer(stream.x, None, see=see))


def _listen(layer: nn.Module, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
    mask = masks.needed(stream.positions, stream.positions, stream.valid, None)
    sound = _rows(stream, CROSSED[0])
    return replace(stream, x=layer(stream.x, mask, sound.x, see=_first(see)))


def _rows(stream: Stream, name: str) -> Stream:
    """Cross-attention's keys and values are those of the sound."""
    assert isinstance(stream, Heard)
    assert stream.beside is not None
    return stream.beside if name.endswith(CROSSED) else stream


def _first(see: See | None) -> See | None:
    """The layer shows both of its attentions; the second is no attention among the words."""
    left = [] if see is None else [see]

    def shown(*what: Any) -> None:
        if left:
            left.pop()(*what)

    return shown if left else None
