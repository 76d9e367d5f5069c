"""A LLaVA with a real processor and tokenizer, and an artifact of it, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hublike import trim
from transformers import LlavaForConditionalGeneration

from trimtab.anatomy.tiny import randomize
from trimtab.load import Loaded, artifact, open_source
from trimtab.zoo.make import build


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "trimtab-cache"))


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shape of the built-in model, narrower, at random weights, in the hub's layout."""
    folder = tmp_path_factory.mktemp("sources") / "small-llava"
    processor = build.processor()
    config = build.config(processor.tokenizer)
    config.vision_config.update({"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1})
    config.vision_config.update({"num_hidden_layers": 2})
    config.text_config.update({"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 1})
    config.text_config.update({"num_hidden_layers": 2})
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    randomize(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# small\n")
    (folder / "LICENSE").write_text("MIT License\n\nCopyright somebody\n")
    return folder


@pytest.fixture(scope="session")
def trimmed_llava(llava_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, Path]:
    """A trimmed model as it is in memory, and its artifact."""
    loaded = trim(open_source(llava_folder))
    folder = tmp_path_factory.mktemp("artifacts") / "llava-w4"
    said = {
        "modified": ["language: rtn, 4 bits, group 64.", "divprune keeps 0.5 of the image tokens."],
        "quality": [{"when": "after", "name": "accuracy.easyvqa", "value": 0.5, "unit": "share", "spread": [0.4, 0.6],
                     "n": 40, "how": "estimated"}],
        "calibration": {"verdict": "not needed"},
        "timings": {"gptq": 3.25},
    }  # fmt: skip
    artifact.write(folder, loaded, said)
    return loaded, folder
