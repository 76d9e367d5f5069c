"""What is said of a method, beside the method: a row from which lists, tables and checks are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Saves = Literal["bytes", "prefill", "decode", "cache", "none"]
Family = Literal[
    "adapt", "quantize", "prune", "factorize", "distill", "tokens", "cache", "route", "mixer", "objectives", "robust"
]


@dataclass(frozen=True)
class Card:
    """A published method.

    ``needs``: what it must be given besides the weights (``gradients``: calibration data, and the sensitivity of the
    answers' loss); ``wants_source``: the original matrices as well, which earlier steps have changed; ``wants_rows``:
    some of the inputs themselves beside their second moment; ``wants_moment`` False: no more than their sizes and
    squares, one by one, so that the second moment is gathered over few rows, for the report alone. ``sees``: the inputs
    as the layers before have come out of this step (``trimmed``), or as they were before it (``before``).

    ``saves``: the axis on which INEFFECTIVE is judged. ``baseline``: what it must beat at equal
    bytes, ``guarantee`` how surely: ``always`` on each seed, ``usual`` on the mean of 20 seeds and on 18 of them.
    ``bounded``: ``stored`` foretells the most that a matrix may take, since its values decide.
    ``establishes``, ``preserves``, ``consumes``: names of invariants (see ``trimtab.run.invariants``). ``departures``:
    where we differ from the paper, in words.
    """

    name: str
    family: Family
    title: str
    year: int
    where: str  # arXiv number or venue
    saves: Saves
    needs: Literal["nothing", "data", "gradients"] = "nothing"
    wants_source: bool = False
    wants_rows: bool = False
    wants_moment: bool = True
    sees: Literal["trimmed", "before"] = "trimmed"
    baseline: str | None = None
    guarantee: Literal["always", "usual"] = "usual"
    establishes: tuple[str, ...] = ()
    preserves: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    bounded: bool = False
    runs_on: tuple[str, ...] = ("cpu",)
    departures: str = ""
