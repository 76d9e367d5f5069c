"""OpenVINO IR: graphs that openvino runs, our codes their compressed weights.

``openvino_model.xml`` for a language model or a text encoder; ``openvino_vision_model.xml`` and
``openvino_text_model.xml`` for CLIP; ``openvino_vision_embeddings_model.xml``, ``openvino_text_embeddings_model.xml``
and ``openvino_language_model.xml`` for a LLaVA: the names that openvino-genai looks for. A ``.bin`` lies beside each.
Decoders hold their cache and take ``beam_idx``. Tokenizers come along as graphs where openvino-tokenizers knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trimtab.core.ovquiet import without_telemetry
from trimtab.export.files import carry, refuse_policies, refuse_rounding
from trimtab.export.graph import forms
from trimtab.load.loaded import Loaded

ENGINE = "openvino"
NAME = "openvino"


def refuse(loaded: Loaded) -> None:
    """Raises Refused for policies, an architecture that is not drawn, or a weight that is not stored as codes, dense
    numbers or thin factors."""
    refuse_policies(loaded, NAME)
    refuse_rounding(loaded, NAME)
    forms.refuse(loaded, NAME)


def write(loaded: Loaded, folder: Path) -> None:
    """The graphs with their numbers, the library's config and tokenizer, and what openvino-genai reads instead."""
    with without_telemetry():
        from trimtab.export.ovfile import write_graphs, write_words  # these packages are an extra

    write_graphs(loaded, folder)
    carry(loaded, folder)
    write_words(loaded, folder)


def notes(loaded: Loaded) -> Sequence[str]:
    """Sentences on what is written otherwise than it stands in the artifact."""
    with without_telemetry():
        from trimtab.export.ovfile import unwritten

    return [*forms.notes(loaded), *unwritten(loaded)]
