"""GGUF with k-quants, as ``--k-quants`` asks for: smaller, and the weights no longer the artifact's to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trimtab.core.linear import Host
from trimtab.core.weight import Dense, Quantized, Weight
from trimtab.export import gguf
from trimtab.export.forms import recast
from trimtab.export.gguf.kquant import WIDE, KQuant, grid_for
from trimtab.export.gguf.kround import fit
from trimtab.load.artifact import hosts
from trimtab.load.loaded import Loaded


class KQuants:
    """The writer of ``trimtab.export.gguf``, with matrices of ``loaded`` on k-quants where those take less room.

    What cannot leave must be refused before: rounding takes its time.
    """

    ENGINE = gguf.ENGINE

    def __init__(self, loaded: Loaded) -> None:
        inner = set(recast(loaded))  # these leave dense
        weights = {id(host.w): host.w for name, host in hosts(loaded.anatomy) if name not in inner}
        self.codes = {key: w for key, w in weights.items() if isinstance(w, Quantized)}
        grids = {key: grid_for(w) for key, w in self.codes.items()}
        self.held: dict[int, KQuant] = {
            key: fit(self.codes[key], grid) for key, grid in grids.items() if grid is not None
        }

    def refuse(self, loaded: Loaded) -> None:
        """As the format itself."""
        gguf.refuse(loaded)

    def write(self, loaded: Loaded, folder: Path) -> None:
        """The same files."""
        gguf.write(loaded, folder, self.held)

    def notes(self, loaded: Loaded) -> Sequence[str]:
        """How many matrices are on k-quants; then what the format says, with how far from the artifact's those are."""
        return [
            f"k-quants: {len(self.held)} of {len(self.codes)} quantized matrices; the others are no smaller there, or "
            f"have rows that {WIDE} does not divide or levels that none holds",
            *gguf.notes(loaded, self.held),
        ]

    def instead(self, loaded: Loaded) -> list[tuple[Host, Weight]]:
        """Put what is written, dense, in the place of what was rounded. Returns each such host with what it held: none
        where every weight is the artifact's after all."""
        off = {key: w for key, w in self.held.items() if w.off}
        before = [(host, host.w) for _, host in hosts(loaded.anatomy) if id(host.w) in off]
        made = {id(w): Dense(off[id(w)].dense(w.dtype)) for _, w in before}
        for host, w in before:
            host.w = made[id(w)]
        return before
