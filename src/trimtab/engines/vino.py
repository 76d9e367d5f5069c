"""An export in OpenVINO's form by openvino itself, with its own settings; its cache stays inside."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trimtab.core.ovquiet import without_telemetry
from trimtab.engines.base import Answer, Words, clocked
from trimtab.engines.heard import likeliest

MODEL = "openvino_model.xml"


class Vino:
    def __init__(self, request: Any) -> None:
        self.request = request

    def likeliest(self, ids: Sequence[int], count: int) -> Words:
        self.request.reset_state()
        return likeliest(torch.from_numpy(self._next(ids, 0)), count)

    def answer(self, ids: Sequence[int], most: int, ends: Collection[int] = ()) -> Answer:
        return clocked(self._words(ids, most), ends)

    def _words(self, ids: Sequence[int], most: int) -> Iterator[int]:
        self.request.reset_state()
        given, at = list(ids), 0
        for _ in range(most):
            said = int(self._next(given, at).argmax())
            yield said
            given, at = [said], at + len(given)

    def _next(self, ids: Sequence[int], before: int) -> Any:
        """The logits behind ``ids``, which stand behind ``before`` tokens."""
        count = before + len(ids)
        made = self.request.infer({
            "input_ids": np.array([list(ids)], np.int64), "attention_mask": np.ones((1, count), np.int64),
            "position_ids": np.arange(before, count, dtype=np.int64)[None], "beam_idx": np.zeros(1, np.int32),
        })  # fmt: skip
        return made["logits"][0, -1].astype(np.float32)


def open_session(path: Path) -> Vino:
    with without_telemetry():
        import openvino
    compiled = openvino.Core().compile_model(path / MODEL, "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    return Vino(compiled.create_infer_request())
