"""From a task to its samples: built-in data sets and a user's own table by the same door."""

from __future__ import annotations

import random
from functools import cache, partial
from pathlib import Path

from PIL import Image

from trimtab.core.errors import BadInput, unknown
from trimtab.data import easyvqa, grid, split, tables
from trimtab.data.builtin import BUILTIN
from trimtab.data.images import open_image
from trimtab.data.records import records
from trimtab.data.sample import Sample
from trimtab.data.task import Task

PER_COLLAGE = 4


def samples(task: Task, part: str | None = None, limit: int | None = None, seed: int | None = None) -> list[Sample]:
    """The samples of a split, in the data's own order; ``limit`` of them are chosen by ``seed``.

    What is not given is taken from the task. Raises BadInput where the data cannot be used or lack the split.
    """
    part, limit = part or task.split, limit if limit is not None else task.limit
    seed = task.seed if seed is None else seed
    if task.type == "text":
        raise BadInput("task.type: 'text' has windows, not samples (trimtab.data.text)")
    found = _builtin(task.dataset, part) if task.dataset is not None else _own(task, part)
    return split.choose(found, [one.id for one in found], limit, seed)


def _builtin(dataset: str, part: str) -> list[Sample]:
    if part not in BUILTIN[dataset].splits:
        raise unknown(f"task.split of {dataset}", part, BUILTIN[dataset].splits)
    return list({"easyvqa": _easyvqa, "easyvqa-grid": _grid}[dataset](part))


@cache
def _easyvqa(part: str) -> tuple[Sample, ...]:
    return tuple(
        Sample(f"easyvqa/{part}/{index}", question, given, partial(open_image, easyvqa.picture(part, number)),
               group=str(number), picture=f"easyvqa/{part}/{number}")
        for index, (question, given, number) in enumerate(easyvqa.questions(part))
    )  # fmt: skip


@cache
def _grid(part: str) -> tuple[Sample, ...]:
    found = []
    for index in range(BUILTIN["easyvqa-grid"].splits[part] // PER_COLLAGE):
        sheet = grid.collage(part, index)
        asked = grid.pose(sheet.seen, PER_COLLAGE, random.Random(f"grid-questions/{part}/{index}"))
        name = f"easyvqa-grid/{part}/{index}"
        found += [
            Sample(f"{name}/{place}", question, given, sheet.open, group=str(index), picture=name)
            for place, (_, question, given) in enumerate(asked)
        ]
    return tuple(found)


def _own(task: Task, part: str) -> list[Sample]:
    path = Path(task.data or "")
    base = path if path.is_dir() else path.parent
    root = Path(task.image_root) if task.image_root is not None else base
    if not root.is_dir():
        raise BadInput(f"task.image_root: no folder {str(root)!r}")
    rows = records(tables.read(path), task, root)
    found = [row for row in rows if row.split == part]
    if not found:
        there = ", ".join(sorted({row.split for row in rows}))
        raise BadInput(f"task.split: got {part!r}; the data has {len(rows)} rows in: {there}")
    return [
        Sample(row.id, row.question, row.answer, None if row.image is None else partial(_open, row.image, row.where),
               group=row.group, picture=None if row.image is None else str(row.image), answers=row.answers)
        for row in found
    ]  # fmt: skip


def _open(path: Path, where: str) -> Image.Image:
    try:
        return open_image(path)
    except BadInput as error:
        raise type(error)(f"{where}: {error}") from error
