"""One job of ``make bench-quantize`` by Trimtab: ``python FILE JOB.json``. The last line is one JSON object.

The model streams: its matrices are read from the files as the walk comes to them."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from trimtab import methods
from trimtab.core.tensorfile import save_tensors
from trimtab.export.state import dense_state
from trimtab.load.artifact import write
from trimtab.load.sources import open_source
from trimtab.measure.memory import peak
from trimtab.run.walk import walk


def knobs(job: dict[str, Any]) -> dict[str, Any]:
    if job["method"] == "wanda":
        return {"pattern": "2:4"}
    return {name: job[name] for name in ("bits", "group_size", "symmetric")}


def main() -> None:
    begun, job = float(os.environ["BENCH_BEGUN"]), json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    loaded = open_source(job["model"], dtype="bfloat16", stream=True)
    rows = load_file(job["tokens"])["input_ids"]
    batches = [{"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]} for row in rows]
    start = time.monotonic()
    if "table" in job:
        walk(loaded.anatomy, batches, methods.make(job["method"], knobs(job | job["table"])), ("embedding",))
    walk(loaded.anatomy, batches, methods.make(job["method"], knobs(job)), job["targets"])
    fitted, high = time.monotonic() - start, peak()
    made = write(Path(job["out"]), loaded, {"recipe": {"benchmark": job}})
    os.sync()
    whole = time.time() - begun
    save_tensors(Path(job["dense"]), dense_state(loaded.library), {"format": "pt"})
    print(json.dumps({"fitted_s": fitted, "whole_s": whole, "peak_bytes": high, "weight_bytes": made.bytes}))


if __name__ == "__main__":
    main()
