"""An OpenVINO folder that sees, by optimum-intel, which reads what it exported: ``python FILE FOLDER THREADS JSON``,
the properties of the device."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from asked import answer_all
from optimum.intel.openvino.modeling_visual_language import OVModelForVisualCausalLM
from seen import batch_of
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer


class Clock(BaseStreamer):
    """When the prompt was handed over, and when the first word was there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        self.times.append(time.perf_counter())


def main() -> None:
    properties = json.loads(sys.argv[3]) | {"INFERENCE_NUM_THREADS": int(sys.argv[2])}
    model = OVModelForVisualCausalLM.from_pretrained(sys.argv[1], device="CPU", ov_config=properties)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        batch, clock = batch_of(asked, torch.float32), Clock()
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=asked["tokens"], min_new_tokens=asked["tokens"], pad_token_id=0,
            eos_token_id=asked.get("end"),
        )  # fmt: skip
        begun = time.perf_counter()
        found = model.generate(**batch, generation_config=settings, streamer=clock)
        first = clock.times[1] - begun
        return {"first": first, "after": clock.times[-1] - begun - first,
                "said": found[0, batch["input_ids"].shape[1] :].tolist()[-asked["tokens"] :]}  # fmt: skip

    answer_all(answer, {})


main()
