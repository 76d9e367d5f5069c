"""How much the loss of a model's answers turns on the hidden states of its decoder, by block and kind of token.

With h what leaves a block, (tokens, d), and g = dL/dh, the mean over the tokens of a kind and over d of |g| and of g^2.
L is, for each sample, the sum of -log p over its answer's tokens, or over all tokens of a text: that of a sample does
not depend on the batch it stands in. MBQ (Li et al. 2024, arXiv 2412.19509, section 3.2) weighs kinds by |g|; what g^2
weighs is a squared error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.stats import IMAGE, KINDS, TEXT


@dataclass(frozen=True)
class Sensitivity:
    """``blocks``: the decoder's blocks by module path, in order. ``absolute`` and ``square``, (blocks + 1, kinds): row
    0 is what enters the first block, row i + 1 what leaves block i; 0 for a kind that was not seen. ``seen``: tokens of
    each kind, padding left out."""

    blocks: tuple[str, ...]
    absolute: Float[Tensor, "points kinds"]
    square: Float[Tensor, "points kinds"]
    seen: tuple[int, ...]

    def block(self, name: str) -> int | None:
        """Which block has the module path ``name``, or holds the layer of that name; None outside the decoder."""
        found = (i for i, path in enumerate(self.blocks) if name == path or name.startswith(f"{path}."))
        return next(found, None)

    def output(self, index: int) -> dict[str, tuple[float, float]]:
        """By kind that was seen, the mean |g| and the mean g^2 of what leaves block ``index``."""
        both = zip(KINDS, self.absolute[index + 1].tolist(), self.square[index + 1].tolist(), self.seen, strict=True)
        return {kind: (size, squared) for kind, size, squared, count in both if count}

    def ratio(self, name: str, kind: int = IMAGE) -> float:
        """r = mean |g| over the tokens of ``kind`` / mean |g| over text, at the output of the block ``name`` (or that
        holds it). 1 outside the decoder, and where either kind was not seen.

        Of the last block only the words before an answer are read, so that r would be 0 there, although its keys and
        values of every token count: r is the one at its input.
        """
        index = self.block(name)
        if index is None or not self.seen[kind] or not self.seen[TEXT]:
            return 1.0
        sizes = self.absolute[min(index + 1, len(self.blocks) - 1)]
        return float(sizes[kind] / sizes[TEXT])

    def weights(self, name: str) -> Float[Tensor, " kinds"]:
        """What a token of each kind counts in the block ``name`` (or that holds it): 1 for text, r for the others."""
        return torch.tensor([self.ratio(name, kind) for kind in range(len(KINDS))])

    def row(self) -> dict[str, Any]:
        """Plain data for a journal; ``of`` reads it back."""
        return {"blocks": list(self.blocks), "absolute": self.absolute.tolist(), "square": self.square.tolist(),
                "seen": list(self.seen)}  # fmt: skip

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Sensitivity:
        """From plain data."""
        absolute, square = (torch.tensor(row[key], dtype=torch.float64) for key in ("absolute", "square"))
        return cls(tuple(row["blocks"]), absolute, square, tuple(row["seen"]))
