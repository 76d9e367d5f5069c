"""The questions by which a search selects: folds of the training side, whole groups in each, none that calibrates.

A fold is asked after the other; after the first, the second and the last there is a look (``evaluate/sequential.py``).
Groups (a picture, a patient) that calibrate or teach an adapter are left out, so that no point is preferred for what it
was fitted on. The test split is not touched here: ``unread`` says which of its questions a reading may have.
"""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.core.errors import BadInput
from trimtab.data.sample import Sample
from trimtab.data.split import choose, rank
from trimtab.data.tasks import samples
from trimtab.evaluate.vqa import arranged
from trimtab.run.recipe import Recipe
from trimtab.run.search.compose import LESSONS

FOLDS = 4
QUESTIONS = 512
"""In all folds together: with no answer changed, so many pairs bound a drop of accuracy to 0.7 points."""
EACH = 4
"""Questions of one group, at most: a picture is looked at once for all of them, which is most of what asking costs.
Answers about it are not independent: bounds are somewhat narrower than they say. (Test questions are as a run's.)"""
LEAST = 5
"""Questions of a fold, at least."""


def group(sample: Sample) -> str:
    """What must not be divided."""
    return sample.group or sample.picture or sample.id


def folds(recipe: Recipe, questions: int = QUESTIONS, seed: int = 0) -> list[list[Sample]]:
    """``FOLDS`` lists of questions, in the order in which they cost least. Raises BadInput, with numbers, where
    calibration leaves too few groups."""
    task, given = recipe.task, recipe.calibrate
    every = samples(task, given.split, 1 << 40, seed)
    used = {group(one) for one in _fitted(recipe)}
    free = sorted({group(one) for one in every} - used, key=lambda name: rank(seed, f"fold/{name}"))
    found = []
    asked: dict[str, list[Sample]] = {}
    for one in every:
        asked.setdefault(group(one), []).append(one)
    for index in range(FOLDS):
        few = [choose(asked[name], [one.id for one in asked[name]], EACH, seed) for name in free[index::FOLDS]]
        found.append([one for part in few for one in part][: questions // FOLDS])
    if min(map(len, found)) < LEAST:
        raise BadInput(f"calibrate.num_samples: got {given.num_samples}, after which {given.split} has "
                       f"{len(free)} groups of questions left to select by; accepted: so few that {FOLDS} folds of at "
                       f"least {LEAST} questions each remain")  # fmt: skip
    size, batch = min(map(len, found)), recipe.evaluate.batch_size
    size = size // batch * batch or size  # folds end where batches do
    return [arranged(one[:size], batch) for one in found]


def _fitted(recipe: Recipe) -> list[Sample]:
    """What calibrates, where that is the task's own data, and what an adapter of the search may be taught on."""
    task, given = recipe.task, recipe.calibrate
    own = given.dataset in (None, task.dataset)
    calibrating = samples(task, given.split, given.num_samples, given.seed) if own else []
    return [*calibrating, *samples(task, given.split, LESSONS, 0)]


def unread(recipe: Recipe, reading: int) -> list[Sample]:
    """The test questions of reading number ``reading`` (0: those that a run of the recipe asks), of which no other
    reading has any; none where the split has been read to its end."""
    task = recipe.task
    every = samples(task, task.split, 1 << 40, recipe.seed)
    most = task.limit or recipe.evaluate.limit
    order = sorted(range(len(every)), key=lambda at: rank(recipe.seed, every[at].id))
    chosen = sorted(order[reading * most : (reading + 1) * most])
    return arranged([every[at] for at in chosen], recipe.evaluate.batch_size)


def flat(given: Sequence[Sequence[Sample]]) -> list[Sample]:
    """The questions of all folds, one fold after the other."""
    return [one for fold in given for one in fold]
