"""One hash for what an artifact is: tensors, configs, processor, and the manifest without timings."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput
from trimtab.load.checkpoint import read_json
from trimtab.load.manifest import FILE, SOURCE, WEIGHTS, hashed


def content_hash(folder: Path, manifest: dict[str, Any] | None = None) -> str:
    """``sha256:`` over (name, sha256 of the content) of trimtab.safetensors, config.json, all of source/, and
    trimtab.json but for ``timings`` and the hash itself.

    ``manifest`` stands in for the file, for a hash that is to be written into it. Equal for the same recipe, data,
    library versions, CPU type and thread count. Raises BadInput where a file is missing.
    """
    inner = sorted(path for path in (folder / SOURCE).rglob("*") if path.is_file())
    total = hashlib.sha256()
    for path in (folder / WEIGHTS, folder / "config.json", *inner):
        if not path.is_file():
            raise BadInput(f"{path}: missing from the artifact")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    total.update(hashed(read_json(folder / FILE) if manifest is None else manifest))
    return f"sha256:{total.hexdigest()}"
