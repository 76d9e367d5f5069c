"""An adapter that was trained elsewhere: a PEFT folder (LoRA, rsLoRA, DoRA) put beside the matrices it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from trimtab.adapt.peft import Adapter, read
from trimtab.core.card import Card


@dataclass(frozen=True)
class LoadAdapter:
    """``path``: the folder with ``adapter_config.json``."""

    path: str

    CARD: ClassVar[Card] = Card(
        name="load_adapter",
        family="adapt",
        title="LoRA: Low-Rank Adaptation of Large Language Models",
        year=2021,
        where="ICLR 2022, arXiv 2106.09685",
        saves="none",
        establishes=("adapter",),
        preserves=("on_grid", "masked", "low_rank", "adapter", "tokens_kept", "cache_kept"),
        departures="DoRA's m / ||W + s B A|| is computed once, on the base as it is here (quantized, say), and kept as "
        "one factor for each row.",
    )

    def check(self, width: int) -> None:
        """Raises ValueError without a folder's name."""
        if not self.path:
            raise ValueError("path: got ''; accepted: a PEFT folder")

    def adapters(self) -> dict[str, Adapter]:
        """What the folder holds. Raises BadInput and Refused as ``peft.read`` does."""
        return read(Path(self.path).expanduser())
