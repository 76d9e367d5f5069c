"""OpenVINO IR: graphs that openvino runs, our codes their compressed weights.

``openvino_model.xml`` for a language model or a text encoder; ``openvino_vision_model.xml`` and
``openvino_text_model.xml`` for CLIP; ``openvino_vision_embeddings_model.xml``, ``openvino_text_embeddings_model.xml``
and ``openvino_language_model.xml`` for a LLaVA: the names that openvino-genai looks for. A ``.bin`` lies beside each.
Decoders hold their cache and take ``beam_idx``. Tokenizers come along as graphs where openvino-tokenizers knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import openvino as ov

from trimtab.export.files import carry, refuse_policies
from trimtab.export.graph import plan
from trimtab.export.graph.notes import notes as notes_of
from trimtab.export.ovpoints import Points
from trimtab.export.ovstate import PAST, hold
from trimtab.load.loaded import Loaded

ENGINE = "openvino"
NAME = "openvino"
NAMES = {
    plan.TEXT: "openvino_model", plan.VISION: "openvino_vision_embeddings_model",
    plan.WORDS: "openvino_text_embeddings_model", plan.DECODER: "openvino_language_model",
    plan.PICTURES: "openvino_vision_model", plan.TEXTS: "openvino_text_model",
}  # fmt: skip


def refuse(loaded: Loaded) -> None:
    """Raises Refused for policies, an architecture that is not drawn, or a weight that is not stored as codes, dense
    numbers or thin factors."""
    refuse_policies(loaded, NAME)
    plan.refuse(loaded, NAME)


def write(loaded: Loaded, folder: Path) -> None:
    """The graphs with their numbers, and the library's config and tokenizer."""
    graphs, leaves = plan.graphs(loaded)
    for graph in graphs:
        points, core = Points(leaves), ov.Core()
        for extension in points.extensions():
            core.add_extension(extension)
        model = core.read_model(ir.to_proto(graph.model).SerializeToString())
        if any(port.get_any_name().startswith(PAST) for port in model.inputs):
            hold(model)
        points.shorten(model)
        ov.save_model(model, folder / f"{NAMES[graph.name]}.xml", compress_to_fp16=False)
    carry(loaded, folder)


def notes(loaded: Loaded) -> Sequence[str]:
    """Sentences on what is written otherwise than it stands in the artifact."""
    return notes_of(loaded)
