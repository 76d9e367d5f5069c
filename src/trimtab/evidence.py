"""How surely a method is known to work, computed from stored evidence and never typed.

``evidence.tsv`` has a row per piece of evidence: method, kind, what (a test or a command), date, figure. A status needs
every kind of evidence that is listed for it and all those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from trimtab.core.card import Card

Status = Literal["unproven", "reference", "checked", "proven"]

# proof: the test in its catalogue row. independent: equal to an independent implementation on random inputs. Then: real
# pretrained weights, held-out data, an interval, a gated artifact, and a real kernel where speed is claimed.
NEEDS: tuple[tuple[Status, frozenset[str]], ...] = (
    ("reference", frozenset({"proof"})),
    ("checked", frozenset({"independent"})),
    ("proven", frozenset({"weights", "heldout", "interval", "gate"})),
)
KINDS = frozenset({"kernel"}).union(*(kinds for _, kinds in NEEDS))


@dataclass(frozen=True)
class Evidence:
    """One row: ``what`` is a test (``tests/...py::test_name``) or the command that prints ``figure``."""

    method: str
    kind: str
    what: str
    date: str
    figure: str


def stored() -> tuple[Evidence, ...]:
    """The rows of the packaged table. Raises ValueError on a row of another shape or an unknown kind."""
    lines = files("trimtab").joinpath("evidence.tsv").read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != 5 or cells[1] not in KINDS:
            raise ValueError(f"evidence.tsv:{number}: got {cells}; accepted: 5 cells, kinds {', '.join(sorted(KINDS))}")
        rows.append(Evidence(*cells))
    return tuple(rows)


def status(card: Card, rows: tuple[Evidence, ...]) -> Status:
    """The furthest status whose kinds of evidence, and those of every status before it, are all there."""
    found = {row.kind for row in rows if row.method == card.name}
    reached: Status = "unproven"
    for name, kinds in NEEDS:
        needed = kinds | ({"kernel"} if name == "proven" and card.saves in ("prefill", "decode") else set())
        if not needed <= found:
            break
        reached = name
    return reached
