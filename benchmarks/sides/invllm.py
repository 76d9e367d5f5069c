"""A folder that Trimtab exported, in vLLM itself, for ``make bench-vllm``, in an environment of its own:
``python FILE JOB.json``.

The job names ``model``, ``context``, ``windows`` (token ids) with ``places`` in them, and ``questions`` by task: a
prompt with its placeholder, and the picture as base64. Found for each place: the loss of the token there and the
likeliest one; for each question: the greedy answer and how many tokens the prompt took. The last line is one JSON
object.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from vllm import LLM, SamplingParams

SEQUENCES = 8


def opened(job: dict[str, Any]) -> LLM:
    """The engine on the CPU, without compiled graphs."""
    return LLM(
        model=job["model"], dtype="bfloat16", enforce_eager=True, max_model_len=job["context"],
        max_num_seqs=SEQUENCES, enable_prefix_caching=False, disable_log_stats=True,
    )  # fmt: skip


def scored(engine: LLM, windows: Sequence[Sequence[int]], places: Sequence[int]) -> list[list[tuple[float, int]]]:
    """Loss and likeliest token at each of the places."""
    asked = [{"prompt_token_ids": list(ids)} for ids in windows]
    found = []
    for ids, one in zip(windows, engine.generate(asked, SamplingParams(max_tokens=1, prompt_logprobs=1)), strict=True):
        rows = []
        for at in places:
            told = one.prompt_logprobs[at]
            likeliest = next(token for token, value in told.items() if value.rank == 1)
            rows.append((-told[ids[at]].logprob, likeliest))
        found.append(rows)
    return found


def answered(engine: LLM, part: Sequence[dict[str, str]], longest: int) -> list[tuple[str, int]]:
    """Every question's answer, and its prompt's length."""
    asked = [
        {"prompt": one["prompt"],
         "multi_modal_data": {"image": Image.open(io.BytesIO(base64.b64decode(one["picture"]))).convert("RGB")}}
        for one in part
    ]  # fmt: skip
    made = engine.generate(asked, SamplingParams(temperature=0.0, max_tokens=longest))
    return [(one.outputs[0].text.strip(), len(one.prompt_token_ids)) for one in made]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    engine = opened(job)
    found = {
        "windows": scored(engine, job["windows"], job["places"]) if job["windows"] else [],
        "answers": {task: answered(engine, part, job["longest"]) for task, part in job["questions"].items()},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
