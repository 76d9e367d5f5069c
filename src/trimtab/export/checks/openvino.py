"""openvino on a folder of graphs: ``python -I openvino.py FOLDER SAMPLES``.

Products are computed in float32: by default openvino computes in bfloat16 where the CPU can, for speed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).with_name("shared")))  # -I leaves a script's own folder out

import numpy as np
from graphs import Part, asked
from teacher import main

NAMES = {
    "openvino_model": "model", "openvino_vision_embeddings_model": "vision_encoder",
    "openvino_text_embeddings_model": "embed_tokens", "openvino_language_model": "decoder",
    "openvino_vision_model": "vision_model", "openvino_text_model": "text_model",
}  # fmt: skip
EXACT = {"EXECUTION_MODE_HINT": "ACCURACY"}


def engine() -> Any:
    """openvino, imported without its telemetry, which would open a connection (``trimtab.core.ovquiet`` says how)."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def open_folder(folder: Path) -> Any:
    """How a row is asked."""
    core = engine().Core()
    found = {NAMES[path.stem]: path for path in folder.glob("*.xml") if path.stem in NAMES}

    @cache
    def request(name: str) -> Any:
        return core.compile_model(found[name], "CPU", EXACT).create_infer_request()

    def run(name: str, given: dict[str, Any]) -> dict[str, Any]:
        answer = request(name).infer(given)
        return {name: value for port, value in answer.items() for name in port.get_names()}

    def decode(name: str, parts: Iterator[Part]) -> list[Any]:
        request(name).reset_state()
        beams = np.zeros(1, np.int32)
        return [
            run(name, {**part.first, "attention_mask": part.mask, "position_ids": part.positions, "beam_idx": beams})[
                "logits"
            ].copy()
            for part in parts
        ]

    return asked(folder, set(found), run, decode)


if __name__ == "__main__":
    main(open_folder)
