"""The OpenVINO files of a model: graphs, and tokenizers that are graphs themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import openvino as ov
from openvino.exceptions import OVTypeError
from openvino_tokenizers import convert_tokenizer

from trimtab.export.graph import plan
from trimtab.export.ovpoints import Points
from trimtab.export.ovstate import PAST, hold
from trimtab.load.loaded import Loaded
from trimtab.load.synthetic import SENTENCES

NAMES = {
    plan.TEXT: "openvino_model", plan.VISION: "openvino_vision_embeddings_model",
    plan.WORDS: "openvino_text_embeddings_model", plan.DECODER: "openvino_language_model",
    plan.PICTURES: "openvino_vision_model", plan.TEXTS: "openvino_text_model",
}  # fmt: skip
"""Graph to file, as openvino-genai looks for them."""
NEW, OLD = "processor_config.json", "preprocessor_config.json"


def write_graphs(loaded: Loaded, folder: Path) -> None:
    """An ``.xml`` and a ``.bin`` for each graph."""
    made, leaves = plan.graphs(loaded)
    for graph in made:
        points, core = Points(leaves), ov.Core()
        for extension in points.extensions():
            core.add_extension(extension)
        model = core.read_model(ir.to_proto(graph.model).SerializeToString())
        if any(port.get_any_name().startswith(PAST) for port in model.inputs):
            hold(model)
        points.shorten(model)
        ov.save_model(model, folder / f"{NAMES[graph.name]}.xml", compress_to_fp16=False)


def write_words(loaded: Loaded, folder: Path) -> None:
    """Tokenizer and detokenizer as graphs, where ``words_of`` has them; the image processor's settings under the name
    that they had in transformers 4, under which openvino-genai reads them."""
    for name, model in zip(("tokenizer", "detokenizer"), words_of(loaded)[0], strict=False):
        ov.save_model(model, folder / f"openvino_{name}.xml")
    if (folder / NEW).is_file() and not (folder / OLD).exists():
        images = json.loads((folder / NEW).read_text(encoding="utf-8")).get("image_processor")
        if images is not None:
            (folder / OLD).write_text(json.dumps(images, indent=1) + "\n", encoding="utf-8")


def words_of(loaded: Loaded) -> tuple[Sequence[ov.Model], str]:
    """Tokenizer and detokenizer as graphs, or none and why: openvino-tokenizers does not know its kind, or gives other
    tokens for some sentences."""
    if loaded.tokenizer is None:
        return (), "the model has no tokenizer"
    try:
        made: tuple[ov.Model, ov.Model] = convert_tokenizer(loaded.tokenizer, with_detokenizer=True)
    except (OVTypeError, NotImplementedError) as error:
        return (), f"openvino-tokenizers does not convert {type(loaded.tokenizer).__name__}: {error}"
    ask = ov.Core().compile_model(made[0], "CPU")
    for sentence in SENTENCES:
        found = ask({0: np.array([sentence])})["input_ids"][0].tolist()
        if found != loaded.tokenizer(sentence)["input_ids"]:
            return (), f"openvino-tokenizers gives other tokens for {sentence!r}"
    return made, ""


def unwritten(loaded: Loaded) -> list[str]:
    """A sentence where no tokenizer comes along as a graph."""
    why = words_of(loaded)[1]
    return [f"no openvino_tokenizer.xml, so openvino-genai cannot be given text: {why}"] if why else []
