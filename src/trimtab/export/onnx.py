"""ONNX: graphs that onnxruntime runs, our codes their weights.

``model.onnx`` for a language model or a text encoder; ``vision_model.onnx`` and ``text_model.onnx`` for CLIP;
``vision_encoder.onnx``, ``embed_tokens.onnx`` and ``decoder.onnx`` for a LLaVA. All read ``model.onnx_data``. A decoder
takes ``past_key_values.N.key`` and ``.value`` (empty ones for a prompt) and answers ``present.N.key`` and ``.value``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trimtab.export.files import carry, refuse_policies, refuse_rounding
from trimtab.export.graph import forms
from trimtab.load.loaded import Loaded

ENGINE = "onnxruntime"
NAME = "onnx"


def refuse(loaded: Loaded) -> None:
    """Raises Refused for policies, an architecture that is not drawn, or a weight that is not stored as codes, dense
    numbers or thin factors."""
    refuse_policies(loaded, NAME)
    refuse_rounding(loaded, NAME)
    forms.refuse(loaded, NAME)


def write(loaded: Loaded, folder: Path) -> None:
    """The graphs, one file of numbers, and the library's config and tokenizer."""
    from trimtab.export.onnxfile import write_graphs  # these packages are an extra

    write_graphs(loaded, folder)
    carry(loaded, folder)


def notes(loaded: Loaded) -> Sequence[str]:
    """Sentences on what is written otherwise than it stands in the artifact."""
    return forms.notes(loaded)
