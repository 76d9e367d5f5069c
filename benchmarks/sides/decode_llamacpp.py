"""A GGUF by llama.cpp, for ``make bench-decode``: ``python FILE MODEL JSON``, of which ``threads``, ``context`` and the
other settings are told. Its own clocks are read: the server's for the prompt, and for what comes behind."""

from __future__ import annotations

import json
import sys
from typing import Any

import xllamacpp
from asked import answer_all
from completion import GREEDY, next_token, post, scored


def main() -> None:
    settings = json.loads(sys.argv[2])
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx, params.n_parallel, params.n_gpu_layers = settings["context"], 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_ubatch = settings["ubatch"]
    params.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{settings['flash']}")
    params.swa_full = settings["swa_full"]
    held = xllamacpp.Server(params)
    address = held.listening_address

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        ids = asked["prompt"]
        if "tokens" not in asked:
            losses = [scored(post(address, "/completion", next_token(ids[:at], ids[at])), ids[at])[0]
                      for at in asked["places"]]  # fmt: skip
            return {"losses": losses}
        made = post(address, "/completion", GREEDY | {
            "prompt": ids, "n_predict": asked["tokens"], "ignore_eos": True, "cache_prompt": False,
        })  # fmt: skip
        told = made["timings"]
        assert told["prompt_n"] == len(ids), told
        return {"first": told["prompt_ms"] / 1000, "after": told["predicted_ms"] / 1000, "said": told["predicted_n"]}

    answer_all(answer, {})


main()
