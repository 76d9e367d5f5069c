"""What a run says of its layers and of calibration in words: damping, layers that nothing reached, missing samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
STREAMED = ("Weights were read from the model's files as they were needed, not held in memory. What comes out is the "
            "same bit for bit; no time and no memory was measured, since both would be the disk's.")  # fmt: skip
SHOWN = 6
"""Layers that are named; the rest are counted."""


def damping(rows: Sequence[Row], asked: float | None) -> str:
    """How much was added to the diagonal of H, as a share of its mean: ``asked`` where that sufficed, more where H was
    singular. ``rows`` are those of a step's layers; empty where none was damped."""
    damped = [row for row in rows if row.get("damp") is not None]
    if not damped or asked is None:
        return ""
    raised = [row for row in damped if row["damp"] > asked]
    said = []
    if len(raised) < len(damped):
        said.append(f"H was damped by {asked:g} of its mean diagonal on {_layers(len(damped) - len(raised))}.")
    if raised:
        named = _named([f"{row['name']} {row['damp']:g}" for row in raised])
        said.append(f"H was singular on {_layers(len(raised))} (their inputs depend on one another over calibration) "
                    f"and damped by more than {asked:g}: {named}.")  # fmt: skip
    return " ".join(said)


def unreached(rows: Sequence[Row]) -> list[str]:
    """For each thing that became of layers which no calibration sample reached: how many, and which."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.get("unreached"):
            groups.setdefault(f"{row['step']}, {row['unreached']}", []).append(row["name"])
    return [f"No calibration sample reached {_layers(len(names))} ({became}): {_named(names)}."
            for became, names in groups.items()]  # fmt: skip


def samples(audit: Row) -> list[str]:
    """That calibration found fewer samples than were asked for, where it did."""
    asked, found = audit.get("asked"), audit.get("found")
    if asked is None or found is None or found >= asked:
        return []
    return [f"calibrate.num_samples asked for {asked} samples; the data have {found}, and all were used."]


def _layers(count: int) -> str:
    return f"{count} layer" if count == 1 else f"{count} layers"


def _named(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
