"""Accelerators by name: what a data sheet says that they reach, for predictions on machines that are not here.

``accelerators.tsv`` has a row for each: bytes of memory, bytes a second, operations a second dense (two for a
multiplication and its addition; float16 where there is no bfloat16), watts. Among them are the ten of the device table
of "Large Vision Models" (lecture, 2024); where its figures are with sparsity, without tensor cores or slips, the note
says so and the row has the data sheet's.
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
    """``peaks``: operations a second by dtype, of those that it has. ``note``: where a widely told figure differs."""

    name: str
    memory: float
    bandwidth: float
    peaks: dict[str, float]
    watts: float
    note: str

    def roof(self) -> Roof:
        """What bounds an operation there."""
        return Roof(self.name, self.peaks, lambda _: self.bandwidth)


def accelerators() -> tuple[Accelerator, ...]:
    """Every row."""
    text = files("trimtab.measure").joinpath(FILE).read_text(encoding="utf-8")
    return tuple(map(_made, csv.DictReader(io.StringIO(text), delimiter="\t")))


def _made(row: dict[str, str]) -> Accelerator:
    peaks = {dtype: float(row[dtype]) for dtype in DTYPES if row[dtype]}
    return Accelerator(row["name"], float(row["memory"]), float(row["bandwidth"]), peaks, float(row["watts"]),
                       row["note"] or "")  # fmt: skip


def accelerator(name: str) -> Accelerator:
    """The one of that name, or the only one whose name holds it, in whatever case. Raises BadInput."""
    every = accelerators()
    found = [one for one in every if one.name.lower() == name.lower()]
    found = found or [one for one in every if name.lower() in one.name.lower()]
    if len(found) != 1:
        names = [one.name for one in found or every]
        tails = [" ".join(one.split()[at:]) for one in names for at in range(len(one.split()))]
        raise BadInput(f"accelerator: got {name!r}{nearest(name, tails)}; accepted: {', '.join(names)}")
    return found[0]
