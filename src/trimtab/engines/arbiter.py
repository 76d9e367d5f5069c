"""Which engine answers fastest here, on the artifact itself, among those that answer as it does.

Each engine is opened in a process of its own, one after another: first it is asked for the next word of some prompts,
which have to be the reference's; then for prompts that it has not seen, and words behind them. What takes longer than
``LIMIT`` is given up. Our two can share a cache, so one may take prompts and the other words; the others take both.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.core.errors import Refused, TrimtabError
from trimtab.data import text as texts
from trimtab.engines.base import ENGINES, Engine, engine_of
from trimtab.engines.heard import batch_of
from trimtab.engines.process import Ended, Process

OURS = ("plan", "library")
PROMPT, WORDS, REPEATS = 404, 32, 3
TYPICAL = 64
"""Words behind a prompt of ``PROMPT`` tokens: the answer whose seconds decide."""
ASKED, SEEN, TOP = 8, 48, 10
"""Prompts by which answers are compared, their tokens, and the likeliest words of each."""
REGRET, NEAR = 0.3, 0.1
"""What the reference may say less of an engine's first word than of its own, and the mean difference of what both say
of the likeliest words; in log probabilities. Logits of a bfloat16 model are up to 0.06 off between 16 and 32, and an
engine that rounds inputs to 8 bits is further off; one that reads a matrix wrongly is off by more."""
LIMIT = 240.0


@dataclass(frozen=True)
class Trial:
    """``first``: seconds to the first word behind ``tokens`` tokens; ``word``: seconds for each further one; ``off``:
    mean difference of log probabilities; ``resident``: bytes of its process; ``spent``: seconds that all of it took;
    ``why`` it does not answer here, "" where it does."""

    engine: str
    version: str = ""
    tokens: int = 0
    first: float = 0.0
    word: float = 0.0
    off: float = 0.0
    resident: int = 0
    spent: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Choice:
    """The engines for ``prompts`` and for ``words``; ``seconds``: what an answer of ``TYPICAL`` words takes by them."""

    prompts: str
    words: str
    seconds: float
    trials: tuple[Trial, ...]


def arbitrate(
    artifact: Path, names: Sequence[str] = tuple(ENGINES), keep: Path | None = None, limit: float = LIMIT
) -> Choice:
    """Time the engines of ``names`` on ``artifact``. An export that the chosen engine reads stays at ``keep``/form,
    a folder that is there. Raises BadInput for a name that is none, Refused for a model that says no words, or where no
    engine answers as it does."""
    engines = {name: engine_of(name) for name in names}
    asked = Asked.of(artifact)
    with tempfile.TemporaryDirectory(dir=None if keep is None else keep.parent) as place:
        trials = tuple(_trial(name, one, artifact, Path(place), asked, limit) for name, one in engines.items())
        chosen = pick(trials)
        if chosen is None:
            told = "; ".join(f"{one.engine}: {one.why}" for one in trials)
            raise Refused(f"engines: none answers as {artifact} does: {told}")
        if keep is not None and engines[chosen[0]].form != "artifact":
            (Path(place) / chosen[0]).rename(keep / "form")
    return Choice(*chosen, trials)


@dataclass(frozen=True)
class Asked:
    """``known``: prompts and the log probabilities of every word behind them; ``fresh``: windows of text for timing,
    each used once; ``pictured``: whether the model looks at pictures."""

    known: list[tuple[list[int], Float[Tensor, " words"]]]
    fresh: list[list[int]]
    pictured: bool

    @classmethod
    def of(cls, artifact: Path) -> Asked:
        from trimtab.load.artifact import read

        loaded = read(artifact, lowered=False)
        if not loaded.anatomy.decodes:
            raise Refused(f"engines: {artifact} says no words; accepted: a language or vision-language model")
        most = getattr(loaded.library.config.get_text_config(), "max_position_embeddings", None) or PROMPT + WORDS
        length = min(PROMPT, most - WORDS - 1)
        rows = texts.windows(texts.calibration(), loaded.tokenizer, ASKED + REPEATS + 1, length).tolist()
        known = []
        with torch.inference_mode():
            for row in rows[:ASKED]:
                ids = row[: min(SEEN, length)]
                logits = loaded.model(**batch_of(ids), use_cache=False).logits[0, -1]
                known.append((ids, logits.float().log_softmax(-1)))
        return cls(known, rows[ASKED:], bool(loaded.anatomy.INPUTS))


def _trial(name: str, engine: Engine, artifact: Path, place: Path, asked: Asked, limit: float) -> Trial:
    begun = time.perf_counter()
    try:
        form = _form(engine, artifact, place / name, asked)
        command = [sys.executable, "-m", "trimtab.engines", name, str(form), str(torch.get_num_threads())]
        with Process(command, place / f"{name}.log", limit=limit) as process:
            if "refused" in process.loaded:
                raise Refused(process.loaded["refused"])
            far, said = _off(process, asked), _timed(process, asked.fresh)
            version = process.loaded["version"]
    except (TrimtabError, Ended) as error:
        return Trial(name, spent=time.perf_counter() - begun, why=str(error))
    return Trial(name, version, off=far, spent=time.perf_counter() - begun, **said)


def _form(engine: Engine, artifact: Path, place: Path, asked: Asked) -> Path:
    """What the engine reads. Raises Refused where there is none."""
    if engine.form == "artifact":
        return artifact
    if not engine.installed:
        raise Refused(f"not installed; next: pip install 'trimtab[{engine.extra}]'")
    if asked.pictured:
        raise Refused("takes no pictures here")
    from trimtab.export.deliver import deliver

    return deliver(artifact, engine.form, place).folder


def _off(process: Process, asked: Asked) -> float:
    """How far its answers are from the reference's. Raises Refused where that is too far."""
    far: list[float] = []
    for ids, known in asked.known:
        said: list[tuple[int, float]] = process.ask({"prompt": ids, "likeliest": TOP})["words"]
        regret = float(known.max() - known[said[0][0]])
        far += [abs(float(known[word]) - value) for word, value in said]
        if not regret <= REGRET:
            raise Refused(f"answers otherwise: its word has {regret:.2f} less log probability than the likeliest")
    mean = sum(far) / len(far)
    if not mean <= NEAR:
        raise Refused(f"answers otherwise: log probabilities are {mean:.2f} off (accepted: {NEAR})")
    return mean


def _timed(process: Process, prompts: Sequence[list[int]]) -> dict[str, Any]:
    """Medians over prompts that are new to it, but for the first, which warms up."""
    rows = [process.ask({"prompt": ids, "words": WORDS}) for ids in prompts][1:]
    return {"tokens": len(prompts[0]), "first": median(row["first"] for row in rows),
            "word": median(row["after"] for row in rows) / (WORDS - 1), "resident": rows[-1]["resident"]}  # fmt: skip


def pick(trials: Sequence[Trial]) -> tuple[str, str, float] | None:
    """The engines for prompts and for words with the least seconds, which may differ where both are ours."""
    good = [one for one in trials if not one.why]
    pairs: Iterator[tuple[Trial, Trial]] = (
        (prompt, word) for prompt, word in product(good, good)
        if prompt is word or {prompt.engine, word.engine} <= set(OURS)
    )  # fmt: skip
    each = [(prompt.first + TYPICAL * word.word, prompt.engine, word.engine) for prompt, word in pairs]
    return None if not each else (min(each)[1], min(each)[2], min(each)[0])
