"""A folder by the library itself, for ``make bench-decode``: ``python FILE FOLDER THREADS ATTENTION``; bfloat16."""

from __future__ import annotations

import sys
from typing import Any

import torch
from asked import answer_all
from bylibrary import answered
from transformers import AutoModelForCausalLM


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, attn_implementation=sys.argv[3])
    model.eval()

    @torch.inference_mode()
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        ids = torch.tensor([asked["prompt"]])
        if "tokens" not in asked:
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            parts = zip(logits.split(32), ids[0, 1:].split(32), strict=True)
            losses = [torch.nn.functional.cross_entropy(x.float(), y, reduction="none") for x, y in parts]
            return {"losses": torch.cat(losses).tolist()}
        return answered(model, {"input_ids": ids}, asked["tokens"])

    answer_all(answer, {})


main()
