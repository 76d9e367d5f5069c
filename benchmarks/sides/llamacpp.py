"""A GGUF in llama.cpp itself, for ``make bench-gguf``, run in an environment of its own: ``python FILE JOB.json``.

The job names ``model`` and ``mmproj`` (or null), ``threads``, ``context``, ``windows`` (token ids) with ``places`` in
them, and ``questions`` by task: a prompt, what stands for the picture in it, and the picture as base64. Found for each
place: the loss of the token there and the likeliest one; for each question: the greedy answer and how many tokens the
prompt took. The package's own completions take no pictures; its server, which listens on this machine only, does. The
last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import xllamacpp
from completion import GREEDY, next_token, post, question, scored

TOKENS, REPEATS = 64, 5
"""How many tokens are timed at once, and how often."""


def server(job: dict[str, Any]) -> xllamacpp.Server:
    """One slot of the wanted context on the CPU."""
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    if job["mmproj"]:
        params.mmproj.path = job["mmproj"]
    params.n_ctx, params.n_parallel, params.n_gpu_layers = job["context"], 1, 0
    params.swa_full = True  # else a window of attention makes it read the whole prompt anew at every place
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    return xllamacpp.Server(params)


def window(address: str, ids: list[int], places: list[int]) -> list[tuple[float, int]]:
    """Loss and likeliest token at each of the places."""
    return [scored(post(address, "/completion", next_token(ids[:at], ids[at])), ids[at]) for at in places]


def answer(address: str, asked: dict[str, str], marker: str, longest: int) -> tuple[str, int]:
    """A question's answer, and its prompt's length."""
    made = post(address, "/completion", question(asked, marker, longest))
    return str(made["content"]).strip(), int(made["tokens_evaluated"])


def speed(address: str, ids: list[int]) -> float:
    """Tokens a second, one after the other behind ``ids``: the median of some repeats, the prompt not counted."""
    asked = GREEDY | {"prompt": ids, "n_predict": TOKENS, "ignore_eos": True}
    return median(post(address, "/completion", asked)["timings"]["predicted_per_second"] for _ in range(REPEATS))


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    held = server(job)
    address = held.listening_address
    found: dict[str, Any] = {"windows": [window(address, ids, job["places"]) for ids in job["windows"]]}
    if job["windows"]:
        found["tokens_per_second"] = speed(address, job["windows"][0][:TOKENS])
    if job["questions"]:
        marker = post(address, "/props")["media_marker"]
        found["answers"] = {task: [answer(address, one, marker, job["longest"]) for one in part]
                            for task, part in job["questions"].items()}  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
