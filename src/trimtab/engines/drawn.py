"""An artifact by torch.compile: prompts as the library has them, words by the compiled forward with a static cache.

torch's packed kernels stand for quantized products, since what torch compiles cannot look into ours.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import StaticCache

from trimtab.engines.library import Library

ROOM = 512
"""Tokens for which there is room at least: a cache of another size is compiled anew."""


def open_session(path: Path) -> Library:
    from trimtab.load.artifact import read
    from trimtab.runtime.lower import lower

    model = read(path, lowered=False).library
    lower(model, compiled=False)
    word = torch.compile(model.forward, dynamic=False)
    return Library(model, word, lambda room: StaticCache(config=model.config, max_cache_len=max(room, ROOM)))
