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
PLAIN = (nn.Linear, nn.Conv2d, nn.Conv3d)


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


def followed(model: PreTrainedModel, batch: Batch, more: Tensor) -> Batch:
    """The batch with ``more`` words behind each row, of the type that the family gives to what is said."""
    longer = {**batch, "input_ids": torch.cat([batch["input_ids"], more], 1)}
    longer["attention_mask"] = torch.cat([batch["attention_mask"], torch.ones_like(more)], 1)
    if "token_type_ids" in batch:
        kind = int(model.config.model_type == "paligemma")
        longer["token_type_ids"] = torch.cat([batch["token_type_ids"], torch.full_like(more, kind)], 1)
    if "mm_token_type_ids" in batch:
        longer["mm_token_type_ids"] = torch.cat([batch["mm_token_type_ids"], torch.zeros_like(more)], 1)
    longer.pop("position_ids", None)
    return longer


def one_picture_fewer(batch: Batch) -> Batch:
    """The same words without the last picture, which is its row's only one; of rows of pictures the first becomes
    padding."""
    pixels = batch["pixel_values"]
    if pixels.ndim == 2:  # patches of all pictures, one after another: one patch fewer
        return {**batch, "pixel_values": pixels[1:]}
    if pixels.ndim == 4 or "image_sizes" in batch:
        apiece = ("pixel_values", "image_sizes", "batch_num_images")
        return {**batch, **{name: batch[name][:-1] for name in apiece if name in batch}}
    pixels = pixels.clone()
    pixels[0, 0] = 0
    return {**batch, "pixel_values": pixels}


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


