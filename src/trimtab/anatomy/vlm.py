"""A vision tower whose features, projected, stand in place of placeholders among the words of a decoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from trimtab.anatomy.attention import See
from trimtab.anatomy.base import Anatomy, Batch, Block, under
from trimtab.anatomy.decoder import GRID, Decoder
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput, Refused
from trimtab.core.keep import Stream
from trimtab.core.stats import IMAGE

VIDEOS = ("pixel_values_videos", "video_grid_thw")
PLACE = "placeholder"  # (b, t) True where a feature of a picture goes, in ``Stream.side`` until it is there


@dataclass(frozen=True)
class Seeing(Stream):
    """The pictures' patches on their way through a tower, and the ``text`` stream that waits for them.

    ``about``: what the tower must know of its pictures (sizes, grids, masks), by names of its own.
    """

    text: Stream | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


class Eyes(Protocol):
    """A vision tower as blocks."""

    def host(self) -> None:
        """Put modules of ours in place of those that read a weight directly."""

    def start(self, batch: Batch, text: Stream) -> Seeing:
        """The pictures of a batch as they enter the first block: at least one."""

    def blocks(self) -> list[Block]:
        """Its layers; none runs where the stream has no rows."""


class Joined(Anatomy):
    """A family fills in, besides what every anatomy does: ``INPUTS``, ``JOIN``, ``tower``, ``decoder``, ``project``.

    ``INPUTS``: what a processor gives beside ``input_ids``, ``attention_mask`` and ``position_ids``; the first is the
    pictures. ``JOIN``: the module path of what projects, and the stages of its linears.
    """

    INPUTS: ClassVar[tuple[str, ...]] = ("pixel_values",)
    JOIN: ClassVar[tuple[str, tuple[tuple[str, ...], ...]]]
    decodes: ClassVar[bool] = True

    @property
    @abstractmethod
    def tower(self) -> Eyes:
        """What sees the pictures; the same object every time."""

    @property
    @abstractmethod
    def decoder(self) -> Decoder:
        """What reads the words; the same object every time."""

    @abstractmethod
    def project(self, stream: Seeing) -> Float[Tensor, "n d"]:
        """The features of all pictures in the order of their placeholders, as they enter the decoder."""

    def host(self) -> None:
        self.tower.host()
        super().host()

    def placeholders(self, ids: Integer[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
        """Where the features of pictures go."""
        found: Tensor = ids == self.model.config.image_token_id
        return found

    def text(self, batch: Batch) -> Stream:
        """The prompt's words, with their kinds; placeholders without pictures are words like any other. Raises BadInput
        for videos."""
        for name in VIDEOS:
            if batch.get(name) is not None:
                raise BadInput(f"{name}: got a video; accepted: pictures ({', '.join(self.INPUTS)}) and text")
        words = self.decoder.start(self._known(batch))
        if batch.get(self.INPUTS[0]) is None:
            return words
        here = self.placeholders(batch["input_ids"])
        kinds = torch.where(here & words.valid, IMAGE, words.kinds)
        return replace(words, kinds=kinds, side={**words.side, PLACE: here})

    def _known(self, batch: Batch) -> Batch:
        """A placeholder that is no word of the table is written as word 0, as in the library."""
        config, ids = self.model.config, batch.get("input_ids")
        if ids is None or config.image_token_id < config.get_text_config().vocab_size:
            return batch
        return {**batch, "input_ids": ids.masked_fill(self.placeholders(ids), 0)}

    def start(self, batch: Batch) -> Stream:
        text = self.text(batch)
        if batch.get(self.INPUTS[0]) is None:
            return blind(text)
        return self.tower.start(batch, text)

    def words(self, ids: Integer[Tensor, "b t"], positions: Tensor, valid: Tensor) -> Stream:
        return self.decoder.words(ids, positions, valid)

    def build(self) -> Sequence[Block]:
        name, stages = self.JOIN
        join = Block(name, "projector", self._join, under(name, stages))
        return [*self.tower.blocks(), join, *self.decoder.blocks()]

    def _join(self, stream: Stream, slots: Slots | None, see: See | None) -> Stream:
        assert isinstance(stream, Seeing)
        assert stream.text is not None
        return stream.text if PLACE not in stream.text.side else self.merge(stream.text, self.project(stream))

    def features(self, batch: Batch) -> Float[Tensor, "n d"]:
        """Tower and projector alone, for a batch with pictures."""
        stream = self.start(batch)
        for block in self.blocks()[: self.layers().start - 1]:
            stream = block(stream)
        assert isinstance(stream, Seeing)
        return self.project(stream)

    def merge(self, text: Stream, features: Float[Tensor, "n d"]) -> Stream:
        """The words with features at their placeholders. Raises BadInput where their numbers differ."""
        side = dict(text.side)
        here = side.pop(PLACE)
        self._fit(len(features), int(here.sum()))
        return replace(text, x=text.x.masked_scatter(here[..., None], features.to(text.x.dtype)), side=side)

    def _fit(self, tokens: int, places: int) -> None:
        if tokens != places:
            raise BadInput(
                f"{self.INPUTS[0]}: got pictures of {tokens} tokens, but input_ids hold {places} image tokens; the "
                "processor writes one for each (truncated, or another processor's prompt?)"
            )

    def tokens(self, batch: Batch) -> list[int]:
        """How many image tokens each of the pictures stands for, in their order: here, all of them for as many. Raises
        Refused where other inputs than pictures say how many."""
        others = [name for name in self.INPUTS[1:] if batch.get(name) is not None]
        if others:
            raise Refused(f"num_return_sequences: got more than 1; accepted with {', '.join(others)}: 1")
        count = len(batch[self.INPUTS[0]])
        return [int(self.placeholders(batch["input_ids"]).sum()) // count] * count

    def places(self, stream: Stream) -> Integer[Tensor, "b t *axes"]:
        words = stream.text if isinstance(stream, Seeing) and stream.text is not None else stream
        return words.side.get(GRID, words.positions)

    def copies(self, ids: Integer[Tensor, "b t"], shown: Batch, times: int) -> Batch:
        if shown.get(self.INPUTS[0]) is None:
            return shown
        tokens, rooms = self.tokens({"input_ids": ids, **shown}), self.placeholders(ids).sum(1).tolist()
        self._fit(sum(tokens), sum(rooms))
        return self.pick(shown, [index for row in owned(tokens, rooms) for index in row * times])

    def pick(self, batch: Batch, order: list[int]) -> Batch:
        """What belongs to the pictures at ``order``."""
        return {name: batch[name][order] for name in self.INPUTS if batch.get(name) is not None}

    def head_input(self, stream: Stream) -> Tensor:
        x: Tensor = self.decoder.module.norm(stream.x)
        return x

    def head(self, stream: Stream) -> Tensor:
        logits: Tensor = self.model.lm_head(self.head_input(stream))
        return logits


class Given:
    """A joined anatomy whose pictures' features are already there; everything else is the anatomy's own."""

    def __init__(self, anatomy: Joined, batch: Batch, features: Float[Tensor, "n d"]) -> None:
        self.anatomy, self.batch, self.features = anatomy, batch, features

    def __getattr__(self, name: str) -> Any:
        return getattr(self.anatomy, name)

    def embed(self, batch: Batch) -> Stream:
        """The words of the batch for which the features were computed, and these in their places."""
        return self.anatomy.merge(self.anatomy.text(self.batch), self.features)


def blind(text: Stream) -> Seeing:
    """No pictures at all: an empty batch, which the tower's blocks pass on untouched."""
    none = torch.zeros(0, 1, dtype=torch.long, device=text.x.device)
    return Seeing(text.x.new_zeros(0, 1, 1), none, none, none.bool(), none, text=text)


def owned(tokens: Sequence[int], rooms: Sequence[int]) -> list[list[int]]:
    """The pictures of each row by index, from the tokens that each stands for and the placeholders of each row."""
    found, at = [], 0
    for room in rooms:
        first = at
        while room > 0 and at < len(tokens):
            room, at = room - tokens[at], at + 1
        found.append([*range(first, at)])
    return found


def patches(x: Float[Tensor, "n t d"]) -> dict[str, Any]:
    """The fields of a stream of picture tokens, all of them valid, each at its own place."""
    here = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
    image = torch.full_like(here, IMAGE)
    return {"x": x, "positions": here, "kinds": image, "valid": torch.ones_like(image, dtype=torch.bool),
            "source": here}  # fmt: skip
