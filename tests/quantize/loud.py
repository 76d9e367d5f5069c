"""Models at random weights of which a few channels are loud, and what they are calibrated on."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trimtab.anatomy import tiny
from trimtab.anatomy.tiny.base import padded, row

LOUD, GAIN = [3, 13, 27], 4.0
"""Channels that only pictures use, and how loud they are there."""
SAID, ROWS, PICTURES = 8, 8, 3


@torch.no_grad()
def toy(seed: int) -> PreTrainedModel:
    """A LLaVA at random weights: pictures are loud in channels that words never have, and words hardly listen."""
    model, _ = tiny.make("llava", seed=seed)
    out, language = model.model.multi_modal_projector.linear_2, model.model.language_model
    gain = torch.full((len(out.weight),), 0.1).index_fill(0, torch.tensor(LOUD), GAIN)
    out.weight.mul_(gain[:, None])
    out.bias.mul_(gain)
    language.embed_tokens.weight[:, LOUD] = 0
    for layer in language.layers:
        layer.self_attn.o_proj.weight[LOUD] = 0
        layer.mlp.down_proj.weight[LOUD] = 0
        layer.self_attn.k_proj.weight[:, LOUD] *= 0.1
        layer.self_attn.v_proj.weight[:, LOUD] *= 0.1
    return model


@torch.no_grad()
def told(model: PreTrainedModel, seed: int) -> dict[str, Tensor]:
    """Pictures, and behind a few words a text that the model itself says, drawn word by word."""
    torch.manual_seed(seed)
    batch = padded([row(SAID + 2, [tiny.PATCHES] * PICTURES) for _ in range(ROWS)], "left")
    batch["pixel_values"] = torch.randn(ROWS * PICTURES, 3, 12, 12)
    for at in range(batch["input_ids"].shape[1] - SAID, batch["input_ids"].shape[1]):
        logits = model(**batch).logits[:, at - 1]
        logits[:, tiny.IMAGE_TOKEN] = -torch.inf
        batch["input_ids"][:, at] = logits.softmax(-1).multinomial(1)[:, 0]
    return batch


def labels(batch: dict[str, Tensor]) -> Tensor:
    found = torch.full_like(batch["input_ids"], -1)
    found[:, -SAID - 1 : -1] = batch["input_ids"][:, -SAID:]
    return found


@torch.no_grad()
def outliers(name: str, seed: int) -> PreTrainedModel:
    """A tiny model of the family: in every layer of its decoder the norms make three inputs 30 times as large."""
    model, _ = tiny.make(name, seed=seed)
    for path, module in model.named_modules():
        if path.endswith(("input_layernorm", "post_attention_layernorm")):
            module.weight[LOUD] *= 30
    return model


def batches(name: str, model: PreTrainedModel, seed: int) -> list[dict[str, Tensor]]:
    """Six of the family's own, with pictures where it sees."""
    torch.manual_seed(seed)
    return [tiny.batch(name, model) for _ in range(6)]
