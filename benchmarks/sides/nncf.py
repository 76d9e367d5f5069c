"""One job of ``make bench-quantize`` by NNCF, run in its own environment: ``python FILE JOB.json``.

NNCF's GPTQ works on OpenVINO models only, so the model is converted first, in a process of its own (``convert`` behind
the file): that counts for ``whole``, and neither for ``fitted`` nor for the peak of memory. It goes by float32 to an IR
of 16 bits: a graph in bfloat16 crashes OpenVINO 2026.4.1's compiler for the CPU. Embedding and head are left as they
are, as on every side. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import torch
from openvino import opset13 as opset
from safetensors.torch import load_file
from side import asked, keep_dense, peak, rows, weight_bytes
from transformers import AutoModelForCausalLM, AutoTokenizer

MODES = {(4, True): nncf.CompressWeightsMode.INT4_SYM, (4, False): nncf.CompressWeightsMode.INT4_ASYM,
         (3, True): nncf.CompressWeightsMode.INT3_SYM}  # fmt: skip
PREFIX = "self.model."
"""Of constants in the converted model, before their names in the checkpoint."""


class Logits(torch.nn.Module):
    """The model without a cache, which the conversion cannot trace."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return logits


def convert(job: dict[str, Any]) -> None:
    """The checkpoint as an IR of 16 bits beside the job's output, which computes in float32."""
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    row = torch.tensor(rows(job)[:1])
    with torch.no_grad():
        made = ov.convert_model(Logits(model), example_input={"input_ids": row, "attention_mask": torch.ones_like(row)})
    ov.save_model(made, intermediate(job), compress_to_fp16=True)


def intermediate(job: dict[str, Any]) -> Path:
    return Path(job["out"]).with_name("converted") / "model.xml"


def matrices(model: ov.Model) -> dict[str, Any]:
    """The matrices of the decoder's products, by name in the checkpoint: constants, or what makes them of codes; times
    the factors that its AWQ puts before them."""
    found = {}
    for node in model.get_ops():
        if node.get_type_name() == "MatMul":
            leaf = node.input_value(1).get_node()
            while leaf.get_input_size():
                leaf = leaf.input_value(0).get_node()
            name = leaf.get_friendly_name().removesuffix("_compressed")
            if name.startswith(PREFIX) and ".layers." in name:
                before = node.input_value(0).get_node()
                scaled = before.get_friendly_name().endswith("awq_mul")
                value = opset.convert(node.input_value(1), "f32")
                found[name.removeprefix(PREFIX)] = opset.multiply(value, factors(before)) if scaled else value
    return found


def factors(node: ov.Node) -> Any:
    """The constant of a product with one, a row."""
    constant = next(value for value in node.input_values() if value.get_node().get_type_name() == "Constant")
    return opset.reshape(opset.convert(constant, "f32"), [1, -1], special_zero=False)


def dense_state(model: ov.Model, checkpoint: str) -> dict[str, torch.Tensor]:
    """The checkpoint with the matrices that OpenVINO itself makes of the codes."""
    taken = matrices(model)
    wide = [opset.result(value) for value in taken.values()]
    values = ov.compile_model(ov.Model(wide, []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])
    made = {name: torch.from_numpy(np.array(values[index])) for index, name in enumerate(taken)}
    return load_file(f"{checkpoint}/model.safetensors") | made


def main() -> None:
    begun, job = float(os.environ["BENCH_BEGUN"]), asked()
    if sys.argv[2:] == ["convert"]:
        convert(job)
        return
    subprocess.run([sys.executable, "-P", __file__, sys.argv[1], "convert"], check=True, stdout=sys.stderr)
    model = ov.Core().read_model(intermediate(job))
    samples = [{"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)} for row in rows(job)]
    start = time.monotonic()
    model = nncf.compress_weights(
        model, mode=MODES[job["bits"], job["symmetric"]], group_size=job["group_size"], dataset=nncf.Dataset(samples),
        subset_size=len(samples), backup_mode=nncf.BackupMode.NONE, **{job["method"]: True},
    )  # fmt: skip
    fitted, high = time.monotonic() - start, peak()
    ov.save_model(model, Path(job["out"]) / "openvino_model.xml")
    AutoTokenizer.from_pretrained(job["model"]).save_pretrained(job["out"])
    os.sync()
    whole = time.time() - begun
    keep_dense(job, dense_state(model, job["model"]))
    size = weight_bytes(job["out"], ".bin")
    print(json.dumps({"fitted_s": fitted, "whole_s": whole, "peak_bytes": high, "weight_bytes": size}))


if __name__ == "__main__":
    main()
