"""A GGUF in llama.cpp itself, for ``make bench-gguf``, run in an environment of its own: ``python FILE JOB.json``.

The job names ``model`` and ``mmproj`` (or null), ``threads``, ``context``, ``windows`` (token ids) with ``places`` in
them, and ``questions``: a prompt whose picture stands as MARKER, and the picture as base64. For each place the greedy
next token and its log-probability, for each question the greedy answer. The last line is one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import xllamacpp

GREEDY = {"temperature": 0.0, "top_k": 1, "cache_prompt": True}


def server(job: dict[str, Any]) -> xllamacpp.Server:
    """One slot of the wanted context on the CPU."""
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    if job["mmproj"]:
        params.mmproj.path = job["mmproj"]
    params.n_ctx, params.n_parallel, params.n_gpu_layers = job["context"], 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"]
    return xllamacpp.Server(params)


def next_token(asked: xllamacpp.Server, ids: list[int]) -> tuple[int, float]:
    """The likeliest token after ``ids``, and the logarithm of its probability."""
    made = asked.handle_completions(GREEDY | {"prompt": ids, "n_predict": 1, "n_probs": 1})
    first = answered(made)["completion_probabilities"][0]
    return int(first["id"]), float(first["logprob"])


def answer(asked: xllamacpp.Server, question: dict[str, str], longest: int) -> str:
    prompt = {"prompt_string": question["prompt"], "multimodal_data": [question["picture"]]}
    made = asked.handle_completions(GREEDY | {"prompt": prompt, "n_predict": longest})
    return str(answered(made)["content"]).strip()


def answered(made: Any) -> dict[str, Any]:
    """Raises RuntimeError where the server refuses."""
    found: dict[str, Any] = json.loads(made) if isinstance(made, str | bytes) else made
    if "error" in found:
        raise RuntimeError(str(found["error"]))
    return found


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asked = server(job)
    told = [[next_token(asked, ids[:at]) for at in job["places"]] for ids in job["windows"]]
    answers = [answer(asked, question, job["longest"]) for question in job["questions"]]
    print(json.dumps({"next": told, "answers": answers}))


if __name__ == "__main__":
    main()
