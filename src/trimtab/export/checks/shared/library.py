"""A folder as plain transformers loads it, for checks whose engine stands behind transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers


def open_model(folder: Path) -> Any:
    """The class that the folder's config names, in the dtype of its file. Raises AssertionError for tensors that are
    missing or left over: the library would fill them with random numbers, or pass them over, and only warn of it."""
    name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    model, info = getattr(transformers, name).from_pretrained(
        folder, dtype="auto", local_files_only=True, output_loading_info=True
    )
    wrong = {key: sorted(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[key]}
    assert not wrong, f"{folder}: {wrong}"
    return model.eval()


def widened(model: Any) -> Any:
    """The model in float32, also what scales a word table (Gemma's): opened in 16 bits the library keeps that factor
    rounded, the root of 640 as 25.25, where our model and llama.cpp take it in float32."""
    torch.nn.Module.float(model)  # the library refuses its own for models that came quantized
    for module in model.modules():
        if hasattr(module, "scalar_embed_scale"):
            module.embed_scale.fill_(module.scalar_embed_scale)
    return model


def asked(model: Any) -> Callable[[dict[str, Any]], Any]:
    """How ``teacher`` asks such a model."""

    def answer(row: dict[str, Any]) -> Any:
        with torch.no_grad():
            found = model(**{name: torch.from_numpy(value) for name, value in row.items()})
        if getattr(found, "logits", None) is not None:
            return found.logits[0].float().numpy()
        if getattr(found, "last_hidden_state", None) is not None:
            return found.last_hidden_state[0].float().numpy()
        return torch.cat([found.text_embeds, found.image_embeds]).float().numpy()

    return answer
