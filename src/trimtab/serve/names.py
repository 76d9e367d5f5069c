"""Models by name: artifacts, adapters on one of them, and the untouched models that they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from trimtab.core.errors import BadInput, unknown
from trimtab.load.loaded import Loaded
from trimtab.load.manifest import FILE
from trimtab.load.sources import open_source
from trimtab.runtime.place import keeps_copies
from trimtab.serve.words import Spelling

Kind = Literal["trimmed", "original", "adapter"]


@dataclass(frozen=True, eq=False)
class Entry:
    """A model under its ``id``. ``original``: id of the untouched one, where it is served too. ``report``: the page of
    the run that made it."""

    id: str
    kind: Kind
    loaded: Loaded
    created: int
    original: str | None = None
    report: Path | None = None

    @property
    def chats(self) -> bool:
        return self.loaded.anatomy.decodes and self.loaded.tokenizer is not None

    @property
    def embeds(self) -> bool:
        return not self.loaded.library.can_generate()

    @property
    def sees(self) -> bool:
        return self.loaded.image_backend is not None

    @property
    def context(self) -> int | None:
        found = getattr(self.loaded.library.config.get_text_config(), "max_position_embeddings", None)
        return int(found) if isinstance(found, int) else None

    @cached_property
    def policies(self) -> dict[str, str]:
        """What was done to the model, in words: its weights, visual tokens and cache."""
        of = {family: "; ".join(_knobs(one) for one in self.loaded.policies if one.CARD.family == family)
              for family in ("tokens", "cache")}  # fmt: skip
        return {"weights": _weights(self.loaded), **of}

    @cached_property
    def spelled(self) -> Spelling:
        return Spelling(self.loaded.tokenizer)

    @property
    def engine(self) -> str:
        return "loop" if self.loaded.engine is None else "plan"

    @property
    def size(self) -> int:
        said = self.loaded.manifest
        return self.loaded.source.bytes16 if said is None else said.bytes


def _knobs(method: Any) -> str:
    return " ".join([method.CARD.name, *(f"{name} {value}" for name, value in vars(method).items())])


def _weights(loaded: Loaded) -> str:
    said = loaded.manifest
    if said is None:
        return str(loaded.library.dtype).removeprefix("torch.")
    bits = sorted({spec["bits"] for spec in said.weights.values() if isinstance(spec.get("bits"), int)})
    steps = [next(iter(step)) for step in said.recipe.get("steps", ())]
    policies = {policy.method for policy in said.policies}
    names = ", ".join(name for name in dict.fromkeys(steps) if name not in policies)
    what = f"{' and '.join(map(str, bits))} bits" if bits else said.dtype
    return f"{what} ({names})" if names else what


def opened(name: str, remember: int) -> Loaded:
    """The model of that name as it answers here: an artifact on the runtime's kernels if it was measured on them, any
    other by them and by a plan where there can be one. ``remember``: bytes of pictures' features, and of prompts'
    beginnings; 0 for none. Raises as ``trimtab.load`` does."""
    loaded = open_source(name, lowered=False)
    if loaded.manifest is None or loaded.manifest.lowered:
        loaded.lower(release=not keeps_copies(loaded.library))
    return remembering(loaded, remember)


def remembering(loaded: Loaded, most: int) -> Loaded:
    if most and loaded.anatomy.decodes:
        loaded.remember(most)
    return loaded


def named(given: str) -> tuple[str, str]:
    """``ID=NAME`` or NAME, whose id is then the folder's (for the artifact of a run: the run's)."""
    head, sign, tail = given.partition("=")
    if sign and head and tail and "/" not in head:
        return head, tail
    path = Path(given)
    if not path.is_dir():
        return given, given
    path = path.resolve()
    return (path.parent.name if path.name == "artifact" else path.name), given


def report_of(name: str) -> Path | None:
    """The page beside a run's artifact."""
    path = Path(name).expanduser().resolve().parent / "report.html"
    return path if (Path(name) / FILE).is_file() and path.is_file() else None


def base_of(loaded: Loaded) -> str:
    """The name by which an artifact's untouched model is found again. Raises BadInput where its place was not written
    down."""
    assert loaded.manifest is not None
    base = loaded.manifest.base
    if base.kind not in ("builtin", "hub"):
        raise BadInput(f"--original: {base.id} was a {base.kind} whose place is not written down; "
                       "next: name it beside the artifact")  # fmt: skip
    return base.id


def linked(entries: Iterable[Entry]) -> dict[str, Entry]:
    """By id, each artifact with the id of its untouched model. Raises BadInput for two of one name."""
    rows, found = list(entries), dict[str, Entry]()
    for one in rows:
        if one.id in found:
            raise BadInput(f"models: got {one.id!r} twice; accepted: ID=FOLDER for one of them")
        said = one.loaded.manifest
        original = None if said is None else next(
            (o.id for o in rows if o.kind == "original" and o.loaded.source.id == said.base.id
             and o.loaded.source.revision == said.base.revision), None)  # fmt: skip
        found[one.id] = Entry(one.id, one.kind, one.loaded, one.created, original, one.report)
    return found


def entry_of(entries: Mapping[str, Entry], name: str) -> Entry:
    """The first one for no name. Raises BadInput for an unknown one."""
    if not name:
        return next(iter(entries.values()))
    if name not in entries:
        raise unknown("model", name, entries)
    return entries[name]


def catalogue(
    names: Sequence[str], adapters: Mapping[str, str], original: bool, remember: int, now: int
) -> dict[str, Entry]:
    """All models of a server. ``adapters``: folders by name, on the first of ``names``. Raises as loading does."""
    made: list[Entry] = []
    for given in names:
        identity, name = named(given)
        loaded = opened(name, remember)
        kind: Kind = "original" if loaded.manifest is None else "trimmed"
        made.append(Entry(identity, kind, loaded, now, report=report_of(name)))
    for identity, folder in adapters.items():
        made.append(Entry(identity, "adapter", adapted(named(names[0])[1], folder, remember), now))
    there = {one.id for one in made}
    for base in dict.fromkeys(base_of(one.loaded) for one in made if original and one.kind == "trimmed"):
        if base not in there:
            made.append(Entry(base, "original", opened(base, remember), now))
    return linked(made)


def adapted(name: str, folder: str, remember: int) -> Loaded:
    """The model of that name with a PEFT folder's adapter beside its matrices. Raises BadInput for one of another
    base."""
    from trimtab.run.adapt import put_beside

    loaded = open_source(name, lowered=False)
    put_beside(loaded, folder)
    if loaded.manifest is None or loaded.manifest.lowered:
        loaded.lower(release=not keeps_copies(loaded.library))
    return remembering(loaded, remember)
