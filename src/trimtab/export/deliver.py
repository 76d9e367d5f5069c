"""One export from beginning to end: refuse, write, record, check in a fresh process; then it takes its place."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import trimtab
from trimtab.core.errors import Refused
from trimtab.export import formats, gate, samples
from trimtab.export.forms import rounded, unround
from trimtab.load.artifact import read
from trimtab.load.cache import new_folder, size
from trimtab.load.loaded import Loaded

SAID = "trimtab-export.json"
"""Written into every export: where it comes from, what is not as in the artifact, what the check found."""


@dataclass(frozen=True)
class Delivered:
    """``engine``: who checked. ``bytes``: of all files. ``found``: what the engine answered. ``notes``: what is not as
    in the artifact."""

    folder: Path
    engine: str
    bytes: int
    found: gate.Found
    notes: tuple[str, ...]


def deliver(artifact: Path, name: str, out: Path, *, without_policies: bool = False) -> Delivered:
    """Write ``artifact`` in the format ``name`` to the new folder ``out``, checked.

    ``without_policies``: its matrices alone, where it also has token or cache policies, which no other engine follows;
    the check is against the artifact without them then, and a note says what was left out.

    Raises BadInput for an unknown format; Refused where ``out`` exists, the engine of the check is not installed or the
    format cannot express the artifact; Anomaly where the engine does not answer as the artifact does. Then nothing is
    left at ``out``.
    """
    chosen = formats.get(name)
    if out.exists():
        raise Refused(f"--out: {out} exists; name a new folder")
    module = chosen.load()
    if find_spec(module.ENGINE) is None:
        raise Refused(f"--format {name}: its check needs {module.ENGINE}, which is not installed; next: pip install "
                      f"'trimtab[{chosen.extra}]'")  # fmt: skip
    loaded, left = read(artifact, lowered=False), list[str]()
    if without_policies:
        left = _left_out(loaded)
        loaded.policies = ()
    module.refuse(loaded)
    notes = (*left, *module.notes(loaded))
    with new_folder(out) as fresh, tempfile.TemporaryDirectory() as place:
        module.write(loaded, fresh)
        recorded = Path(place) / "samples.safetensors"
        said: dict[str, Any] = {
            "from": loaded.source.id,
            "revision": loaded.source.revision,
            "license": loaded.source.license,
        }
        samples.record(loaded, recorded)
        bare = Path(place) / "unrounded.safetensors" if rounded(loaded) else None
        if bare is not None:
            unround(loaded)
            samples.record(loaded, bare)
        del loaded  # the check needs the memory
        found = gate.judge(chosen.check, fresh, recorded, chosen.exact and bare is None)
        said |= {"format": name, "notes": notes, "checked": {"by": module.ENGINE} | asdict(found),
                 "trimtab": trimtab.__version__}  # fmt: skip
        if bare is not None:  # the engine rounds inputs in its own way, behind which a single wrong byte could hide
            exactly = gate.judge(chosen.check, fresh, bare, chosen.exact, "unrounded")
            said["checked"] |= {"unrounded": asdict(exactly)}
        (fresh / SAID).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        return Delivered(out, module.ENGINE, size(fresh), found, notes)


def _left_out(loaded: Loaded) -> list[str]:
    """What is said of policies that stay behind."""
    names = ", ".join(method.CARD.name for method in loaded.policies)
    return [f"without the policies {names}: quality and times of the run were measured with them"] if names else []
