"""Another engine's answers beside recorded ones: the arithmetic of every check. NumPy and safetensors, no torch.

A check says how its engine is asked; ``main`` reads the command line and prints one JSON line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

Row = dict[str, Any]
Answer = Callable[[Row], Any]
"""From the inputs of one row (``input_ids`` (1, t), ``attention_mask`` (1, t), others as the processor makes them) to
(t, vocabulary) logits, or (places, width) hidden states."""
RECORDED = ("greedy", "nll", "output")
WORDS = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")


def main(open_folder: Callable[[Path], Answer]) -> None:
    """``FILE FOLDER SAMPLES``: open the folder, answer every row, print what was found."""
    folder, samples = map(Path, sys.argv[1:3])
    found = compare(open_folder(folder), list(rows(load_file(samples))))
    assert "trimtab" not in sys.modules, "the check imported trimtab"
    print(json.dumps(found))


def rows(stored: Row) -> Iterator[Row]:
    """The tensors of each row, by name."""
    numbers = sorted({int(name.partition(".")[0]) for name in stored})
    for number in numbers:
        start = f"{number}."
        yield {name.removeprefix(start): value for name, value in stored.items() if name.startswith(start)}


def compare(answer: Answer, samples: list[Row]) -> Row:
    """Over all positions of all rows: equal greedy tokens and both perplexities, or the least cosine."""
    equal, theirs, ours, cosines = [], [], [], []
    for row in samples:
        given = {name: value[None] if name in WORDS and value.ndim == 1 else value for name, value in row.items()}
        given = {name: value for name, value in given.items() if name not in RECORDED}
        found = np.asarray(answer(given), dtype=np.float64)
        if "output" in row:
            cosines.append(cosine(found, row["output"].astype(np.float64)))
            continue
        ids = row["decoder_input_ids"] if "decoder_input_ids" in row else row["input_ids"]
        assert len(found) == len(ids), f"answers at {len(found)} positions, not at {len(ids)}"
        equal.append(found.argmax(-1) == row["greedy"])
        theirs.append(losses(found[:-1], ids[1:]))
        ours.append(row["nll"].astype(np.float64))
    if cosines:
        least = np.concatenate(cosines)
        return {"tokens": len(least), "cosine": float(least.min())}
    return {
        "tokens": int(sum(map(len, equal))),
        "equal": float(np.concatenate(equal).mean()),
        "perplexity": float(np.exp(np.concatenate(theirs).mean())),
        "reference": float(np.exp(np.concatenate(ours).mean())),
    }


def losses(logits: Any, ids: Any) -> Any:
    """-log softmax(logits)[ids] for each row."""
    top = logits.max(-1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(-1))
    return total - logits[np.arange(len(ids)), ids]


def cosine(left: Any, right: Any) -> Any:
    """Of each pair of rows."""
    assert left.shape == right.shape, f"an answer of shape {left.shape}, not {right.shape}"
    return (left * right).sum(-1) / (np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1))
