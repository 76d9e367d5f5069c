"""An artifact by its plan, for ``make bench-decode``: ``python FILE FOLDER THREADS``; no policy, no guessing."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from asked import answer_all

from trimtab.engines.remembered import open_by
from trimtab.evaluate.perplexity import nll
from trimtab.runtime.plan.greedy import greedy


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    loaded = open_by(sys.argv[1], "plan")
    assert loaded.engine is not None, loaded.kernels.planless
    plan = loaded.engine.plan
    each = 2 * 2 * plan.spec.shared * plan.spec.size * plan.count

    @torch.inference_mode()
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if not asked.get("memory"):
            loaded.memory = None
        elif loaded.memory is None:
            loaded.remember()
        model, ids = loaded.model, torch.tensor([asked["prompt"]])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if "tokens" not in asked:  # a window of text
            logits = model(**batch, use_cache=False).logits[0, :-1]
            return {"losses": [nll(one[None], word[None]) for one, word in zip(logits, ids[0, 1:], strict=True)]}
        begun, said, first = time.perf_counter(), list[int](), 0.0
        for words in greedy(model, batch, asked["tokens"], guessing=False):
            first = first or time.perf_counter() - begun
            said += words
        after = time.perf_counter() - begun - first
        return {"first": first, "after": after, "said": said, "cache": each * (ids.shape[1] + len(said) // 2)}

    answer_all(answer, {"read": plan.read, "threads": torch.get_num_threads()})


main()
