"""A folder of graphs asked row by row, whatever engine runs them: words and pictures in, a prompt in two parts.

Every prompt is padded on the left and cut in two, so that mask, positions and cache of the graphs are checked too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PADDING = 3
Row = dict[str, Any]
Run = Callable[[str, Row], Row]
"""Name of a graph and its inputs -> its outputs by name."""
Decode = Callable[[str, "Iterator[Part]"], list[Any]]
"""Name of a graph and the parts of a prompt -> logits of each; the cache goes from part to part."""


class Part(NamedTuple):
    """``first``: ``input_ids`` or ``inputs_embeds`` (1, n); ``mask`` (1, past + n); ``positions`` (1, n)."""

    first: Row
    mask: Any
    positions: Any


def asked(folder: Path, names: set[str], run: Run, decode: Decode) -> Callable[[Row], Any]:
    """How ``teacher`` asks such a folder, whose graphs are ``names``."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    image = config.get("image_token_id", config.get("image_token_index"))

    def language(row: Row) -> Any:
        ids, mask = (np.pad(row[name], ((0, 0), (PADDING, 0))) for name in ("input_ids", "attention_mask"))
        first = {"input_ids": ids}
        if "embed_tokens" in names:
            vectors = run("embed_tokens", first)["inputs_embeds"].copy()
            if "pixel_values" in row:
                shown = run("vision_encoder", {"pixel_values": row["pixel_values"]})["image_features"]
                vectors[ids == image] = shown.reshape(-1, shown.shape[-1])
            first = {"inputs_embeds": vectors}
        name = "decoder" if "decoder" in names else "model"
        return np.concatenate(decode(name, parts(first, mask)), 1)[0, PADDING:]

    def encoder(row: Row) -> Any:
        types = row.get("token_type_ids", np.zeros_like(row["input_ids"]))
        words = {name: row[name] for name in ("input_ids", "attention_mask")} | {"token_type_ids": types}
        padded = {name: np.pad(value, ((0, 0), (0, PADDING))) for name, value in words.items()}
        return run("model", padded)["last_hidden_state"][0, : words["input_ids"].shape[1]]

    def towers(row: Row) -> Any:
        words = {name: row[name] for name in ("input_ids", "attention_mask")}
        texts = run("text_model", words)["text_embeds"]
        return np.concatenate([texts, run("vision_model", {"pixel_values": row["pixel_values"]})["image_embeds"]])

    if "text_model" in names:
        return towers
    return encoder if config["model_type"] == "bert" else language


def parts(first: Row, mask: Any) -> Iterator[Part]:
    """A prompt in two parts; positions count the tokens that are no padding."""
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    middle = PADDING + (mask.shape[1] - PADDING + 1) // 2
    for start, stop in ((0, middle), (middle, mask.shape[1])):
        if start < stop:
            yield Part({name: value[:, start:stop] for name, value in first.items()}, mask[:, :stop],
                       positions[:, start:stop])  # fmt: skip
