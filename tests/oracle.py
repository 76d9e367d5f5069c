"""What the library itself answers, and a slow reference of token dropping, for the laws of anatomies."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.anatomy import tiny
from trimtab.core.keep import Act, Place, Sight
from trimtab.zoo.make import build

Batch = dict[str, Tensor]
DECODERS = ("builtin", *(name for name, one in tiny.MODELS.items() if one.decodes))
PICTURED = ("builtin", *(name for name, one in tiny.MODELS.items() if one.decodes and one.pictures))
FAMILIES = ("builtin", *tiny.MODELS)


def make(name: str, padding: str = "left") -> tuple[PreTrainedModel, Batch]:
    """A tiny model and its batch with explicit positions; ``builtin`` is the built-in model at random weights."""
    if name == "builtin":
        words = SimpleNamespace(
            pad_token_id=0, bos_token_id=1, eos_token_id=2, convert_tokens_to_ids={build.IMAGE: 3}.__getitem__
        )
        model, batch = build.model(words).eval(), _builtin_batch(padding)
    else:
        model, batch = tiny.make(name, padding)
    if name == "builtin" or (tiny.MODELS[name].decodes and tiny.MODELS[name].positions):
        batch["position_ids"] = positions(batch["attention_mask"])
    return model, batch


def _builtin_batch(padding: str) -> Batch:
    rows = [[1, *[3] * 256, 50, 60, 70, 80, 90], [1, *range(100, 120)], [1, 8, *[3] * 256, *range(40, 49)]]
    longest = max(map(len, rows))
    ids, mask = torch.zeros(3, longest, dtype=torch.long), torch.zeros(3, longest, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(longest - len(row), longest) if padding == "left" else slice(0, len(row))
        ids[i, where], mask[i, where] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(2, 3, 128, 128)}


def positions(mask: Tensor) -> Tensor:
    """The running number of valid tokens, as ``generate`` counts, written as a loop."""
    found = torch.zeros_like(mask)
    for row in range(mask.shape[0]):
        count = 0
        for column in range(mask.shape[1]):
            if mask[row, column]:
                found[row, column], count = count, count + 1
    return found


def cut(batch: Batch, columns: slice) -> Batch:
    """The same rows with only these columns of their text; what belongs to pictures stays whole."""
    text = batch["input_ids"].shape
    return {key: value[:, columns] if value.shape == text else value for key, value in batch.items()}


def without_pictures(batch: Batch, rows: slice) -> Batch:
    """The words of some rows."""
    text = batch["input_ids"].shape
    return {key: value[rows] for key, value in batch.items() if value.shape == text}


def untouched(model: PreTrainedModel) -> PreTrainedModel:
    """A copy that no anatomy will change."""
    return copy.deepcopy(model)


def library(name: str, model: PreTrainedModel, batch: Batch) -> Tensor:
    """The answer of the library's forward with which the loop's is compared."""
    answer: Tensor = getattr(model(**batch), "logits" if name == "builtin" else tiny.MODELS[name].answer)
    return answer


def close(found: Tensor, wanted: Tensor, share: float = 1e-5) -> None:
    """Greatest difference at most ``share`` of the greatest wanted value."""
    assert found.shape == wanted.shape
    error, scale = float((found - wanted).abs().max()), float(wanted.abs().max())
    assert error <= share * scale, f"error {error:.3g} of {scale:.3g}: {error / scale:.3g} > {share:g}"


def plain_linears(model: nn.Module) -> list[str]:
    """Every linear layer and patch convolution of a model as the library made it."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]


@dataclass(frozen=True)
class Drop:
    """A policy by list: tokens ``gone[row]`` (indices in the original sequence) do not enter ``layer``, of any kind."""

    gone: tuple[frozenset[int], ...]
    layer: int
    act: ClassVar[Act] = "drop"

    @property
    def at(self) -> Place:
        return Place(layer=self.layer)

    def chosen(self, sight: Sight) -> Tensor:
        rows = [[int(i) not in gone for i in row] for row, gone in zip(sight.stream.source, self.gone, strict=True)]
        return torch.tensor(rows) & sight.stream.valid


