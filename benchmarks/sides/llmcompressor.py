"""One job of ``make bench-quantize`` by llm-compressor, run in its own environment: ``python FILE JOB.json``.

Its own recommended settings; model and tokens come from the job. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import torch
from compressed_tensors.quantization.lifecycle.forward import forward_quantize
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.pruning import WandaPruningModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from side import asked, keep_dense, peak, rows, weight_bytes
from transformers import AutoModelForCausalLM, AutoTokenizer


def modifiers(job: dict[str, Any]) -> list[Any]:
    """The recipe: every linear but the head, as its documentation has it."""
    if job["method"] == "wanda":
        return [WandaPruningModifier(sparsity=0.5, mask_structure="2:4", targets=["Linear"], ignore=["re:.*lm_head"])]
    weights = {"num_bits": job["bits"], "type": "int", "strategy": "group", "group_size": job["group_size"],
               "symmetric": job["symmetric"]}  # fmt: skip
    scheme = {"config_groups": {"all": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"]}
    if job["method"] == "gptq":
        return [GPTQModifier(**scheme)]
    return [AWQModifier(), QuantizationModifier(**scheme)]


def matrices(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What the model multiplies by: its AWQ leaves the weights unrounded beside the scales until they are saved."""
    found = {name: t.detach().to(torch.bfloat16).contiguous().clone() for name, t in model.state_dict().items()
             if name.endswith(("weight", "bias"))}  # fmt: skip
    for name, module in model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is not None and scheme.weights is not None:
            rounded = forward_quantize(module, module.weight.data, "weight", scheme.weights)
            found[f"{name}.weight"] = rounded.to(torch.bfloat16).contiguous()
    return found


def main() -> None:
    begun, job = float(os.environ["BENCH_BEGUN"]), asked()
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    windows = rows(job)
    if not torch.accelerator.is_available():  # its AWQ pins what it would copy to one, which fails where there is none
        IntermediatesCache.pin_memory = lambda *_: None
    data = Dataset.from_dict({"input_ids": windows, "attention_mask": [[1] * len(row) for row in windows]})
    start = time.monotonic()
    # the tokenizer is handed over, or it would be in memory twice
    oneshot(model=model, processor=tokenizer, dataset=data, recipe=modifiers(job),
            num_calibration_samples=len(windows), max_seq_length=len(windows[0]), pipeline="sequential")  # fmt: skip
    fitted, high = time.monotonic() - start, peak()
    aside = time.monotonic()
    dense = matrices(model)
    aside = time.monotonic() - aside
    model.save_pretrained(job["out"], save_compressed=True)
    tokenizer.save_pretrained(job["out"])
    os.sync()
    whole = time.time() - begun - aside
    dense.pop("lm_head.weight", None)  # tied
    keep_dense(job, dense)
    size = weight_bytes(job["out"], ".safetensors")
    print(json.dumps({"fitted_s": fitted, "whole_s": whole, "peak_bytes": high, "weight_bytes": size}))


if __name__ == "__main__":
    main()
