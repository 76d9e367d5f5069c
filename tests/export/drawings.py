"""Tiny models drawn as graphs and run by onnxruntime here, beside the library's own forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from trimtab.anatomy import tiny
from trimtab.core.fit import Site
from trimtab.load import Loaded, Source
from trimtab.load.artifact import hosts
from trimtab.quantize import RTN


def loaded(name: str, padding: tiny.Padding = "left", group: int = 8) -> tuple[Loaded, dict[str, torch.Tensor]]:
    """A tiny model of the family, every matrix of it in 4 bits, and a padded batch."""
    model, batch = tiny.make(name, padding)
    made = Loaded(model, None, None, Source(name, "0", "unknown", "builtin", 0))
    found: dict[int, Any] = {}
    for path, host in hosts(made.anatomy):
        old = host.w
        found.setdefault(id(old), RTN(bits=4, group_size=group)(old, Site(path, old.dense)))
        host.w = found[id(old)]
    return made, batch


def session(folder: Path, name: str) -> Any:
    """Products in float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])


def logits(run: Any, batch: dict[str, torch.Tensor], cut: int) -> np.ndarray:
    """Of a batch of prompts in two parts, the second of which reads the first one's cache."""
    ids, mask = batch["input_ids"].numpy(), batch["attention_mask"].numpy()
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    names = [port.name for port in run.get_outputs()]
    past = {
        port.name: np.zeros((len(ids), port.shape[1], 0, port.shape[3]), np.float32)
        for port in run.get_inputs() if port.name.startswith("past")
    }  # fmt: skip
    found = []
    for start, stop in ((0, cut), (cut, ids.shape[1])):
        given = {"input_ids": ids[:, start:stop], "attention_mask": mask[:, :stop],
                 "position_ids": positions[:, start:stop]}  # fmt: skip
        answer = dict(zip(names, run.run(names, {**given, **past}), strict=True))
        found.append(answer.pop("logits"))
        past = {key.replace("present", "past_key_values"): value for key, value in answer.items()}
    return np.concatenate(found, 1)
