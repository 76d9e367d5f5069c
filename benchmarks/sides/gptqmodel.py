"""One job of ``make bench-quantize`` by GPTQModel, run in its own environment: ``python FILE JOB.json``.

Its own recommended settings; model and tokens come from the job. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import torch
from gptqmodel import BACKEND, GPTQModel
from gptqmodel.nn_modules.qlinear import BaseQuantLinear
from gptqmodel.quantization.config import GPTQConfig
from safetensors.torch import load_file
from side import asked, keep_dense, peak, rows, weight_bytes


def dense_state(folder: str, checkpoint: str) -> dict[str, torch.Tensor]:
    """The checkpoint with what was packed made dense by GPTQModel's own reader, (in, out) turned to (out, in)."""
    model = GPTQModel.load(folder, device="cpu", backend=BACKEND.TORCH).model
    packed = {name: module for name, module in model.named_modules() if isinstance(module, BaseQuantLinear)}
    made = {f"{name}.weight": module.dequantize_weight().T for name, module in packed.items()}
    return load_file(f"{checkpoint}/model.safetensors") | made


def main() -> None:
    begun, job = float(os.environ["BENCH_BEGUN"]), asked()
    config = GPTQConfig(bits=job["bits"], group_size=job["group_size"], sym=job["symmetric"])
    model = GPTQModel.load(job["model"], config, device="cpu", dtype=torch.bfloat16)
    settings = model.model.config  # GPTQModel 7.6 adds flat keys to Gemma's rope, which transformers refuses to write
    settings.rope_parameters = {kind: settings.rope_parameters[kind] for kind in sorted(set(settings.layer_types))}
    data: list[dict[str, Any]] = [{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows(job)]
    start = time.monotonic()
    model.quantize(data)
    fitted, high = time.monotonic() - start, peak()
    model.save(job["out"])
    os.sync()
    whole = time.time() - begun
    keep_dense(job, dense_state(job["out"], job["model"]))
    size = weight_bytes(job["out"], ".safetensors")
    print(json.dumps({"fitted_s": fitted, "whole_s": whole, "peak_bytes": high, "weight_bytes": size}))


if __name__ == "__main__":
    main()
