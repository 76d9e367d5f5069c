"""A folder that sees, by the library itself, for ``make bench-decode``: ``python FILE FOLDER THREADS ATTENTION``."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from asked import answer_all
from seen import batch_of
from transformers import AutoModelForImageTextToText


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    model = AutoModelForImageTextToText.from_pretrained(
        sys.argv[1], dtype=torch.bfloat16, attn_implementation=sys.argv[3]
    ).eval()

    @torch.inference_mode()
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        batch, begun = batch_of(asked, torch.bfloat16), time.perf_counter()
        found = model(**batch, use_cache=True, logits_to_keep=1)
        said, cache = [int(found.logits[0, -1].argmax())], found.past_key_values
        first = time.perf_counter() - begun
        while len(said) < asked["tokens"]:
            found = model(input_ids=torch.tensor([[said[-1]]]), past_key_values=cache)
            said.append(int(found.logits[0, -1].argmax()))
        return {"first": first, "after": time.perf_counter() - begun - first, "said": said}

    answer_all(answer, {})


main()
