"""The parts of a vision-language or language model as calls that can be timed and counted apart.

``vision``: tower and projector on the pictures of a batch. ``prefill``: the language model on the whole prompt, the
pictures' features given, up to the logits of the last token; in a model with policies the scoring and picking of tokens
and entries is part of it. ``decode``: one more token per row, with the cache. All run through the model's own forward.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimtab.anatomy.vlm import Given
from trimtab.core.errors import BadInput
from trimtab.core.reading import Reading
from trimtab.measure.latency import Clock, reading, repeats_of
from trimtab.measure.memory import stored

Batch = dict[str, Tensor]
WORDS = ("input_ids", "attention_mask", "token_type_ids")
UNUSED = ("mm_token_type_ids", "labels")


@dataclass(frozen=True)
class Parts:
    """``vision`` is None for a language model. ``decode`` follows ``prefill`` (whose cache it extends by a token);
    ``cache`` is how many bytes of keys and values are stored by then."""

    vision: Callable[[], object] | None
    prefill: Callable[[], object]
    decode: Callable[[], object]
    cache: Callable[[], int]
    rows: int


class Decoding:
    """A batch on its way: ``prefill`` begins it anew, ``decode`` adds the likeliest token to every row."""

    def __init__(self, model: Any, batch: Batch, more: dict[str, Any]) -> None:
        self.model, self.batch, self.more = model, batch, more
        self.cache: Any = None
        self.mask = self.token = torch.empty(0)

    @torch.no_grad()
    def prefill(self) -> Tensor:
        """The whole prompt; the logits of the last token."""
        mask = self.batch["attention_mask"]
        found = self.model(**self.batch, **self.more, use_cache=True, logits_to_keep=1)
        self.cache, self.mask, self.token = found.past_key_values, mask, found.logits[:, -1:].argmax(-1)
        logits: Tensor = found.logits
        return logits

    @torch.no_grad()
    def decode(self) -> Tensor:
        """One token; its logits. Raises BadInput before ``prefill``."""
        if self.cache is None:
            raise BadInput("decode: prefill() comes first")
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        place = self.mask.sum(1, True) - 1
        if "image_grid_thw" in self.more:  # the library's forward left behind by how much words are past the grid
            place = place + self.model.model.rope_deltas
        found = self.model(input_ids=self.token, attention_mask=self.mask, position_ids=place,
                           past_key_values=self.cache, use_cache=True, logits_to_keep=1)  # fmt: skip
        self.cache, self.token = found.past_key_values, found.logits[:, -1:].argmax(-1)
        logits: Tensor = found.logits
        return logits

    def stored(self) -> int:
        """Bytes of keys and values in the cache now. Raises BadInput before ``prefill``."""
        if self.cache is None:
            raise BadInput("cache: prefill() comes first")
        return stored(self.cache)


def parts(model: Any, batch: Batch) -> Parts:
    """The calls for a processor's batch (``input_ids``, ``attention_mask``, and ``pixel_values`` where pictures are
    shown). A model with policies (it has ``policies`` and ``anatomy``) runs through its own loop, any other
    through the library's forward. Raises BadInput for a model that cannot be given its pictures' features."""
    if getattr(model, "policies", None) is not None:
        return _of_loop(model, batch)
    words = {name: value for name, value in batch.items() if name in WORDS}
    shown = {name: value for name, value in batch.items() if name not in words and name not in UNUSED}
    if not shown:
        run = Decoding(model, words, {})
        return Parts(None, run.prefill, run.decode, run.stored, len(words["input_ids"]))
    if not hasattr(model, "get_image_features"):
        raise BadInput(f"measure: {model.config.model_type!r} does not tell its pictures' features from its text")

    @torch.no_grad()
    def vision() -> Any:
        return model.get_image_features(**shown, return_dict=True)

    about = {name: value for name, value in batch.items() if name not in (*words, "pixel_values", "labels")}
    run = Decoding(model, words, {**about, "mm_encoder_outputs": {"image": vision()}})
    return Parts(vision, run.prefill, run.decode, run.stored, len(words["input_ids"]))


def _of_loop(model: Any, batch: Batch) -> Parts:
    words = {name: batch[name] for name in WORDS if name in batch}
    if not model.anatomy.INPUTS or model.anatomy.INPUTS[0] not in batch:
        run = Decoding(model, words, {})
        return Parts(None, run.prefill, run.decode, run.stored, len(batch["input_ids"]))

    @torch.no_grad()
    def vision() -> Any:
        return model.anatomy.features(batch)

    run = Decoding(model.over(Given(model.anatomy, batch, vision())), words, {})
    return Parts(vision, run.prefill, run.decode, run.stored, len(batch["input_ids"]))


def latencies(found: Parts, *, repeats: int = 9, warmup: int = 2, tokens: int = 16) -> list[Reading]:
    """``latency.vision.bN``, ``latency.prefill.bN``, ``latency.decode.bN`` for N rows, as ``repeated`` times them."""
    each = repeated(found, repeats=repeats, warmup=warmup, tokens=tokens)
    return [reading(f"latency.{part}.b{found.rows}", values) for part, values in each.items()]


def repeated(
    found: Parts, *, repeats: int = 9, warmup: int = 2, tokens: int = 16, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """The seconds of every repeat of ``vision`` (where there is one), ``prefill`` and ``decode``.

    Decoding starts from a fresh prompt, off the clock, and takes the mean over ``tokens`` tokens as one repeat.
    """

    def several() -> None:
        for _ in range(tokens):
            found.decode()

    each = {"vision": repeats_of(found.vision, repeats, warmup, clock=clock)} if found.vision else {}
    each["prefill"] = repeats_of(found.prefill, repeats, warmup, clock=clock)
    decode = repeats_of(several, repeats, 1, setup=found.prefill, clock=clock)
    return each | {"decode": [one / tokens for one in decode]}
