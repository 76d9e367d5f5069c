"""``trimtab.json``: what an artifact says of itself. Format 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trimtab.core.errors import BadInput, Refused
from trimtab.load.checkpoint import read_json

FILE, WEIGHTS, SAMPLES, SOURCE = "trimtab.json", "trimtab.safetensors", "gate.safetensors", "source"
FORMAT = 1
UNHASHED = ("content_hash", "timings")


class Part(BaseModel):
    """A part of the manifest: frozen, and with no room for keys that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Base(Part):
    """The model that was trimmed."""

    id: str
    revision: str
    license: str
    kind: str
    bytes16: int


class Policy(Part):
    """A token or cache policy by the name of its method."""

    method: str
    knobs: dict[str, Any]


class Manifest(Part):
    """All that is needed to rebuild the model beside its tensors, and what was found out about it.

    ``weights``: spec of every host by name. ``activations``: by name, what linears do to their input that is not linear
    in it. ``aliases``: names of tensors that are another's, so stored once.
    ``bytes``: size of the weight file. ``modified``: sentences on what was changed. ``calibration``, ``invariants``,
    ``quality``: the run's audit, standing invariants and readings. ``timings`` is left out of the content hash.
    """

    format: Literal[1] = 1
    base: Base
    architecture: str
    dtype: str
    image_backend: str | None
    threads: int
    lowered: bool
    versions: dict[str, str]
    bytes: int
    weights: dict[str, dict[str, Any]]
    activations: dict[str, dict[str, Any]] = {}
    aliases: dict[str, str]
    policies: tuple[Policy, ...] = ()
    modified: tuple[str, ...] = ()
    recipe: dict[str, Any] = {}
    calibration: dict[str, Any] = {}
    invariants: tuple[dict[str, Any], ...] = ()
    quality: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    load: str = "import trimtab; model = trimtab.load(FOLDER).model"
    timings: dict[str, float] = {}
    content_hash: str = ""

    def dump(self) -> str:
        """JSON with sorted keys, the same for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def hashed(raw: dict[str, Any]) -> bytes:
    """The bytes of a manifest that count for the content hash."""
    kept = {key: value for key, value in raw.items() if key not in UNHASHED}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_manifest(folder: Path) -> Manifest:
    """Raises Refused for a newer format, BadInput for a folder without a manifest or one with damaged keys."""
    path = folder / FILE
    if not path.is_file():
        raise BadInput(f"{folder}: not an artifact of Trimtab: {FILE} is missing")
    raw = read_json(path)
    found = raw.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise Refused(
            f"{path}: format {found}, but this Trimtab reads formats up to {FORMAT}; next: pip install -U trimtab"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        rows = [f"{'.'.join(map(str, row['loc']))}: {row['msg']}" for row in error.errors()[:8]]
        raise BadInput(f"{path}: {'; '.join(rows)}") from error
