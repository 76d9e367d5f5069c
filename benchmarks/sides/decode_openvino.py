"""An OpenVINO folder by OpenVINO GenAI, for ``make bench-decode``: ``python FILE FOLDER JSON``, the properties of the
device. Its own clocks are read."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from asked import answer_all


def main() -> None:
    folder, properties = sys.argv[1], json.loads(sys.argv[2])
    pipe = genai.LLMPipeline(folder, "CPU", **properties)
    settings = genai.GenerationConfig(do_sample=False, ignore_eos=True)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        ids = np.array([asked["prompt"]], dtype=np.int64)
        settings.max_new_tokens = asked["tokens"]
        given = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        told = pipe.generate(given, settings).perf_metrics
        first, whole = told.get_ttft().mean / 1000, told.get_generate_duration().mean / 1000
        return {"first": first, "after": whole - first, "said": int(told.get_num_generated_tokens())}

    answer_all(answer, {"version": ov.__version__})


main()
