"""A GGUF with its tower by llama.cpp, for ``make bench-decode``: ``python FILE FOLDER THREADS``. It looks at the file
of the picture itself; the whole request is timed, and its own clock says when the first word was there."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import Any

import xllamacpp
from asked import answer_all
from completion import GREEDY, post, question


def main() -> None:
    folder = Path(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path = str(folder / "model.gguf"), str(folder / "mmproj-model.gguf")
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 2304, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[2])
    held = xllamacpp.Server(params)
    marker = post(held.listening_address, "/props")["media_marker"]

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        picture = base64.b64encode(Path(asked["picture"]).read_bytes()).decode()
        row = {"prompt": asked["text"], "placeholder": asked["placeholder"], "picture": picture}
        begun = time.perf_counter()
        made = post(held.listening_address, "/completion", question(row, marker, asked["tokens"]) | GREEDY | {
            "cache_prompt": False, "ignore_eos": True,
        })  # fmt: skip
        whole = time.perf_counter() - begun
        after = made["timings"]["predicted_ms"] / 1000
        return {"first": whole - after, "after": after, "said": made["timings"]["predicted_n"]}

    answer_all(answer, {})


main()
