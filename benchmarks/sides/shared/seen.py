"""A prompt with pictures as every side is given it: token ids, and a file of pixels as the processor makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def batch_of(asked: dict[str, Any], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    ids = torch.tensor([asked["prompt"]])
    pixels = torch.from_numpy(np.load(asked["pixels"])).to(dtype)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
