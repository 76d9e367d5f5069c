"""One export from beginning to end: refuse, write, record, check in a fresh process; then it takes its place."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import trimtab
from trimtab.core.errors import Refused
from trimtab.export import formats, gate, questions
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


def deliver(
    artifact: Path, name: str, out: Path, *, without_policies: bool = False, k_quants: bool = False
) -> Delivered:
    """Write ``artifact`` in the format ``name`` to the new folder ``out``, checked.

    ``without_policies``: its matrices alone, where it also has token or cache policies, which no other engine follows;
    the check is against the artifact without them then, and a note says what was left out.
    ``k_quants``: quantized matrices rounded onto GGUF's k-quants where those take less room. The engine then has to
    answer exactly as what is written, and as the artifact by the rule of averages.

    Raises BadInput for an unknown format; Refused where ``out`` exists, the engine of the check is not installed or the
    format cannot express the artifact, or has no k-quants; Anomaly where the engine does not answer as the artifact
    does. Then nothing is left at ``out``.
    """
    chosen = formats.get(name, k_quants)
    if out.exists():
        raise Refused(f"--out: {out} exists; name a new folder")
    writer = chosen.load()
    if find_spec(writer.ENGINE) is None:
        raise Refused(f"--format {name}: its check needs {writer.ENGINE}, which is not installed; next: pip install "
                      f"'trimtab[{chosen.extra}]'")  # fmt: skip
    loaded, left = read(artifact, lowered=False), list[str]()
    if without_policies:
        left = _left_out(loaded)
        loaded.policies = ()
    writer.refuse(loaded)
    rounding = chosen.k_quants(loaded) if k_quants else None
    writer = rounding or writer
    notes = (*left, *writer.notes(loaded))
    with new_folder(out) as fresh, tempfile.TemporaryDirectory() as place:
        writer.write(loaded, fresh)
        said: dict[str, Any] = {
            "from": loaded.source.id,
            "revision": loaded.source.revision,
            "license": loaded.source.license,
        }
        instead = rounding.instead(loaded) if rounding else ()
        asked = questions.record(loaded, Path(place), chosen.exact, instead)
        engine = writer.ENGINE
        del loaded, instead, rounding, writer  # the check needs the memory
        found, checked = questions.ask(chosen.check, fresh, asked)
        said |= {"format": name, "notes": notes, "checked": {"by": engine} | checked,
                 "trimtab": trimtab.__version__}  # fmt: skip
        (fresh / SAID).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        return Delivered(out, engine, size(fresh), found, notes)


def _left_out(loaded: Loaded) -> list[str]:
    """What is said of policies that stay behind."""
    names = ", ".join(method.CARD.name for method in loaded.policies)
    return [f"without the policies {names}: quality and times of the run were measured with them"] if names else []
