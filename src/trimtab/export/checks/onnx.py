"""onnxruntime on a folder of graphs: ``python -I onnx.py FOLDER SAMPLES``.

Products are computed in float32: by default onnxruntime rounds what enters a 4- or 8-bit product to 8 bits, for speed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).with_name("shared")))  # -I leaves a script's own folder out

import numpy as np
import onnxruntime
from graphs import Part, asked
from teacher import main

EXACT = ("session.qdq_matmulnbits_accuracy_level", "1")


def open_folder(folder: Path) -> Any:
    """How a row is asked."""

    @cache
    def session(name: str) -> Any:
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry(*EXACT)
        return onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])

    def run(name: str, given: dict[str, Any]) -> dict[str, Any]:
        names = [value.name for value in session(name).get_outputs()]
        return dict(zip(names, session(name).run(names, given), strict=True))

    def decode(name: str, parts: Iterator[Part]) -> list[Any]:
        past = {
            value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
            for value in session(name).get_inputs() if value.name.startswith("past_key_values")
        }  # fmt: skip
        logits = []
        for part in parts:
            found = run(name, {**part.first, "attention_mask": part.mask, "position_ids": part.positions, **past})
            logits.append(found.pop("logits"))
            past = {key.replace("present", "past_key_values"): value for key, value in found.items()}
        return logits

    return asked(folder, {path.stem for path in folder.glob("*.onnx")}, run, decode)


if __name__ == "__main__":
    main(open_folder)
