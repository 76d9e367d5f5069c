"""Graphs of every architecture that is drawn answer as the library's own forward: rows, padding, windows and cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawings import loaded, logits, session

from trimtab.anatomy import tiny
from trimtab.export.graph import forms
from untested import need

TEXT = ["gemma3", "gptneox", "gptneox-serial", "llama", "mistral", "opt", "opt-narrow", "phi", "phi3", "qwen2", "qwen3"]
QUICK = ("gemma3", "opt-narrow")
"""Windows, a factor on the words and a tied head; learned positions, projections around the layers."""


def drawn(folder: Path, made: object) -> None:
    from trimtab.export.onnxfile import write_graphs

    write_graphs(made, folder)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TEXT]
)
def test_a_decoder_in_two_parts_is_the_library_s_in_one(name: str, tmp_path: Path) -> None:
    need("onnxruntime")
    made, batch = loaded(name, "right" if name.startswith("opt") else "left")
    drawn(tmp_path, made)
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        wanted = made.library(**batch, position_ids=positions).logits
    found = logits(session(tmp_path, "model"), batch, cut=9)
    where = batch["attention_mask"].bool()
    assert np.allclose(found[where], wanted[where], atol=2e-5 * float(wanted[where].abs().max()))


def test_every_text_family_is_tried() -> None:
    tried = {tiny.MODELS[name].model().config.model_type for name in TEXT}
    assert tried == {kind for kind, how in forms.DRAWN.items() if how == forms.LANGUAGE}


def test_clip_s_towers_answer_apart(tmp_path: Path) -> None:
    need("onnxruntime")
    made, batch = loaded("clip")
    drawn(tmp_path, made)
    with torch.no_grad():
        wanted = made.library(**batch)
    words = {name: batch[name].numpy() for name in ("input_ids", "attention_mask")}
    texts = session(tmp_path, "text_model").run(None, words)[0]
    shown = session(tmp_path, "vision_model").run(None, {"pixel_values": batch["pixel_values"].numpy()})[0]
    assert np.allclose(texts, wanted.text_embeds, atol=1e-5)
    assert np.allclose(shown, wanted.image_embeds, atol=1e-5)
    assert np.abs(texts).max() < 1
