"""Accelerators by name: what a data sheet says that they reach, for predictions on machines that are not here.

``accelerators.tsv`` has a row for each: bytes of memory, bytes a second, operations a second dense (two for a
multiplication and its addition; float16 where there is no bfloat16; float32 is float32, never TF32), watts of the whole
board, and ``source``, the sheet that they are from. Among them are the ten of the device table of "Large Vision Models"
(lecture, 2024), under its names too; where its figures are with sparsity, without tensor cores or slips, the note says
so and the row has the data sheet's. These are peaks: nothing that runs reaches them.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib.resources import files

from trimtab.core.errors import BadInput, nearest
from trimtab.measure.roofline import Roof

FILE = "accelerators.tsv"
DTYPES = ("float32", "bfloat16", "int8", "int4")


@dataclass(frozen=True)
class Accelerator:
    """``also``: another name, or "". ``peaks``: operations a second by dtype, of those that it has. ``watts``: None
    where nobody says. ``source``: whose figures these are. ``note``: where a widely told figure differs."""

    name: str
    also: str
    memory: float
    bandwidth: float
    peaks: dict[str, float]
    watts: float | None
    source: str
    note: str

    def roof(self) -> Roof:
        """What bounds an operation there."""
        return Roof(self.name, self.peaks, lambda _: self.bandwidth)


def accelerators() -> tuple[Accelerator, ...]:
    """Every row."""
    text = files("trimtab.measure").joinpath(FILE).read_text(encoding="utf-8")
    return tuple(map(_made, csv.DictReader(io.StringIO(text), delimiter="\t")))


def _made(row: dict[str, str]) -> Accelerator:
    return Accelerator(
        name=row["name"], also=row["also"], memory=float(row["memory"]), bandwidth=float(row["bandwidth"]),
        peaks={dtype: float(row[dtype]) for dtype in DTYPES if row[dtype]},
        watts=float(row["watts"]) if row["watts"] else None, source=row["source"], note=row["note"],
    )  # fmt: skip


def accelerator(name: str) -> Accelerator:
    """The one of that name, or the only one whose name (or other name) has it as words, or else at all; in whatever
    case. Raises BadInput."""
    every = accelerators()
    wanted = name.lower()
    named = [(one, (one.name.lower(), one.also.lower())) for one in every]
    found = [one for one, names in named if wanted in names]
    found = found or [one for one, names in named if any(f" {wanted} " in f" {each} " for each in names)]
    found = found or [one for one, names in named if any(wanted in each for each in names)]
    if len(found) != 1:
        names = [one.name for one in found or every]
        tails = [" ".join(one.split()[at:]) for one in names for at in range(len(one.split()))]
        raise BadInput(f"accelerator: got {name!r}{nearest(name, tails)}; accepted: {', '.join(names)}")
    return found[0]
