"""An artifact that sees, by its plan, for ``make bench-decode``: ``python FILE FOLDER THREADS``. Each question says its
policy: "stored", as the artifact has it, "none", or how much DivPrune keeps; ``memory``: whether it remembers."""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from asked import answer_all
from seen import batch_of

from trimtab.anatomy.vlm import Given
from trimtab.engines.remembered import open_by
from trimtab.runtime.plan.greedy import greedy
from trimtab.tokens import DivPrune


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    loaded = open_by(sys.argv[1], "plan")
    assert loaded.engine is not None, loaded.kernels.planless
    plan, stored = loaded.engine.plan, loaded.policies

    def policies(name: str | float) -> Any:
        return stored if name == "stored" else () if name == "none" else [DivPrune(float(name))]

    @torch.inference_mode()
    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        loaded.policies = policies(asked["policy"])
        if not asked["memory"]:
            loaded.memory = None
        elif loaded.memory is None:
            loaded.remember()
        batch, model = batch_of(asked, loaded.library.dtype), loaded.model
        if "prefill" in asked:  # the features given: what the decoder takes, the score and the choice included
            model = model.over(Given(loaded.anatomy, batch, loaded.anatomy.features(batch)))
        begun, said, first = time.perf_counter(), list[int](), 0.0
        for words in greedy(model, batch, asked["tokens"], guessing=False):
            first = first or time.perf_counter() - begun
            said += words
        return {"first": first, "after": time.perf_counter() - begun - first, "said": said}

    answer_all(answer, {"read": plan.read})


main()
