"""The base of every anatomy: what a family fills in, and what follows from it for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from transformers import PreTrainedModel

from trimtab.anatomy.attention import See
from trimtab.anatomy.host import hosts, install
from trimtab.anatomy.slots import Slots
from trimtab.core.errors import BadInput, Refused, unknown
from trimtab.core.keep import Stream
from trimtab.core.linear import Embedding, Linear

Part = Literal["vision", "audio", "projector", "language", "embedding", "head"]
Batch = dict[str, Tensor]
Call = Callable[[Stream, "Slots | None", "See | None"], Stream]


def own(stream: Stream, name: str) -> Stream:
    """Every linear of a block sees the tokens of its stream."""
    return stream


@dataclass(frozen=True)
class Block:
    """A step of the model: called with a stream, it returns the next one.

    ``slots`` is the KV cache of a decoder; ``see`` is shown (q, k, mask, scaling) after rotary. ``stages``: the names
    of the block's linears that share an input, each stage in running order, and stages by their first. ``rows``: the
    stream whose tokens the linear of that name sees (cross-attention reads another one than the block's).
    """

    name: str
    part: Part
    call: Call
    stages: tuple[tuple[str, ...], ...] = ()
    rows: Callable[[Stream, str], Stream] = own

    def __call__(self, stream: Stream, slots: Slots | None = None, see: See | None = None) -> Stream:
        return self.call(stream, slots, see)


def dotted(*parts: str) -> str:
    """A module path; an empty part is the model itself."""
    return ".".join(filter(None, parts))


def under(prefix: str, names: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """``names`` of one layer layout under the module path ``prefix``."""
    return tuple(tuple(dotted(prefix, name) for name in stage) for stage in names)


def reaches(model: object, path: str) -> bool:
    """Whether ``model`` has something at the module path, None not counted."""
    for part in path.split("."):
        model = getattr(model, part, None)
    return model is not None


class Anatomy(ABC):
    """A model as a sequence of blocks between ``start`` and ``head``. Names are the library's module paths.

    A family fills in: ``PARTS`` (module path prefix to part), ``NEEDS`` (module paths that must be there), ``LOAD_AS``
    (the library's class, for the error), ``start``, ``build``, ``head_input``, ``head``; if it generates text,
    ``decodes`` and ``words``; in ``POOLED`` the module paths whose linears see one row for each picture or text; in
    ``INPUTS`` what its processor gives beside ids, mask and positions (the first is what is looked at), in ``ROWS``
    those of them that have a row for each row of the batch (the others hold all pictures, one after another), in
    ``EVEN`` whether every picture has the same number of image tokens, and in ``PACKED`` whether what is projected is
    cut and packed afterwards, so that the projector sees other rows than there are image tokens.
    """

    PARTS: ClassVar[dict[str, Part]]
    NEEDS: ClassVar[tuple[str, ...]]
    LOAD_AS: ClassVar[str]
    POOLED: ClassVar[tuple[str, ...]] = ()
    INPUTS: ClassVar[tuple[str, ...]] = ()
    ROWS: ClassVar[tuple[str, ...]] = ()
    EVEN: ClassVar[bool] = True
    PACKED: ClassVar[bool] = False
    decodes: ClassVar[bool] = False

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @abstractmethod
    def start(self, batch: Batch) -> Stream:
        """What enters the first block, from the processor's tensors (``input_ids``, ``attention_mask``, ...)."""

    @abstractmethod
    def build(self) -> Sequence[Block]:
        """All blocks in running order: vision or audio, the block that projects and joins, then language."""

    @abstractmethod
    def head_input(self, stream: Stream) -> Tensor:
        """What the head sees: after the final norm."""

    @abstractmethod
    def head(self, stream: Stream) -> Any:
        """What the library's forward answers: logits, or what stands in their place."""

    def words(
        self, ids: Integer[Tensor, "b t"], positions: Integer[Tensor, "b t"], valid: Bool[Tensor, "b t"]
    ) -> Stream:
        """Text tokens as they enter the decoder, for decoding. Raises BadInput where the model does not generate."""
        raise BadInput(f"model: {self.model.config.model_type!r} does not generate text in the loop; it has no "
                       "decoding step")  # fmt: skip

    def tables(self) -> dict[str, float]:
        """Word embeddings by name, with the factor that the model applies to them."""
        return {name: 1.0 for name, part in self.PARTS.items() if part == "embedding"}

    def host(self) -> None:
        """Put hosts in place of the library's linears and word embeddings. Doing it again does nothing."""
        install(self.model, self.tables())

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        return tuple(self.build())

    def blocks(self) -> Sequence[Block]:
        """All blocks in running order."""
        return self._blocks

    @cached_property
    def _layers(self) -> range:
        first = [i for i, block in enumerate(self._blocks) if block.part == "language"]
        return range(first[0] if first else len(self._blocks), len(self._blocks))

    def layers(self) -> range:
        """Indices of the decoder's (or text encoder's) blocks, which come last."""
        return self._layers

    def stages(self, block: Block) -> list[list[str]]:
        """Names of the block's linears that share an input, in running order."""
        return [list(stage) for stage in block.stages]

    def embed(self, batch: Batch) -> Stream:
        """The stream that enters the first decoder layer: vision tower and projector included. Raises BadInput for an
        empty list of pictures, or more tokens than the decoder has positions."""
        shown = batch.get(self.INPUTS[0]) if self.INPUTS else None
        if shown is not None and not shown.numel():
            raise BadInput(f"{self.INPUTS[0]}: got an empty list, shape {tuple(shown.shape)}; accepted: one picture or "
                           f"more, or no {self.INPUTS[0]} at all")  # fmt: skip
        stream = self.start(batch)
        if self.decodes:
            self.fits(batch, stream)
        for block in self.blocks()[: self.layers().start]:
            stream = block(stream)
        return stream

    def places(self, stream: Stream) -> Integer[Tensor, "b t *axes"]:
        """The places of a prompt's tokens, by which the decoder turns or looks up its positions."""
        return stream.positions

    def fits(self, batch: Batch, stream: Stream) -> None:
        """Raises BadInput where a prompt has more tokens than the decoder has positions."""
        config = self.model.config
        most = getattr(config.get_text_config(), "max_position_embeddings", None)
        furthest = int(self.places(stream).max()) + 1
        if most is None or furthest <= most:
            return
        image = getattr(config, "image_token_id", None)
        pictures = (
            "" if image is None else f" ({int((batch['input_ids'] == image).sum(1).max())} image tokens in a row)"
        )
        raise BadInput(f"input_ids: a prompt needs {furthest} positions{pictures}; accepted: at most {most}, which the "
                       "model has (max_position_embeddings); show fewer or smaller pictures")  # fmt: skip

    def linears(self) -> Iterator[tuple[str, Linear]]:
        """Every linear of the model once, the patch convolution and the head included."""
        return ((host.name, host) for host in hosts(self.model) if isinstance(host, Linear))

    def embeddings(self) -> Iterator[tuple[str, Embedding]]:
        """Every word embedding once."""
        return ((host.name, host) for host in hosts(self.model) if isinstance(host, Embedding))

    def part_of(self, name: str) -> Part:
        """The part to which a linear or embedding belongs. Raises BadInput for a name outside all parts."""
        found = [prefix for prefix in self.PARTS if name == prefix or name.startswith(f"{prefix}.")]
        if not found:
            raise unknown("layer", name, [host.name for host in hosts(self.model)])
        return self.PARTS[max(found, key=len)]

    def pictures(self, batch: Batch) -> list[Float[Tensor, "channels pixels"]]:
        """The pictures of a batch, each by itself."""
        pixels = batch.get(self.INPUTS[0]) if self.INPUTS else None
        return [] if pixels is None else list(pixels.reshape(-1, *pixels.shape[-3:]).flatten(2))

    def copies(self, ids: Integer[Tensor, "b t"], shown: Batch, times: int) -> Batch:
        """``shown``, what belongs to the pictures of ``ids``, for every row ``times`` times in turn: each copy with all
        pictures of its row, in their order. Raises Refused where it is not known how to tell them apart."""
        raise Refused(f"num_return_sequences: got {times}; accepted with {', '.join(shown)}: 1")

    def pooled(self, name: str) -> bool:
        """Whether a linear sees one row for each picture (vision, projector) or text, not one for each token."""
        return any(name == path or name.startswith(f"{path}.") for path in self.POOLED)

    def aliases(self) -> list[tuple[str, str]]:
        """Pairs of host names that share one weight: the one that comes first in the model, and the other."""
        owner: dict[int, str] = {}
        pairs = []
        for host in hosts(self.model):
            first = owner.setdefault(id(host.w), host.name)
            if first != host.name:
                pairs.append((first, host.name))
        return pairs

    def idle(self) -> list[str]:
        """Names of linears that no block runs and the head does not use either (LLaVA's layers behind the chosen
        one): they are listed, saved and counted, but calibration never sees them."""
        run = {name for block in self.blocks() for stage in block.stages for name in stage}
        return [name for name, _ in self.linears() if name not in run and self.part_of(name) != "head"]


def positions_of(mask: Bool[Tensor, "b t"]) -> Integer[Tensor, "b t"]:
    """Positions as ``generate`` counts them: the running number of valid tokens, 0 at padding."""
    return (mask.long().cumsum(1) - 1).masked_fill(~mask, 0)


def placed(x: Float[Tensor, "b t d"], kinds: Tensor, positions: Tensor, valid: Tensor) -> Stream:
    """A stream at its original length: the source of every token is its own index."""
    source = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
    return Stream(x, positions, kinds, valid, source)
