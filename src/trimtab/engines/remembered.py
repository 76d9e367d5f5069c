"""What the arbiter found, remembered for this machine, and a model that answers by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trimtab.core.errors import Refused
from trimtab.core.files import write_atomic
from trimtab.core.linear import Host
from trimtab.engines.arbiter import OURS, Choice, Trial, arbitrate
from trimtab.engines.base import ENGINES, engine_of
from trimtab.engines.foreign import Foreign
from trimtab.load import cache
from trimtab.load.loaded import Loaded
from trimtab.load.manifest import FILE, read_manifest
from trimtab.load.sources import open_source
from trimtab.measure.machine import facts
from trimtab.runtime.level import level
from trimtab.runtime.place import keeps_copies
from trimtab.runtime.release import drop

KIND, CHOICE = "engines", "choice.json"


def place_of(artifact: Path) -> Path:
    """Where what is remembered of ``artifact`` lies: of these weights, this machine and these engines, by as many
    threads."""
    here, installed = facts(), {name: one.version for name, one in ENGINES.items() if one.installed}
    known = [read_manifest(artifact).content_hash, here.processor, here.flags, here.threads, level(), here.versions,
             installed]  # fmt: skip
    return cache.place(KIND, hashlib.sha256(json.dumps(known).encode()).hexdigest()[:24])


def timed(artifact: Path, names: Sequence[str] = tuple(ENGINES)) -> Choice:
    """Time the engines anew and remember what was found. Raises as ``arbitrate`` does; then what was remembered
    stays."""
    if not (artifact / FILE).is_file():
        raise Refused(f"engines: {artifact} is no artifact; accepted: a folder that 'trimtab run' wrote")
    with cache.new_folder(place_of(artifact)) as fresh:
        found = arbitrate(artifact, names, fresh)
        write_atomic(fresh / CHOICE, json.dumps(asdict(found), indent=1) + "\n")
    return found


def remembered(artifact: Path) -> Choice | None:
    """What ``timed`` found here; None where it was not asked, or something has changed since."""
    file = place_of(artifact) / CHOICE
    if not file.is_file():
        return None
    row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return Choice(**(row | {"trials": tuple(Trial(**one) for one in row["trials"])}))


def open_by(name: str, engine: str = "auto") -> Loaded:
    """The model of that name as it answers fastest: by what is remembered of it, else by our plan; or by ``engine``.
    Weights are in memory once, but for small models' dense copies; it can do nothing but answer. Raises BadInput for an
    engine that is none, Refused for one that does not run it."""
    if engine != "auto":
        engine_of(engine)
    artifact = Path(name).expanduser()
    known = remembered(artifact) if (artifact / FILE).is_file() else None
    prompts = words = "plan" if engine == "auto" else engine
    if engine == "auto" and known is not None:
        prompts, words = known.prompts, known.words
    loaded = open_source(name, lowered=False)
    if words not in OURS:
        return _foreign(loaded, artifact, words, known)
    report = loaded.lower(release=not keeps_copies(loaded.library))
    if engine == "plan" and loaded.engine is None:
        raise Refused(f"--engine plan: {name} has none: {report.planless}; accepted: auto, library")
    if loaded.engine is not None:
        loaded.engine.prompts = prompts == "plan"
        loaded.engine = loaded.engine if words == "plan" else None
    return loaded


def _foreign(loaded: Loaded, artifact: Path, engine: str, known: Choice | None) -> Loaded:
    """``loaded`` answering by another engine, from the export that was kept when it was timed."""
    form = place_of(artifact) / "form" if known is not None and known.words == engine else None
    if ENGINES[engine].form == "artifact":
        form = artifact
    if form is None or not form.is_dir():
        raise Refused(f"--engine {engine}: it was not the fastest when engines were timed, or they were not: nothing "
                      f"that it reads was kept; next: trimtab doctor --engines {artifact}")  # fmt: skip
    session = ENGINES[engine].open_session(form)
    ends = loaded.library.generation_config.eos_token_id
    loaded.answers = Foreign(session, {ends} if isinstance(ends, int) else set(ends or ()))
    drop([module for module in loaded.library.modules() if isinstance(module, Host)])
    return loaded
