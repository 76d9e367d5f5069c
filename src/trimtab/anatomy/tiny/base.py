"""What every tiny model is made of: sizes, awkward weights, rows of words padded on either side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Batch = dict[str, Tensor]
Padding = Literal["left", "right"]
VOCABULARY, IMAGE_TOKEN, END, PAD = 96, 95, 2, 0
LENGTHS = (7, 14, 5, 11)
"""Words of each row of a batch."""
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
    "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": END,
}  # fmt: skip


@dataclass(frozen=True)
class Tiny:
    """``model`` at the library's own weights, and ``batch(model, padding)`` for it.

    ``answer``: what of the library's output the loop's is compared with. ``decodes``: it generates text. ``pictures``:
    its batches hold some. ``positions``: its forward takes explicit ``position_ids`` (b, t). ``mask``: what its batches
    call the mask over what is answered.
    """

    model: Callable[[], PreTrainedModel]
    batch: Callable[[PreTrainedModel, Padding], Batch]
    answer: str = "logits"
    decodes: bool = True
    pictures: bool = False
    positions: bool = True
    mask: str = "attention_mask"


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Matrices of about unit gain; biases, norms and positions well away from 0 and 1, so that a lost mask, norm, bias
    or scale shows in the logits."""
    for value in model.parameters():
        if value.ndim >= 2:
            value.normal_(std=1.5 * (value[0].numel() ** -0.5))
        elif value.ndim == 1:
            value.add_(0.3 * torch.randn_like(value))


def words(length: int) -> list[int]:
    """Random words that are no special token."""
    return torch.randint(3, VOCABULARY - 1, (length,)).tolist()


def row(length: int, pictures: Sequence[int] = (), image: int = IMAGE_TOKEN) -> list[int]:
    """The start token, for each picture its number of placeholders and a word, then ``length`` words."""
    after, made = words(length), [1]
    for placeholders in pictures:
        made += [image] * placeholders + after[:1]
    return made + after


def padded(rows: Sequence[Sequence[int]], padding: Padding) -> Batch:
    """``input_ids`` and ``attention_mask`` of rows of different lengths."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros_like(ids)
    for i, one in enumerate(rows):
        where = slice(longest - len(one), longest) if padding == "left" else slice(0, len(one))
        ids[i, where], mask[i, where] = torch.tensor(one), 1
    return {"input_ids": ids, "attention_mask": mask}


def text_batch(model: PreTrainedModel, padding: Padding) -> Batch:
    """Rows of different lengths, of words only."""
    return padded([row(length) for length in LENGTHS], padding)
