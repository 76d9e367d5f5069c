"""A table's rows as a task understands them: which cell is the picture, the question, the answer, the group."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput
from trimtab.data import split
from trimtab.data.tables import Table
from trimtab.data.task import Task

SHOWN = 5


@dataclass(frozen=True)
class Record:
    """One row. ``image`` is a path that exists, ``group`` what is never divided, ``where`` its place in the file."""

    id: str
    question: str
    answer: str
    answers: tuple[str, ...]
    image: Path | None
    group: str
    split: str
    where: str


def records(table: Table, task: Task, root: Path) -> list[Record]:
    """All rows with their split. Raises BadInput or Refused with the row (never its content) that cannot be used."""
    named = _columns(table, task)
    answers = [_answers(row.get(named["answer"]), named["answer"], place) for row, place in _each(table)]
    asked = [_question(row, named.get("question"), place) for row, place in _each(table)]
    images = _images(table, named.get("image"), root)
    ids = _ids(table, named, asked, answers)
    if "group" in named:
        groups = [_cell(row, named["group"], place) for row, place in _each(table)]
    else:
        groups = [str(image) if image else one for image, one in zip(images, ids, strict=True)]
    if "split" in named:
        parts = split.given([_cell(row, named["split"], place) for row, place in _each(table)], groups, table.where)
    else:
        parts = split.divide(groups, task.seed)
    return [Record(one, question, found[0], found[1], image, group, part, place) for one, question, found, image, group,
            part, place in zip(ids, asked, answers, images, groups, parts, table.where, strict=True)]  # fmt: skip


def _each(table: Table) -> Sequence[tuple[dict[str, Any], str]]:
    return list(zip(table.rows, table.where, strict=True))


def _columns(table: Table, task: Task) -> dict[str, str]:
    """Meaning -> column: what the task names, else what has the meaning's own name, where the task type needs it."""
    named: dict[str, str] = {}
    needed = {"vqa": ("image", "question", "answer"), "text": ("answer",)}.get(task.type, ("image", "answer"))
    if task.prompt is not None and "{question}" not in task.prompt:
        needed = tuple(one for one in needed if one != "question")
    for meaning, column in task.columns.model_dump().items():
        if column is not None:
            named[meaning] = table.need(column, f"task.columns.{meaning}")
        elif meaning in table.columns:
            named[meaning] = meaning
        elif meaning == "question" and meaning in needed and table.columns[:2] == ("image", "answer"):
            raise BadInput("task.prompt: missing; a folder of pictures asks no questions, so say what is asked of "
                           "each: prompt: 'what is shown?'")  # fmt: skip
        elif meaning in needed:
            table.need(meaning, f"task.columns.{meaning}")
    return named


def _cell(row: dict[str, Any], column: str, place: str) -> str:
    value = row.get(column)
    text = "" if value is None else str(value).strip()
    if not text:
        raise BadInput(f"{place}: the column {column!r} is empty; fill it in or leave the row out")
    return text


def _question(row: dict[str, Any], column: str | None, place: str) -> str:
    return "" if column is None else _cell(row, column, place)


def _answers(value: Any, column: str, place: str) -> tuple[str, tuple[str, ...]]:
    """The commonest answer and all of them (several: a list in JSONL or Parquet)."""
    given = value if isinstance(value, list) else [value]
    found = tuple("" if one is None else str(one).strip() for one in given)
    if not found or not all(found):
        raise BadInput(f"{place}: the column {column!r} is empty; every row needs an answer")
    return Counter(found).most_common(1)[0][0], found if len(found) > 1 else ()


def _images(table: Table, column: str | None, root: Path) -> list[Path | None]:
    """The picture files. Raises BadInput naming the rows whose file is not there."""
    if column is None:
        return [None] * len(table.rows)
    found: list[Path | None] = []
    missing: list[str] = []
    for row, place in _each(table):
        value = row.get(column)
        if isinstance(value, dict | bytes):
            raise BadInput(f"{place}: {column!r} holds a picture's bytes; accepted: paths of picture files")
        text = _cell(row, column, place)
        if "://" in text:
            raise BadInput(f"{place}: {column!r} holds a web address; download the pictures and give their paths")
        path = root / text
        found.append(path)
        if not path.is_file():
            missing.append(place)
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise BadInput(
            f"{', '.join(missing[:SHOWN])}{more}: the file named in column {column!r} is not there; paths are taken "
            "from task.image_root, else from the folder of the data file"
        )
    return found


def _ids(
    table: Table, named: dict[str, str], asked: Sequence[str], answers: Sequence[tuple[str, tuple[str, ...]]]
) -> list[str]:
    """The id column, checked to be unique; without one, a hash of the row's content (equal rows are counted)."""
    if "id" in named:
        return _own_ids(table, named["id"])
    times: Counter[str] = Counter()
    ids = []
    for row, question, found in zip(table.rows, asked, answers, strict=True):
        picture = row.get(named["image"]) if "image" in named else None
        one = hashlib.sha256(json.dumps([picture, question, found]).encode()).hexdigest()[:16]
        times[one] += 1
        ids.append(one if times[one] == 1 else f"{one}.{times[one]}")
    return ids


def _own_ids(table: Table, column: str) -> list[str]:
    first: dict[str, str] = {}
    for row, place in _each(table):
        one = _cell(row, column, place)
        if one in first:
            raise BadInput(f"{place}: the same {column!r} as {first[one]}; ids are unique, or leave the column out")
        first[one] = place
    return list(first)
