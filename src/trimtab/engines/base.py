"""What an engine is: a way to open a model, and a session that says words."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

from trimtab.core.errors import Refused, unknown

Words = Mapping[int, float]
"""Token ids and their log probabilities, natural."""


class Answer(NamedTuple):
    """``words``; ``first``: seconds until the first was there, ``after``: from then to the last."""

    words: list[int]
    first: float
    after: float


class Session(Protocol):
    """A model that is loaded. Token ids in, token ids out; nothing is cut into tokens or put before them, and no prompt
    is remembered for the next one."""

    def likeliest(self, ids: Sequence[int], count: int) -> Words:
        """The ``count`` likeliest next words."""

    def answer(self, ids: Sequence[int], most: int, ends: Collection[int] = ()) -> Answer:
        """The greedy answer: ``most`` words, or fewer where one of ``ends`` is the last."""


def clocked(words: Iterable[int], ends: Collection[int] = ()) -> Answer:
    """``words`` as they come, up to one of ``ends``."""
    begun, said, first = time.perf_counter(), list[int](), 0.0
    for word in words:
        first = first or time.perf_counter() - begun
        said.append(word)
        if word in ends:
            break
    return Answer(said, first, time.perf_counter() - begun - first)


class Engine(NamedTuple):
    """``module`` has ``open_session``, which reads ``form``: an artifact, or an export of that format. ``package``:
    what has to be installed, by its names to Python and to pip. ``extra``: of ours, that brings it."""

    module: str
    form: str
    package: tuple[str, str]
    extra: str = ""

    @property
    def installed(self) -> bool:
        return find_spec(self.package[0]) is not None

    @property
    def version(self) -> str:
        return metadata.version(self.package[1])

    def open_session(self, path: Path) -> Session:
        """Raises Refused where the engine is not installed, or what it says itself."""
        if not self.installed:
            raise Refused(f"{self.package[0]} is not installed; next: pip install 'trimtab[{self.extra}]'")
        opened: Callable[[Path], Session] = import_module(f"trimtab.engines.{self.module}").open_session
        return opened(path)


ENGINES: Mapping[str, Engine] = {
    "plan": Engine("own", "artifact", ("trimtab", "trimtab")),
    "library": Engine("library", "artifact", ("transformers", "transformers")),
    "torch.compile": Engine("drawn", "artifact", ("torch", "torch")),
    "openvino": Engine("vino", "openvino", ("openvino", "openvino"), "openvino"),
    "llama.cpp": Engine("llama", "gguf", ("xllamacpp", "xllamacpp"), "llamacpp"),
}
"""By name, ours first."""


def engine_of(name: str) -> Engine:
    """Raises BadInput for a name that is none."""
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    return ENGINES[name]
