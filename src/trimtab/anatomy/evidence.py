"""Which families are known to work, from stored evidence: ``evidence.tsv`` has a row for each of ``FAMILIES``.

Columns: family (``config.model_type``), class, logits, artifact, weights. ``LOGITS`` and ``ARTIFACT`` are tests over
every tiny model, so a family with a tiny model has a yes under both, and ``make docs`` writes it. ``weights`` is kept
by hand: the test or command that runs the family block by block on real weights. An empty cell: not shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from importlib.resources import files

import torch

from trimtab.anatomy import tiny
from trimtab.anatomy.families import FAMILIES

LOGITS = "tests/laws/test_anatomy.py::test_the_loop_answers_as_the_library_does"
ARTIFACT = "tests/load/test_artifact.py::test_round_trip_is_bit_equal"
FILE, YES = "evidence.tsv", "yes"


@dataclass(frozen=True)
class Row:
    """What is known of a family; ``kind`` is the library's class, or several."""

    family: str
    kind: str
    logits: str
    artifact: str
    weights: str


def stored() -> tuple[Row, ...]:
    """The rows of the packaged table. Raises ValueError on a row of another shape."""
    lines = files("trimtab.anatomy").joinpath(FILE).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(fields(Row)) or not {cells[2], cells[3]} <= {YES, ""}:
            raise ValueError(f"{FILE}:{number}: got {cells}; accepted: family, class, yes or nothing twice, evidence")
    return tuple(Row(*cells) for cells in rows)


def current() -> tuple[Row, ...]:
    """The rows that should be stored: what the tests run over now, and the evidence on real weights that is stored."""
    seen: dict[str, set[str]] = defaultdict(set)
    with torch.random.fork_rng(devices=[]):
        for one in tiny.MODELS.values():
            model = one.model()
            seen[model.config.model_type].add(type(model).__name__)
    real = {row.family: row.weights for row in stored()}
    shown = {family: YES if family in seen else "" for family in FAMILIES}
    return tuple(
        Row(family, ", ".join(sorted(seen[family])), shown[family], shown[family], real.get(family, ""))
        for family in sorted(FAMILIES)
    )


def table(rows: Sequence[Row]) -> str:
    """The text of ``evidence.tsv``."""
    lines = [("family", "class", "logits", "artifact", "weights"), *map(astuple, rows)]
    return "".join("\t".join(line) + "\n" for line in lines)
