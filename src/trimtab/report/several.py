"""Several runs, read to be put side by side: each under a name of its own, refused where readings do not compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput, Refused
from trimtab.report.folder import Run, read
from trimtab.report.privacy import public
from trimtab.report.say import unit_of

HARDWARE = ("processor", "cpu", "machine", "system", "flags", "cores", "logical", "threads", "memory", "compute")
"""What makes two machines one as far as times go; versions of libraries are said apart."""
VERSIONS = ("versions", "python", "torch", "transformers", "trimtab")


def runs(folders: Sequence[Path]) -> list[Run]:
    """The runs without private names, ``folder`` being a name that no other has. Raises BadInput without two folders,
    Refused where figures of one name have different units or were measured on different data."""
    if len(folders) < 2:
        raise BadInput(f"compare: got {len(folders)} run folder; it takes two or more, as in runs/a runs/b")
    found: list[Run] = []
    for folder in folders:
        run, taken = public(read(Path(folder))), {one.folder for one in found}
        name, number = run.folder, 2
        while name in taken:
            name, number = f"{run.folder} ({number})", number + 1
        found.append(replace(run, folder=name))
    _same_units(found)
    _same_data(found)
    return found


def _same_units(found: Sequence[Run]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for run in found:
        for (_, name), one in run.figures.items():
            unit, other = first.setdefault(name, (unit_of(one.unit), run.folder))
            if unit != unit_of(one.unit):
                raise Refused(f"compare: {name} is in {unit!r} in {other} and in {unit_of(one.unit)!r} in "
                              f"{run.folder}; figures of one name compare in one unit only")  # fmt: skip


def _same_data(found: Sequence[Run]) -> None:
    first: dict[str, tuple[str, str]] = {}
    for run in found:
        for name, digest in data(run).items():
            known, other = first.setdefault(name, (digest, run.folder))
            if known != digest:
                raise Refused(f"compare: {name} was measured on other data in {other} (sha256 {known[:12]}) than in "
                              f"{run.folder} (sha256 {digest[:12]}); accepted: runs on the same data, limit and "
                              "split")  # fmt: skip


def data(run: Run) -> dict[str, str]:
    """By figure, the hash of what it asked, the run's own task first; empty in runs of before it was recorded."""
    return {str(name): str(digest) for name, digest in (run.result.get("data") or {}).items()}


def hardware(run: Run) -> dict[str, Any]:
    """What of its machine decides times; empty where it was not recorded."""
    given = run.result.get("machine") or {}
    return {key: given[key] for key in HARDWARE if key in given}


def one_machine(first: Run, other: Run) -> bool:
    """Whether both were timed on machines that are known and alike."""
    return bool(hardware(first)) and hardware(first) == hardware(other)


def cautions(found: Sequence[Run]) -> list[str]:
    """What a reader must know before figures are put side by side."""
    models = {str((run.result.get("model") or {}).get("id")) for run in found}
    versions = {str([(run.result.get("machine") or {}).get(key) for key in VERSIONS]) for run in found}
    apart = not all(one_machine(found[0], run) for run in found[1:])
    silent = [run.folder for run in found if not data(run)]
    words = ["Machines differ: times are shown, and are in no ratio."] if apart else []
    words += ["Versions of libraries differ."] if len(versions) > 1 else []
    words += ["Models differ."] if len(models) > 1 else []
    words += [f"No hash of the data was recorded in {', '.join(silent)}: nothing says that the questions are the "
              "same."] if silent else []  # fmt: skip
    return words