def random_drop(batch: Batch, layer: int, seed: int = 0, share: float = 0.5) -> Drop:
    """About ``share`` of each row's valid tokens, any but the last."""
    generator = torch.Generator().manual_seed(seed)
    gone = []
    for mask in batch["attention_mask"]:
        valid = mask.nonzero()[:-1, 0].tolist()
        gone.append(frozenset(i for i in valid if float(torch.rand((), generator=generator)) < share))
    return Drop(tuple(gone), layer)


def decoder_of(model: PreTrainedModel) -> nn.Module:
    return getattr(model.model, "language_model", model.model)


def embedded(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The library's own input to its first decoder layer."""
    caught: list[Tensor] = []
    hook = (
        decoder_of(model)
        .layers[0]
        .register_forward_pre_hook(
            lambda _, args, kwargs: caught.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
    )
    model(**batch)
    hook.remove()
    return caught[0]


def slow(model: PreTrainedModel, batch: Batch, drops: Iterable[Drop], said: Tensor | None = None) -> Tensor:
    """Logits of the full-length computation where nobody sees a dropped token from its layer on.

    The library's layers with a mask per layer, written out element by element from indices. ``said`` (b, n): tokens
    that follow the prompt, as text.
    """
    stack, drops = decoder_of(model), list(drops)
    x, mask = embedded(model, batch), batch["attention_mask"]
    if said is not None:
        x, mask = torch.cat([x, stack.embed_tokens(said)], 1), torch.cat([mask, torch.ones_like(said)], 1)
    where = positions(mask)
    for index, layer in enumerate(stack.layers):
        gone = [drop.gone for drop in drops if drop.layer <= index]
        x = layer(
            x,
            attention_mask=element_mask(mask.tolist(), gone, window_of(model, index)),
            position_embeddings=angles(stack, x, where, index),
            position_ids=where,
        )
    return headed(model, x)


def headed(model: PreTrainedModel, x: Tensor) -> Tensor:
    """The logits of what left the last layer."""
    logits: Tensor = model.lm_head(decoder_of(model).norm(x))
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else (logits / cap).tanh() * cap


def window_of(model: PreTrainedModel, index: int) -> int | None:
    config = model.config.get_text_config()
    if config.model_type == "mistral":
        return config.sliding_window
    kinds = getattr(config, "layer_types", None)
    return config.sliding_window if kinds and kinds[index] == "sliding_attention" else None


def angles(stack: nn.Module, x: Tensor, where: Tensor, index: int) -> tuple[Tensor, Tensor]:
    if stack.config.model_type == "gemma3_text":
        return stack.rotary_emb(x, where, stack.config.layer_types[index])
    return stack.rotary_emb(x, where)


def element_mask(mask: list[list[int]], gone: list[tuple[frozenset[int], ...]], window: int | None) -> Tensor:
    rows = []
    for row, valid in enumerate(mask):
        shown = [bool(v) and not any(key in drop[row] for drop in gone) for key, v in enumerate(valid)]
        length = range(len(valid))
        # what is seen at dropped and padding queries does not matter, so each sees itself
        rows.append(
            [[q == k or (k <= q and shown[k] and (window is None or q - k < window)) for k in length] for q in length]
        )
    return torch.tensor(rows)[:, None]


def slow_greedy(model: PreTrainedModel, batch: Batch, drops: list[Drop], steps: int, end: int, pad: int) -> Tensor:
    """Greedy decoding by the slow reference, the whole sequence anew for every token."""
    said = batch["input_ids"][:, :0]
    unfinished = torch.ones(len(said), dtype=torch.bool)
    for _ in range(steps):
        best = torch.where(unfinished, slow(model, batch, drops, said)[:, -1].argmax(-1), pad)
        unfinished &= best != end
        said = torch.cat([said, best[:, None]], 1)
        if not unfinished.any():
            break
    return torch.cat([batch["input_ids"], said], 1)


def taps(linears: Iterable[tuple[str, nn.Module]], call: Callable[[], object]) -> list[tuple[str, Tensor]]:
    """(name, input) of each linear that ``call`` runs, in order."""
    found: list[tuple[str, Tensor]] = []
    linears = list(linears)
    for _, host in linears:
        host.tap = lambda host, x: found.append((host.name, x))
    call()
    for _, host in linears:
        host.tap = None
    return found
