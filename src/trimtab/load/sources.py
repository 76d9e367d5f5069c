"""One name for a model from anywhere: ``builtin:NAME``, a folder, an artifact, a ``.gguf`` file or a hub id."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from trimtab.core.errors import BadInput, nearest
from trimtab.core.firstcalls import settle_first_calls
from trimtab.load import artifact, builtin, gguf, hub
from trimtab.load.checkpoint import INDEX, PICKLES, SINGLE, read_json, refuse_pickle
from trimtab.load.library import open_library
from trimtab.load.license import license_of
from trimtab.load.loaded import Kind, Loaded, Source, bytes16
from trimtab.load.manifest import FILE as MANIFEST
from trimtab.load.processors import open_processors
from trimtab.load.stream import settle

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def open_source(
    name: str | Path,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = None,
    trust_remote_code: bool = False,
    lowered: bool | None = None,
    stream: bool | None = None,
) -> Loaded:
    """The model of that name, with its processor, tokenizer, source and policies.

    ``dtype``: the checkpoint's own unless given (bfloat16 for GGUF). ``lowered``: put the runtime's kernels in place;
    by default as the artifact was measured, else no. ``stream``: leave matrices in the files and read them as they are
    needed; by default where the model would take too much of the memory (``load/stream.py``). Raises BadInput and
    Refused (see the files beside this one).
    """
    settle_first_calls()
    wanted = _dtype(dtype)
    text = str(name)
    path = Path(text).expanduser()
    if (path / MANIFEST).is_file():
        _only_for("artifact", dtype=dtype, revision=revision, stream=stream or None)
        return artifact.read(path, lowered=lowered)
    kind, identity, folder = _locate(text, path, revision, wanted, trust_remote_code)
    opened = open_library(folder, wanted, trust_remote_code, stream)
    model = opened.model
    found = open_processors(folder, trust_remote_code)
    commit = folder.name if kind == "hub" else fingerprint(folder)
    source = Source(identity, commit, license_of(folder), kind, bytes16(model), folder)
    loaded = Loaded(
        model, found.processor, found.tokenizer, source, found.backend, notes=opened.notes,
        code=not type(model).__module__.startswith("transformers."), streamed=bool(opened.made),
    )  # fmt: skip
    if loaded.streamed:
        settle(loaded.anatomy, opened.made)
    if lowered:
        loaded.lower()
    return loaded


def _locate(
    text: str, path: Path, revision: str | None, dtype: torch.dtype | None, code: bool
) -> tuple[Kind, str, Path]:
    """(kind, id to be recorded, folder in the library's layout). The path of a user's own folder is not recorded."""
    if text.startswith("builtin:"):
        _only_for("builtin", revision=revision)
        return "builtin", text, builtin.builtin_folder(text.removeprefix("builtin:"))
    if path.is_dir():
        _only_for("folder", revision=revision)
        return "folder", path.resolve().name, path
    if path.is_file():
        if path.suffix == ".gguf":
            return "gguf", path.name, gguf.convert(path, dtype or torch.bfloat16)
        if path.name.endswith(PICKLES):
            refuse_pickle(path)
        raise BadInput(f"model: {text!r} is a file; accepted: a .gguf file, or the folder that holds config.json")
    if path.suffix == ".gguf" or not hub.ID.fullmatch(text):
        hint = nearest(text, [f"builtin:{known}" for known in builtin.MODELS])
        raise BadInput(
            f"model: got {text!r}, which is not there{hint}; accepted: builtin:NAME, a hub id, a folder, a .gguf file "
            "or an artifact"
        )
    return "hub", text, hub.hub_folder(text, revision, code)


def _dtype(given: torch.dtype | str | None) -> torch.dtype | None:
    if given is None or isinstance(given, torch.dtype):
        return given
    if given not in DTYPES:
        raise BadInput(f"dtype: got {given!r}{nearest(given, DTYPES)}; accepted: {', '.join(DTYPES)}")
    return DTYPES[given]


def _only_for(kind: str, **given: object) -> None:
    for key, value in given.items():
        if value is not None:
            raise BadInput(f"{key}: got {value!r} for a model of kind {kind!r}, which has only one; leave it out")


def fingerprint(folder: Path) -> str:
    """``sha256:`` and 16 digits over config and tensor files: the revision of a folder that has no history."""
    total = hashlib.sha256()
    shards = sorted(set(read_json(folder / INDEX)["weight_map"].values())) if (folder / INDEX).is_file() else [SINGLE]
    for name in ("config.json", *shards):
        with (folder / name).open("rb") as file:
            total.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()[:16]}"
