"""Answers of untouched models, kept between runs: a second recipe on the same model and data need not ask again.

An entry of the cache (``trimtab cache``) is the journal of one whole evaluation. Its name is a hash of all that the
answers depend on: the weights, the samples and their pictures, prompt, metric and batches, versions, processor and
threads. Like ``state/`` it is for the user alone. ``evaluate.reuse: false`` neither reads nor writes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trimtab.core.files import replacing
from trimtab.data.hashes import digest_of
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.load.cache import place
from trimtab.run import machine
from trimtab.run.context import Context
from trimtab.run.views import View

BESIDE = (".json", ".jinja", ".txt", ".model")
"""What configures a tokenizer or a processor."""
MAKING = ("tokenizers", "pillow", "numpy")
"""Packages that make text and pictures, corrupted ones too, into what a model is given."""


def of_samples(context: Context, task: Task, chosen: Sequence[Sample], tokens: int, view: View | None) -> Path:
    """Where the answers to ``chosen``, in this order and seen through ``view``, would lie."""
    given = {"samples": digest_of(chosen), "prompt": task.prompt, "metric": task.metric, "tokens": tokens,
             "view": None if view is None else [view.name, view.seed],
             "batch_size": context.recipe.evaluate.batch_size}  # fmt: skip
    return _entry(context, given)


def of_text(context: Context, digest: str, windows: int) -> Path:
    """Where the losses of the first ``windows`` windows of the text with this ``digest`` would lie."""
    return _entry(context, {"text": digest, "windows": windows})


def _entry(context: Context, given: dict[str, Any]) -> Path:
    source = context.loaded.source
    model = {"id": source.id, "revision": source.revision, "dtype": str(context.loaded.library.dtype),
             "words": _words(source.folder), **{name: version(name) for name in MAKING}}  # fmt: skip
    said = json.dumps([model, machine.conditions(), given], sort_keys=True)
    return place("baseline", hashlib.sha256(said.encode()).hexdigest()[:32] + ".jsonl")


def _words(folder: Path | None) -> str:
    """A hash of the files beside the weights: configurations, tokenizer, chat template, image processor."""
    files = sorted(path for path in folder.iterdir() if path.suffix in BESIDE) if folder is not None else []
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def take(entry: Path, journal: Path) -> bool:
    """Begin ``journal`` with the entry, where there is one and the journal has not begun; whether that was so."""
    if journal.exists() or not entry.is_file():
        return False
    _copy(entry, journal)
    return True


def keep(entry: Path, journal: Path) -> None:
    """Make a whole journal an entry."""
    if not entry.exists():
        _copy(journal, entry)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_bytes(source.read_bytes())
