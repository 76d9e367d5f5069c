"""Which graphs a model is drawn in, by its architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from trimtab import anatomy as anatomies
from trimtab.export.graph import forms
from trimtab.export.graph.capture import Port, capture
from trimtab.export.graph.decoding import FromVectors, FromWords, Words
from trimtab.export.graph.encoding import Encoding, Eyes, Pictures, Texts
from trimtab.export.graph.points import Leaves, points_of
from trimtab.load.loaded import Loaded

TEXT, VISION, WORDS, DECODER, PICTURES, TEXTS = (
    "model", "vision_encoder", "embed_tokens", "decoder", "vision_model", "text_model"
)  # fmt: skip
BATCH, LENGTH, PAST, TOTAL = "batch", "sequence", "past", "total"


@dataclass(frozen=True)
class Graph:
    """``model``: nodes of the domain ``trimtab`` name the leaf that they stand for."""

    name: str
    model: ir.Model


def graphs(loaded: Loaded) -> tuple[list[Graph], Leaves]:
    """The model's graphs, and the stored matrices for which their points stand."""
    model, leaves = points_of(loaded.anatomy.model)  # hosts are in place then
    made = DRAWINGS[forms.DRAWN[model.config.model_type]](anatomies.of(model))
    return list(made), leaves


def _ids() -> torch.Tensor:
    return torch.ones(2, 3, dtype=torch.long)


IDS = Port("input_ids", (BATCH, LENGTH))
MASK = Port("attention_mask", (BATCH, LENGTH))


def _decoder(anatomy: Any, name: str, first: Port, given: torch.Tensor, module: Any) -> Graph:
    """A graph with a past of every layer."""
    config = anatomy.decoder.module.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers, past = range(len(anatomy.decoder.module.layers)), 2
    before = [
        Port(f"past_key_values.{n}.{part}", (BATCH, heads, PAST, width)) for n in layers for part in ("key", "value")
    ]
    after = [Port(f"present.{n}.{part}", (BATCH, heads, TOTAL, width)) for n in layers for part in ("key", "value")]
    stored = [torch.zeros(2, heads, past, width) for _ in before]
    mask, positions = torch.ones(2, 3 + past, dtype=torch.long), _ids() + past
    inputs = [first, Port("attention_mask", (BATCH, TOTAL)), Port("position_ids", (BATCH, LENGTH)), *before]
    logits = Port("logits", (BATCH, LENGTH, config.vocab_size))
    return Graph(name, capture(module, (given, mask, positions, stored), inputs, [logits, *after]))


def _language(anatomy: Any) -> Iterator[Graph]:
    yield _decoder(anatomy, TEXT, IDS, _ids(), FromWords(anatomy))


def _encoder(anatomy: Any) -> Iterator[Graph]:
    width = anatomy.model.config.hidden_size
    given = (_ids(), _ids(), torch.zeros_like(_ids()))
    ports = [IDS, MASK, Port("token_type_ids", (BATCH, LENGTH))]
    yield Graph(TEXT, capture(Encoding(anatomy), given, ports, [Port("last_hidden_state", (BATCH, LENGTH, width))]))


def _pixels(anatomy: Any) -> tuple[torch.Tensor, Port]:
    side = anatomy.tower.module.embeddings.image_size
    return torch.zeros(2, 3, side, side), Port("pixel_values", ("pictures", 3, side, side))


def _towers(anatomy: Any) -> Iterator[Graph]:
    pixels, port = _pixels(anatomy)
    width = anatomy.model.config.projection_dim
    yield Graph(PICTURES, capture(Pictures(anatomy), (pixels,), [port], [Port("image_embeds", ("pictures", width))]))
    yield Graph(TEXTS, capture(Texts(anatomy), (_ids(), _ids()), [IDS, MASK], [Port("text_embeds", (BATCH, width))]))


def _seeing(anatomy: Any) -> Iterator[Graph]:
    pixels, port = _pixels(anatomy)
    width = anatomy.decoder.module.config.hidden_size
    features = Port("image_features", ("pictures", "tokens", width))
    vectors = Port("inputs_embeds", (BATCH, LENGTH, width))
    yield Graph(VISION, capture(Eyes(anatomy), (pixels,), [port], [features]))
    yield Graph(WORDS, capture(Words(anatomy), (_ids(),), [IDS], [vectors]))
    yield _decoder(anatomy, DECODER, vectors, torch.zeros(2, 3, width), FromVectors(anatomy))


DRAWINGS: dict[str, Callable[[Any], Iterator[Graph]]] = {
    forms.LANGUAGE: _language, forms.ENCODER: _encoder, forms.TOWERS: _towers, forms.SEEING: _seeing
}  # fmt: skip
