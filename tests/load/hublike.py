"""Small models in the layout of a hub repository, and what two models are compared by."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from trimtab.anatomy import tiny
from trimtab.core.fit import Site
from trimtab.load import Loaded, artifact
from trimtab.quantize import RTN
from trimtab.tokens import DivPrune

Batch = dict[str, Tensor]


def repository(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Batch]:
    """A tiny model of the family saved by the library; returns it with a batch."""
    model, batch = tiny.make(name)
    model.to(dtype)
    model.save_pretrained(folder)
    return model, {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}


def words(folder: Path, image: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of 64 whole words in ``folder``; ``image``, one of them, stands for a picture's tokens."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(61))])}
    bare = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left",
        extra_special_tokens={"image_token": image} if image else {},
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer


def state(model: nn.Module) -> dict[str, Tensor]:
    """Every value of a model by name, saved or not."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


@torch.no_grad()
def outputs(model: Any, batch: Batch) -> dict[str, Tensor]:
    """Every tensor that a model answers with."""
    found = model(**batch)
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Equal bit for bit, under the same names."""
    return left.keys() == right.keys() and all(
        torch.equal(left[key].nan_to_num(7.25), right[key].nan_to_num(7.25)) for key in left
    )


def edit_header(path: Path, change: Any) -> None:
    """Rewrite the header of a safetensors file in place with ``change(table)``; the tensors' bytes stay."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    table = json.loads(data[8 : 8 + length])
    change(table)
    head = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


def quantize(loaded: Loaded, group_size: int = 8) -> None:
    """Every linear and the embeddings on a 4-bit grid, a tied pair as one weight; where no group divides a row, the
    whole row is one."""
    made: dict[int, Any] = {}
    for name, host in artifact.hosts(loaded.anatomy):
        old, width = host.w, host.w.shape[1]
        method = RTN(bits=4, group_size=width if width % group_size else group_size)
        made.setdefault(id(old), method(old, Site(name, old.dense)))
        host.w = made[id(old)]


def trim(loaded: Loaded, keep: float | None = 0.5, group_size: int = 64) -> Loaded:
    """Decoder linears and the patch projection on a 4-bit grid; half of the image tokens dropped."""
    method = RTN(bits=4, group_size=group_size)
    for name, host in loaded.anatomy.linears():
        if "language" in name or "patch_embedding" in name:
            host.w = method(host.w, Site(name, host.w.dense))
    loaded.policies = () if keep is None else (DivPrune(keep=keep),)
    return loaded
