"""What a table's columns seem to be, for ``trimtab init``: names first, then what the cells look like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput
from trimtab.data import tables
from trimtab.data.split import NAMES
from trimtab.data.tables import PICTURES, Table

LOOKED_AT = 200
HINTS = {
    "image": ("image", "image_path", "img", "image_file", "file_name", "filename", "picture", "photo", "path", "file"),
    "question": ("question", "query", "q", "prompt", "instruction", "text"),
    "answer": ("answer", "label", "target", "a", "class", "caption", "response", "diagnosis", "category"),
    "group": ("group", "patient", "subject", "case", "document", "doc", "study", "person", "user", "scene", "video"),
    "split": ("split", "fold", "subset", "partition"),
    "id": ("id", "uid", "question_id", "sample_id", "row_id"),
}
FOLDER = {"image": "the pictures of the folder", "answer": "the name of the folder that a picture lies in"}


@dataclass(frozen=True)
class Suggestion:
    """``columns`` meaning -> column, ``why`` meaning -> one sentence; ``image_root`` where the pictures were found."""

    type: str
    columns: dict[str, str]
    why: dict[str, str]
    image_root: str | None
    rows: int


def inspect(file: str | Path, image_root: str | Path | None = None) -> Suggestion:
    """Suggested task keys for a file or folder. Raises BadInput where no answer column can be guessed."""
    path = Path(file)
    table = tables.read(path)
    if path.is_dir():
        return Suggestion("classify", {"image": "image", "answer": "answer"}, FOLDER, None, len(table.rows))
    columns: dict[str, str] = {}
    why: dict[str, str] = {}
    for meaning in ("image", "split", "group", "id", "question", "answer"):
        left = [name for name in table.columns if name not in columns.values()]
        guess = _by_name(meaning, left, table) or _by_look(meaning, left, table)
        if guess is not None:
            columns[meaning], why[meaning] = guess
    if "answer" not in columns:
        raise BadInput(
            f"task.columns.answer: none of the columns looks like answers: {', '.join(table.columns)}; name it yourself"
        )
    root = _root(table, columns.get("image"), path, image_root)
    order = [one for one in HINTS if one in columns]
    kind = "vqa" if "question" in columns else "classify" if "image" in columns else "text"
    return Suggestion(kind, {k: columns[k] for k in order}, {k: why[k] for k in order}, root, len(table.rows))


def _cells(table: Table, column: str) -> list[str]:
    return [str(row[column]).strip() for row in table.rows[:LOOKED_AT] if row.get(column) not in (None, "")]


def _words(name: str) -> set[str]:
    return set(name.casefold().replace("-", "_").replace(" ", "_").split("_"))


def _by_name(meaning: str, left: Sequence[str], table: Table) -> tuple[str, str] | None:
    for hint in HINTS[meaning]:
        for name in left:
            plain = name.casefold().strip().replace(" ", "_")
            if plain == hint or (hint in _words(name) and meaning != "id" and len(hint) > 1):
                if meaning == "image" and not _pictures(_cells(table, name)):
                    continue
                if meaning == "split" and not _splits(_cells(table, name)):
                    continue
                return name, _because(meaning, name, hint, table)
    return None


def _because(meaning: str, name: str, hint: str, table: Table) -> str:
    said = f"the column is called {name!r}"
    if meaning == "group":
        values = len(set(_cells(table, name)))
        return f"{said}: all rows of one {hint} stay on one side of the split ({values} in the first rows)"
    return said


def _by_look(meaning: str, left: Sequence[str], table: Table) -> tuple[str, str] | None:
    looks: dict[str, tuple[Callable[[list[str]], bool], str]] = {
        "image": (_pictures, "its cells end like picture files"),
        "split": (_splits, "its cells are names of splits"),
        "question": (_questions, "most of its cells end in a question mark"),
        "answer": (_short, "its cells are short and few of them differ"),
    }
    if meaning not in looks:
        return None
    look, why = looks[meaning]
    for name in left:
        cells = _cells(table, name)
        if cells and look(cells):
            return name, why
    return None


def _pictures(cells: list[str]) -> bool:
    return bool(cells) and sum(one.casefold().endswith(PICTURES) for one in cells) > 0.8 * len(cells)


def _splits(cells: list[str]) -> bool:
    return bool(cells) and all(one.casefold() in NAMES for one in cells)


def _questions(cells: list[str]) -> bool:
    return sum(one.endswith("?") for one in cells) > 0.5 * len(cells)


def _short(cells: list[str]) -> bool:
    return max(map(len, cells)) <= 60 and len(set(cells)) <= max(2, 0.5 * len(cells))


def _root(table: Table, column: str | None, path: Path, given: str | Path | None) -> str | None:
    """The first folder under which the first pictures lie: the one given, the file's own, or one beside the file."""
    if column is None:
        return None
    if given is not None:
        return str(given)
    names: list[Any] = [row.get(column) for row in table.rows[:20]]
    beside = sorted(one for one in path.parent.iterdir() if one.is_dir())
    for root in (path.parent, *beside):
        if all(name and (root / str(name)).is_file() for name in names):
            return None if root == path.parent else str(root)
    return None
