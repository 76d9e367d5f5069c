"""What a plan of a LLaVA of seven billion takes, in a process of its own: ``plan_7b_seconds`` and ``plan_7b_mb``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

LLAVA_7B = {
    "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "image_token_id": 32000,
    "image_seq_length": 576, "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
    "text_config": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
                    "max_position_embeddings": 4096},
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
                      "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
                      "projection_dim": 768},
    "dtype": "bfloat16",
}  # fmt: skip
"""LLaVA 1.5's shape: nothing but a config is there."""


TIMED = """
import json, time
begun = time.monotonic()
from trimtab.cli import main
try:
    main()
except SystemExit as end:
    status = end.code
from trimtab.measure.memory import peak
print(json.dumps({"plan_7b_seconds": time.monotonic() - begun, "plan_7b_mb": peak() / 1e6, "status": status}))
"""


def seven(runs: Path) -> dict[str, float]:
    """Seconds and megabytes that a plan takes for a LLaVA of seven billion, in a process of its own."""
    folder = runs / "llava-7b"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(LLAVA_7B), encoding="utf-8")
    recipe = {"model": str(folder), "task": {"type": "vqa", "dataset": "easyvqa"},
              "steps": [{"gptq": {"bits": 4, "group_size": 128, "targets": ["language", "projector"]}},
                        {"divprune": {"keep": 0.5}}]}  # fmt: skip
    file = runs / "llava-7b.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", TIMED, "plan", str(file)], capture_output=True, text=True, check=True)
    print(done.stdout)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("status") == 0
    return found
