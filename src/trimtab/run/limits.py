"""The ceilings of this machine: remembered, or measured where they are not known yet."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from trimtab.core.errors import Anomaly, BadInput
from trimtab.core.files import write_atomic
from trimtab.load import cache
from trimtab.measure.ceilings import Ceilings
from trimtab.measure.limits import ceilings, machine
from trimtab.run.fresh import process_costs

KIND, FILE = "ceilings", "ceilings.json"
VARIABLE = "TRIMTAB_CEILINGS"
"""Of the environment: a file with the figures of another machine, as ``trimtab doctor --json`` prints them, to plan
for that."""


def place() -> Path:
    """Where they lie: of this processor, so many threads and these libraries."""
    return cache.place(KIND, hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:24])


def known() -> Ceilings | None:
    """Of the file that ``TRIMTAB_CEILINGS`` names, else what ``examined`` found here; None where it was not asked, or
    something has changed since. Raises BadInput for a file that holds none."""
    named = os.environ.get(VARIABLE)
    if named:
        return read(Path(named))
    file = place() / FILE
    if not file.is_file():
        return None
    try:
        return Ceilings.parse(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, BadInput):  # of another version, or torn: it is measured anew
        return None


def examined() -> Ceilings:
    """Measured now, and remembered. Nothing else should run meanwhile."""
    found = replace(ceilings(), **process_costs())
    with cache.new_folder(place()) as fresh:
        write_atomic(fresh / FILE, json.dumps(found.row(), indent=1) + "\n")
    return found


def limits() -> Ceilings:
    """``known``, else ``examined`` in a process of its own, so that what it holds meanwhile (a gigabyte to read) is not
    taken for the memory of a run: some seconds, once on a machine. Raises Anomaly where that process fails."""
    found = known()
    if found is None:
        order = [sys.executable, "-m", "trimtab.run.limits", str(torch.get_num_threads())]
        done = subprocess.run(order, capture_output=True, text=True, check=False)
        found = None if done.returncode else known()
        if found is None:
            raise Anomaly(f"doctor: the measuring process ended with status {done.returncode}: {done.stderr[-1000:]}")
    return found


def read(file: Path) -> Ceilings:
    """What ``trimtab doctor --json`` printed on some machine. Raises BadInput."""
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: {error}; accepted: a file of 'trimtab doctor --json'") from error
    return Ceilings.parse(row.get("ceilings", row) if isinstance(row, dict) else {})


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    examined()
