"""The ceilings of this machine: remembered, or measured where they are not known yet."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from trimtab.core.errors import BadInput
from trimtab.core.files import write_atomic
from trimtab.load import cache
from trimtab.measure.ceilings import Ceilings
from trimtab.measure.limits import ceilings, machine

KIND, FILE = "ceilings", "ceilings.json"


def place() -> Path:
    """Where they lie: of this processor, so many threads and these libraries."""
    return cache.place(KIND, hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:24])


def known() -> Ceilings | None:
    """What ``examined`` found here; None where it was not asked, or something has changed since."""
    file = place() / FILE
    if not file.is_file():
        return None
    try:
        return Ceilings.parse(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, BadInput):  # of another version, or torn: it is measured anew
        return None


def examined() -> Ceilings:
    """Measured now, and remembered. Nothing else should run meanwhile."""
    found = ceilings()
    with cache.new_folder(place()) as fresh:
        write_atomic(fresh / FILE, json.dumps(found.row(), indent=1) + "\n")
    return found


def limits() -> Ceilings:
    """Remembered, else ``examined``: some seconds, once on a machine."""
    return known() or examined()
