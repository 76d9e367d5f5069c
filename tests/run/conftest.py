"""A tiny run that ends in seconds: the built-in processor, a LLaVA at random weights, a few questions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA of the built-in one's shape at random weights, in the library's layout."""
    from trimtab.zoo.make import build

    folder = tmp_path_factory.mktemp("model") / "tiny-llava"
    processor = build.processor()
    build.model(processor.tokenizer).to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "cache"))
