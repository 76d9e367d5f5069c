"""ONNX: graphs that onnxruntime runs, our codes their weights.

``model.onnx`` for a language model or a text encoder; ``vision_model.onnx`` and ``text_model.onnx`` for CLIP;
``vision_encoder.onnx``, ``embed_tokens.onnx`` and ``decoder.onnx`` for a LLaVA. All read ``model.onnx_data``. A decoder
takes ``past_key_values.N.key`` and ``.value`` (empty ones for a prompt) and answers ``present.N.key`` and ``.value``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from trimtab.export.files import carry, refuse_policies
from trimtab.export.graph import plan
from trimtab.export.graph.notes import notes as notes_of
from trimtab.export.onnxfile import Store
from trimtab.export.onnxpoints import RUNTIME, ink
from trimtab.load.loaded import Loaded

ENGINE = "onnxruntime"
NAME = "onnx"


def refuse(loaded: Loaded) -> None:
    """Raises Refused for policies, an architecture that is not drawn, or a weight that is not stored as codes, dense
    numbers or thin factors."""
    refuse_policies(loaded, NAME)
    plan.refuse(loaded, NAME)


def write(loaded: Loaded, folder: Path) -> None:
    """The graphs, one file of numbers, and the library's config and tokenizer."""
    graphs, leaves = plan.graphs(loaded)
    tied = plan.tied(loaded)
    with Store(folder) as store:
        for graph in graphs:
            ink(graph.model.graph, leaves, tied, store)
            graph.model.opset_imports[RUNTIME] = 1
            del graph.model.opset_imports["trimtab"]
    for graph in graphs:
        ir.save(graph.model, folder / f"{graph.name}.onnx")
    carry(loaded, folder)


def notes(loaded: Loaded) -> Sequence[str]:
    """Sentences on what is written otherwise than it stands in the artifact."""
    return notes_of(loaded)
