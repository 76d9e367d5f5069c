"""A folder that sees, by the library itself, for ``make bench-decode``: ``python FILE FOLDER THREADS ATTENTION``."""

from __future__ import annotations

import sys
from typing import Any

import torch
from asked import answer_all
from bylibrary import answered
from seen import batch_of
from transformers import AutoModelForImageTextToText


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    model = AutoModelForImageTextToText.from_pretrained(
        sys.argv[1], dtype=torch.bfloat16, attn_implementation=sys.argv[3]
    ).eval()

    @torch.inference_mode()
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        return answered(model, batch_of(asked, torch.bfloat16), asked["tokens"])

    answer_all(answer, {})


main()
