"""What a model answers to a few batches, written before the artifact, so that another process can be compared with it.

Of each answer is kept: a hash of all its bits, the greedy tokens, and 16 evenly spaced columns, which say by how much
it differs if it does. Whole logits of a large vocabulary would be larger than the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.files import replacing
from trimtab.core.linear import Linear
from trimtab.load import tensors

COLUMNS = 16
DECODED = 4  # greedy tokens, where a cache policy decides what they see
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Conditions:
    """How the samples were recorded. ``private``: they come from the user's own data and stay out of artifacts."""

    count: int
    threads: int
    lowered: bool
    private: bool


@dataclass(frozen=True)
class Difference:
    """How an answer differs from what was recorded; ``size`` is over the kept columns, None where shapes differ."""

    batch: int
    output: str
    size: float | None
    tokens: float
    reason: str


@torch.no_grad()
def answers(model: Any, batch: Batch) -> dict[str, Tensor]:
    """The logits of a batch, and those of a few more tokens where a cache policy shows only there; for a model without
    logits, every tensor that it answers with."""
    if getattr(model, "cached", False):
        return _decoded(model, batch)
    found = model(**batch)
    if getattr(found, "logits", None) is not None:
        return {"logits": found.logits}
    return {name: value for name, value in found.items() if isinstance(value, Tensor) and value.is_floating_point()}


def _decoded(model: Any, batch: Batch) -> dict[str, Tensor]:
    found = model(**batch, use_cache=True)
    logits, mask, later = found.logits, batch["attention_mask"], []
    for _ in range(DECODED):
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        token = found.logits[:, -1:].nan_to_num(0).argmax(-1)
        found = model(input_ids=token, attention_mask=mask, past_key_values=found.past_key_values, use_cache=True)
        later.append(found.logits)
    return {"logits": logits, "decoded": torch.cat(later, 1)}


def is_lowered(model: nn.Module) -> bool:
    """Whether a plan runs the decoder, or any linear is on one of the runtime's kernels."""
    return getattr(model, "engine", None) is not None or any(
        isinstance(module, Linear) and module.kernel is not None for module in model.modules()
    )


def record(model: Any, batches: Iterable[Batch], path: Path, *, private: bool = True) -> Path:
    """Write the samples to ``path``. Raises Anomaly for an answer that is not finite; a model with token policies
    answers NaN at dropped tokens, but not for a whole row."""
    stored: dict[str, Tensor] = {}
    count = 0
    for count, batch in enumerate(batches, 1):
        for name, value in batch.items():
            stored[f"{count - 1}.in.{name}"] = value
        for name, value in answers(model, batch).items():
            unknown = value.isnan() if isinstance(model, PreTrainedModel) else value.isnan().flatten(1).all(1)
            if bool(value.isinf().any() | unknown.any()):
                raise Anomaly(f"gate sample {count - 1}: {name} is not finite")
            for key, kept in _kept(value).items():
                stored[f"{count - 1}.out.{name}.{key}"] = kept
    if not count:
        raise BadInput("gate samples: got no batch; accepted: at least one")
    conditions = Conditions(count, torch.get_num_threads(), is_lowered(model), private)
    with replacing(path) as temporary:
        tensors.save(temporary, stored, json.dumps(asdict(conditions), sort_keys=True))
    return path


def conditions(path: Path) -> Conditions:
    """How the samples in ``path`` were recorded. Raises BadInput where it holds none."""
    try:
        return Conditions(**json.loads(tensors.metadata(path)))
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path}: not a file of gate samples") from error


def compare(model: Any, path: Path) -> list[Difference]:
    """Every answer that is not the recorded one bit for bit, NaN where it was NaN included."""
    stored = tensors.load(path)
    found = []
    for number in range(conditions(path).count):
        start = f"{number}.in."
        batch = {name.removeprefix(start): value for name, value in stored.items() if name.startswith(start)}
        given = answers(model, batch)
        expected = {name.split(".")[2] for name in stored if name.startswith(f"{number}.out.")}
        for name in sorted(expected | set(given)):
            if name not in given or name not in expected:
                found.append(Difference(number, name, None, 0.0, "the model answers with other tensors"))
                continue
            row = _difference(number, name, given[name], stored)
            found += [row] if row else []
    return found


def _difference(number: int, name: str, value: Tensor, stored: Mapping[str, Tensor]) -> Difference | None:
    before = {key: stored[f"{number}.out.{name}.{key}"] for key in ("digest", "greedy", "columns")}
    now = _kept(value)
    if torch.equal(now["digest"], before["digest"]):
        return None
    if now["columns"].shape != before["columns"].shape:
        return Difference(number, name, None, 0.0, f"shape {list(value.shape)}")
    same = float((now["greedy"] == before["greedy"]).float().mean())
    if not torch.equal(now["columns"].isnan(), before["columns"].isnan()):
        return Difference(number, name, None, same, "NaN (dropped tokens) at other places")
    size = float((now["columns"] - before["columns"]).abs().nan_to_num(0).max())
    return Difference(number, name, size, same, f"differs by up to {size:.3g} in {COLUMNS} columns")


def _kept(value: Tensor) -> dict[str, Tensor]:
    """``digest`` of dtype, shape and all bits (every NaN as one), ``greedy`` token by place, some ``columns``."""
    one = torch.where(value.isnan(), torch.full_like(value, torch.nan), value).contiguous()
    head = f"{value.dtype}{list(value.shape)}".encode()
    digest = hashlib.sha256(head + one.view(torch.uint8).numpy().tobytes()).digest()
    flat = one.flatten(0, -2) if one.ndim > 1 else one[None]
    places = torch.linspace(0, flat.shape[-1] - 1, COLUMNS).round().long()
    return {
        "digest": torch.tensor(list(digest), dtype=torch.uint8),
        "greedy": flat.nan_to_num(0).argmax(-1).int(),
        "columns": flat[:, places].float(),
    }
