"""One question to a loaded model, about pictures where it sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from trimtab.data.images import open_image
from trimtab.evaluate.prompt import render, tensors, tokenizer_of


@torch.no_grad()
def ask(loaded: Any, question: str, images: Sequence[str | Path | Image.Image] = (), max_new_tokens: int = 64) -> str:
    """The greedy answer of ``loaded`` (what ``trimtab.load`` gives). Raises BadInput for a file that is no picture, or
    pictures where the model has no eyes."""
    shown = [one if isinstance(one, Image.Image) else open_image(Path(one)) for one in images]
    processor = loaded.processor
    text, special = render(processor, question, len(shown))
    pictures = {"images": [shown]} if shown else {}
    batch = tensors(processor(text=[text], **pictures, add_special_tokens=special, return_token_type_ids=False,
                              return_tensors="pt"))  # fmt: skip
    if "pixel_values" in batch:
        batch["pixel_values"] = batch["pixel_values"].to(loaded.library.dtype)
    words = tokenizer_of(processor)
    pad = words.pad_token_id if words.pad_token_id is not None else words.eos_token_id
    made = loaded.model.generate(**batch, do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, pad_token_id=pad)
    return str(words.decode(made[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)).strip()
