"""A plan at work: threads that stay, and room for the rows of a step."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trimtab.core.errors import BadInput
from trimtab.core.native import library
from trimtab.runtime.plan import structs
from trimtab.runtime.plan.build import Plan
from trimtab.runtime.plan.entries import Cache

ROWS = 512
"""Rows of one call; a longer prompt takes several."""


@dataclass(frozen=True)
class Stepped:
    """``logits`` (wanted, words) float32 where they were asked for; ``best`` (wanted,) the likeliest words; ``left``
    (rows, width) float32, as the rows left the last layer, where that was asked for."""

    logits: Float[Tensor, "wanted words"] | None
    best: Integer[Tensor, " wanted"]
    left: Float[Tensor, "rows width"] | None


class Engine:
    """Steps of ``plan``, one at a time whoever asks. Raises MemoryError where there is none."""

    def __init__(self, plan: Plan, threads: int | None = None) -> None:
        native = library()
        assert native is not None
        self.plan, self.native, self.busy = plan, native, Lock()
        state = native.trimtab_decoder_new(ctypes.byref(plan.spec), threads or torch.get_num_threads(), ROWS)
        if not state:
            raise MemoryError("no room for a decoder's rows")
        self.state = ctypes.c_void_p(state)
        self.prompts = True  # whether prompts go by the plan too
        weakref.finalize(self, native.trimtab_decoder_free, self.state)

    def step(
        self,
        cache: Cache,
        given: Integer[Tensor, " rows"] | Float[Tensor, "rows width"],
        positions: Integer[Tensor, " rows"],
        sequences: Integer[Tensor, " rows"],
        *,
        wanted: Tensor | None = None,
        logits: bool = True,
        left: bool = False,
        layers: range | None = None,
    ) -> Stepped:
        """Token ids, or vectors as they enter the first of ``layers`` (by default all): at most ``ROWS`` rows, those of
        a sequence in their order, at ``positions``. ``wanted`` (rows,) bool: whose logits, by default the last row's of
        each call. Raises BadInput for positions that the plan has no angles for."""
        rows, layers = len(given), range(self.plan.count) if layers is None else layers
        if wanted is None:
            wanted = torch.arange(rows) == rows - 1
        if not 1 <= rows <= ROWS:
            raise BadInput(f"rows: got {rows}; accepted: 1 to {ROWS}")
        if not len(positions) == len(sequences) == len(wanted) == rows:
            told = f"{len(positions)}, {len(sequences)} and {len(wanted)}"
            raise BadInput(f"positions, sequences and wanted: got {told}; accepted: one for each of {rows} rows")
        _within("positions", positions, self.plan.angles.most)
        _within("sequences", sequences, len(cache.sequences))
        if given.ndim == 1:
            _within("tokens", given, self.plan.spec.table.out)
        count = int(wanted.sum())
        made = torch.empty(count, self.plan.words, dtype=torch.float32) if logits and count else None
        best = torch.empty(count, dtype=torch.int32)
        out = torch.empty(rows, self.plan.spec.width, dtype=torch.float32) if left else None
        words = given.ndim == 1
        held: dict[str, Any] = {
            "token" if words else "x": given.to(torch.int32 if words else torch.float32).contiguous(),
            "position": positions.to(torch.int32).contiguous(), "sequence": sequences.to(torch.int32).contiguous(),
            "wanted": wanted.to(torch.uint8).contiguous(), "logits": made, "best": best, "left": out,
        }  # fmt: skip
        with self.busy:
            self.plan.reach(int(positions.max()) + 1)
            array = cache.given(sequences, layers)
            step = structs.Step(
                **{name: value.data_ptr() for name, value in held.items() if value is not None},
                slots=ctypes.addressof(array), rows=rows, first=layers.start, last=layers.stop,
            )  # fmt: skip
            if self.native.trimtab_decoder_step(self.state, ctypes.byref(step)):
                raise MemoryError(f"a step of {rows} rows")
            cache.taken()
        return Stepped(made, best, out)


def _within(name: str, values: Tensor, most: int) -> None:
    """Raises BadInput where one is negative or not below ``most``: the library would read past its arrays."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= most:
        raise BadInput(f"{name}: got {low} to {high}; accepted: 0 to {most - 1}")
