"""The model on the bench: a point's steps on a copy of it as it came, and how its bytes and seconds are taken.

The copy is trimmed again and again: a step puts other weights into its hosts and never changes one, so putting the
first ones back makes it what it was. What the first steps of a point made is remembered, since many points share them.
Seconds are taken in turn with the untouched model, so that a drift of the machine meets both.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from trimtab import methods
from trimtab.core.bounded import Bounded
from trimtab.core.errors import BadInput
from trimtab.core.heap import give_back
from trimtab.core.linear import Host, Linear
from trimtab.load.sources import open_source
from trimtab.measure.latency import repeats_of
from trimtab.measure.params import stored
from trimtab.measure.vlm import Parts, parts
from trimtab.run import calibration, check, steps, timing
from trimtab.run.context import Context
from trimtab.run.recipe import Recipe, Step
from trimtab.run.search.compose import POLICIES, fitted, key

MEMORY = 1 << 30
"""Bytes of weights that are remembered."""
TOKENS = 8
"""Decoded for one repeat, where decoding is timed."""
State = dict[str, tuple[Any, Any]]
"""By host: its weight, and how its input is rounded."""
Times = dict[str, list[float]]


def with_steps(recipe: Recipe, given: Sequence[Step]) -> Recipe:
    """The recipe with other steps."""
    return recipe.model_copy(update={"steps": tuple(given)})


def opened(recipe: Recipe) -> Any:
    """The model of a recipe, in memory as a whole."""
    return open_source(recipe.model, revision=recipe.revision, dtype=recipe.dtype, stream=False,
                       trust_remote_code=recipe.trust_remote_code)  # fmt: skip


@dataclass
class Bench:
    """``context``: the run whose ``loaded`` is the copy; its folder is a place for what steps leave behind."""

    context: Context
    known: Bounded[State] = field(default_factory=lambda: Bounded(MEMORY))

    @cached_property
    def untouched(self) -> Any:
        """The model as it came, through the library's own forward: what every point is timed beside."""
        return timing.as_it_came(self.context)

    @cached_property
    def batches(self) -> list[Any]:
        """What calibrates, gathered once for all points."""
        return calibration.batches(self.context)

    @cached_property
    def original(self) -> State:
        """The weights as they came. To be asked for before anything is trimmed."""
        return {path: (host.w, _acts(host)) for path, host in steps.hosts(self.context).items()}

    def refuses(self, given: Sequence[Step]) -> str | None:
        """Why the model takes no such steps, None where it does; nothing is changed."""
        if not given:
            return None
        try:
            check.fits(replace(self.context, recipe=with_steps(self.context.recipe, given)))
        except BadInput as error:
            return str(error)
        return None

    def trim(self, given: Sequence[Step], loaded: Any = None) -> Any:
        """``loaded``, by default the one copy, with these steps from the model as it came, and its kernels in place.
        Raises TrimtabError as steps do."""
        recipe = with_steps(self.context.recipe, given)
        context = replace(self.context, recipe=recipe, loaded=self.context.loaded if loaded is None else loaded)
        context.loaded.unlower()
        context.loaded.policies = ()
        _clear(context)
        self._put(context, self.original)
        for index in range(self._recalled(context, given) + 1, len(given) + 1):
            step = given[index - 1]
            steps.APPLY[methods.get(step.method).CARD.family](context, index, step, self.batches)
            if index <= fitted(given):
                self._remember(context, given[:index])
        context.loaded.lower()
        return context.loaded

    def _put(self, context: Context, wanted: State) -> None:
        for path, host in steps.hosts(context).items():
            host.w, acts = wanted[path]
            if isinstance(host, Linear):
                host.acts = acts

    def _recalled(self, context: Context, given: Sequence[Step]) -> int:
        """How many of the first steps are in place since they were remembered."""
        for count in range(fitted(given), 0, -1):
            found = self.known.get(key(given[:count]).encode())
            if found is not None:
                self._put(context, found)
                policies = (one for one in given[:count] if methods.get(one.method).CARD.family in POLICIES)
                context.loaded.policies = tuple(methods.make(one.method, one.knobs) for one in policies)
                return count
        return 0

    def _remember(self, context: Context, given: Sequence[Step]) -> None:
        made = {path: (host.w, _acts(host)) for path, host in steps.hosts(context).items()}
        self.known.put(key(given).encode(), made, stored(context.loaded.library))


def _acts(host: Host) -> Any:
    return host.acts if isinstance(host, Linear) else None


def _clear(context: Context) -> None:
    """Take away what the steps of another point left behind."""
    for folder in (context.folder.state, context.folder.root / "adapter"):
        shutil.rmtree(folder, ignore_errors=True)
    context.folder.private()
    give_back()


def calls(side: Parts, decoding: bool) -> dict[str, Callable[[], object]]:
    """What is timed of a model: the language prefill of its prompts, and where asked one more token of each."""

    def several() -> None:
        for _ in range(TOKENS):
            side.decode()

    return {"prefill": side.prefill} | ({"decode": several} if decoding else {})


def in_turn(sides: Mapping[str, Parts], repeats: int, decoding: bool = False) -> dict[str, Times]:
    """Seconds by side and part: one uncounted round, then ``repeats`` rounds of all sides, one after the other."""
    found: dict[str, Times] = {name: {} for name in sides}
    for number in range(repeats + 1):
        for name, side in sides.items():
            for part, call in calls(side, decoding).items():
                seconds = repeats_of(call, 1, 0 if number else 1)[0] / (TOKENS if part == "decode" else 1)
                if number:
                    found[name].setdefault(part, []).append(seconds)
    return found


def cached(side: Parts) -> float:
    """Bytes of keys and values after the prompts and ``TOKENS`` more, as a run counts them."""
    side.prefill()
    for _ in range(TOKENS):
        side.decode()
    return float(side.cache())


def sides_of(models: Mapping[str, Any], batch: dict[str, Any]) -> dict[str, Parts]:
    """The parts of several models on the same prompts."""
    return {name: parts(loaded.model, batch) for name, loaded in models.items()}