def plain_linears(model: nn.Module) -> dict[str, tuple[Tensor, Tensor | None]]:
    """(weight, bias) of every linear map of a model as the library made it: linear layers, patch convolutions, the
    parts of a fused attention, and matrices that a forward multiplies by."""
    found: dict[str, tuple[Tensor, Tensor | None]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
            for part, weight, bias in zip("qkv", weights, biases, strict=True):
                found[f"{name}.{part}_proj"] = weight, bias
        elif hasattr(module, "mm_input_projection_weight"):
            found[f"{name}.mm_input_projection"] = module.mm_input_projection_weight.T, None
        elif isinstance(module, PLAIN):
            found[name] = module.weight.flatten(1), module.bias
    return found


@dataclass(frozen=True)
class Drop:
    """A policy by list: tokens ``gone[row]`` (indices in the original sequence) do not enter ``layer``, of any kind."""

    gone: tuple[frozenset[int], ...]
    layer: int
    act: ClassVar[Act] = "drop"
    idle: ClassVar[bool] = False

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


def mask_of(name: str, batch: Batch) -> Tensor | None:
    """Where a batch has words and no padding, if it says so."""
    return batch.get("attention_mask" if name == "builtin" else tiny.MODELS[name].mask)


def decoder_of(model: PreTrainedModel) -> nn.Module:
    base = model.base_model
    inside = getattr(base, "text_model", getattr(base, "decoder", base))
    return getattr(base, "language_model", inside)


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


@dataclass(frozen=True)
class Entering:
    """What the library's stack is given beside the embeddings: ``grid`` (3, b, t) where rotary angles follow one, and
    for each of the first layers what is added behind it, (b, t, d)."""

    grid: Tensor | None
    deep: tuple[Tensor, ...]


def entering(model: PreTrainedModel, batch: Batch, said: Tensor | None = None) -> Entering:
    """The library's own, for the prompt; words that follow go on from the furthest place of all."""
    caught: list[dict[str, Tensor]] = []
    hook = decoder_of(model).register_forward_pre_hook(lambda _, args, given: caught.append(given), with_kwargs=True)
    model(**batch)
    hook.remove()
    grid, here = caught[0].get("position_ids"), caught[0].get("visual_pos_masks")
    later = 0 if said is None else said.shape[1]
    if grid is None or grid.ndim == 2:
        return Entering(None, ())
    after = grid.amax((0, 2))[:, None] + 1 + torch.arange(later)
    deep = []
    for found in caught[0].get("deepstack_visual_embeds") or []:
        added = torch.zeros(*grid.shape[1:], found.shape[1])
        added[here] = found
        deep.append(torch.cat([added, torch.zeros(len(added), later, found.shape[1])], 1))
    return Entering(torch.cat([grid, after.expand(3, -1, -1)], 2), tuple(deep))


def spoken(model: PreTrainedModel, batch: Batch, said: Tensor, where: Tensor) -> Tensor:
    """What enters the first layer for words that follow the prompt, at the places ``where``."""
    stack = decoder_of(model)
    if hasattr(stack, "embed_tokens") and not hasattr(stack, "embed_positions"):
        return stack.embed_tokens(said)
    return embedded(model, {"input_ids": said, **({"position_ids": where} if "position_ids" in batch else {})})


def slow(model: PreTrainedModel, batch: Batch, drops: Iterable[Drop], said: Tensor | None = None) -> Tensor:
    """Logits of the full-length computation where nobody sees a dropped token from its layer on.

    The library's layers with a mask per layer, written out element by element from indices. ``said`` (b, n): tokens
    that follow the prompt, as text.
    """
    stack, drops = decoder_of(model), list(drops)
    x, mask, blocks = embedded(model, batch), batch["attention_mask"], blocks_of(model, batch)
    mask = mask if said is None else torch.cat([mask, torch.ones_like(said)], 1)
    where, given = positions(mask), entering(model, batch, said)
    if said is not None and said.shape[1]:
        x = torch.cat([x, spoken(model, batch, said, where[:, x.shape[1] :])], 1)
        blocks = [row + [-1] * said.shape[1] for row in blocks]
    places = where if given.grid is None else given.grid
    for index, layer in enumerate(stack.layers):
        gone = [drop.gone for drop in drops if drop.layer <= index]
        rule = Rule(window_of(model, index), model.config.model_type == "gemma3")
        seen = element_mask(mask.tolist(), gone, blocks, rule)
        if stack.config._attn_implementation == "eager":  # it adds its mask
            seen = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        x = layer(
            x,
            attention_mask=seen,
            position_embeddings=angles(stack, x, places, index),
            position_ids=where,
        )
        x = x + given.deep[index] if index < len(given.deep) else x
    return headed(model, x)


def headed(model: PreTrainedModel, x: Tensor) -> Tensor:
    """The logits of what left the last layer."""
    stack = decoder_of(model)
    for name in ("norm", "final_layernorm", "final_layer_norm", "project_out"):
        behind = getattr(stack, name, None)
        x = x if behind is None else behind(x)
    logits: Tensor = model.lm_head(x)
    cap = None if model.config.model_type == "gemma3" else getattr(stack.config, "final_logit_softcapping", None)
    return logits if cap is None else (logits / cap).tanh() * cap


def blocks_of(model: PreTrainedModel, batch: Batch) -> list[list[int]]:
    """The number of each token's block, -1 for none: pictures by themselves (Gemma 3), or the prefix (PaliGemma)."""
    types = batch.get("token_type_ids")
    if types is None:
        return [[-1] * batch["input_ids"].shape[1] for _ in batch["input_ids"]]
    if model.config.model_type == "paligemma":
        return [[0 if kind == 0 else -1 for kind in row] for row in types.tolist()]
    found = []
    for row in types.tolist():
        number, before, blocks = -1, 0, []
        for kind in row:
            number += int(kind == 1 and before != 1)
            blocks.append(number if kind == 1 else -1)
            before = kind
        found.append(blocks)
    return found


@dataclass(frozen=True)
class Rule:
    """``window`` of a layer or None; ``bounded``: what a block shows of itself ends at the window too."""

    window: int | None
    bounded: bool = False

    def shows(self, query: int, key: int, same: bool) -> bool:
        near = self.window is None or query - key < self.window
        if self.bounded:
            return (key <= query or same) and near
        return (key <= query and near) or same


def window_of(model: PreTrainedModel, index: int) -> int | None:
    config = model.config.get_text_config()
    if config.model_type in ("mistral", "phi3"):
        return config.sliding_window
    kinds = getattr(config, "layer_types", None)
    return config.sliding_window if kinds and kinds[index] == "sliding_attention" else None


def angles(stack: nn.Module, x: Tensor, where: Tensor, index: int) -> tuple[Tensor, Tensor] | None:
    if not hasattr(stack, "rotary_emb"):
        return None
    if stack.config.model_type == "gemma3_text":
        return stack.rotary_emb(x, where, stack.config.layer_types[index])
    return stack.rotary_emb(x, where)


def element_mask(
    mask: list[list[int]], gone: list[tuple[frozenset[int], ...]], blocks: list[list[int]], rule: Rule
) -> Tensor:
    rows = []
    for row, valid in enumerate(mask):
        shown = [bool(v) and not any(key in drop[row] for drop in gone) for key, v in enumerate(valid)]
        length, block = range(len(valid)), blocks[row]
        # what is seen at dropped and padding queries does not matter, so each sees itself
        rows.append(
            [[q == k or (shown[k] and rule.shows(q, k, block[q] == block[k] >= 0)) for k in length] for q in length]
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
