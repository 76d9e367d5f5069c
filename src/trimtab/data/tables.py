"""Rows from a user's file or folder, each with a place that an error can name; cell values stay out of errors."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.core.errors import BadInput, nearest, unknown

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
LONGEST_CELL = 1 << 22


@dataclass(frozen=True)
class Table:
    """``rows`` by column name; ``where[i]`` says which row that is, in the file's own terms."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    where: tuple[str, ...]

    def need(self, column: str, key: str) -> str:
        """``column`` itself. Raises BadInput, with the nearest one, where the table has none of that name."""
        if column not in self.columns:
            raise BadInput(
                f"{key}: the data has no column {column!r}{nearest(column, self.columns)}; it has: "
                f"{', '.join(self.columns)}. Name the right one under {key}"
            )
        return column


def read(path: Path) -> Table:
    """The table at ``path``. Raises BadInput on anything that is not one, naming the row."""
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        near = nearest(path.name, [one.name for one in path.parent.glob("*")]) if path.parent.is_dir() else ""
        raise BadInput(f"task.data: no file or folder {str(path)!r}{near}")
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    suffix = path.suffix.casefold()
    if suffix not in readers:
        raise unknown("task.data: kind of file", suffix or path.name, SUFFIXES)
    table = readers[suffix](path)
    if not table.rows:
        raise BadInput(f"task.data: {path.name} has no rows")
    return table


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        row = sum(1 for cells in csv.reader(io.StringIO(raw[: error.start].decode("utf-8-sig"))) if cells) - 1
        wide = " (it looks like UTF-16)" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise BadInput(f"row {max(row, 0)} (line {line}): byte 0x{raw[error.start]:02x} is not UTF-8{wide}; save the "
                       "file as UTF-8 (spreadsheets call it 'CSV UTF-8')") from error  # fmt: skip
    if "\0" in text:
        raise BadInput(f"line {text[: text.index(chr(0))].count(chr(10)) + 1}: a zero byte; this is no text file")
    return text


def _csv(path: Path) -> Table:
    text = _text(path)
    head = text.split("\n", 1)[0]
    mark = max(",;\t", key=lambda one: (head.count(one), one == ","))
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    rows: list[list[str]] = []
    where: list[str] = []
    begin = 1
    try:
        for cells in reader:
            if cells:
                rows.append(cells)
                where.append(f"row {len(rows) - 1} (line {begin})")
            begin = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"row {len(rows)} (line {begin}): {error}; is a quotation mark left open?") from error
    if not rows:
        raise BadInput(f"task.data: {path.name} is empty; its first line names the columns")
    columns = tuple(name.strip() for name in rows[0])
    _unique(columns)
    for cells, place in zip(rows[1:], where[1:], strict=True):
        if len(cells) != len(columns):
            raise BadInput(f"{place}: {len(cells)} cells under {len(columns)} column names; quote cells that hold "
                           f"{mark!r}")  # fmt: skip
    return Table(columns, tuple(dict(zip(columns, cells, strict=True)) for cells in rows[1:]), tuple(where[1:]))


def _unique(columns: Sequence[str]) -> None:
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise BadInput(f"task.data: the column name {twice[0]!r} stands twice in the first line; columns need names "
                       "of their own")  # fmt: skip


def _jsonl(path: Path) -> Table:
    rows: list[dict[str, Any]] = []
    where: list[str] = []
    for line, text in enumerate(_text(path).split("\n"), 1):
        if not text.strip():
            continue
        place = f"row {len(rows) + 1} (line {line})"
        try:
            value = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BadInput(
                f"{place}: not JSON: {getattr(error, 'msg', error)}; one object stands on each line"
            ) from error
        if not isinstance(value, dict):
            raise BadInput(f"{place}: got a JSON {type(value).__name__}; accepted: an object of column: value")
        rows.append(value)
        where.append(place)
    return Table(tuple(dict.fromkeys(key for row in rows for key in row)), tuple(rows), tuple(where))


def _parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise BadInput("task.data: Parquet files need the extra 'parquet': pip install 'trimtab[parquet]'") from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise BadInput(f"task.data: {path.name} is no readable Parquet file ({type(error).__name__})") from error
    rows = tuple(table.to_pylist())
    _unique(table.column_names)
    return Table(tuple(table.column_names), rows, tuple(f"row {i + 1}" for i in range(len(rows))))


def _folder(path: Path) -> Table:
    """``CLASS/picture.png``, or ``train/CLASS/picture.png`` and ``test/CLASS/...``: columns image, answer, split."""
    found = sorted(one for one in path.rglob("*") if one.suffix.casefold() in PICTURES and one.is_file())
    parts = [one.relative_to(path).parts for one in found]
    depth = 3 if parts and all(len(one) == 3 for one in parts) else 2
    wrong = [one for one in parts if len(one) != depth]
    if not parts or wrong:
        got = f"{len(wrong)} of {len(parts)} pictures lie elsewhere" if parts else "no pictures"
        raise BadInput(f"task.data: {got}; an image folder holds CLASS/picture.png, or train/CLASS/picture.png and "
                       f"test/CLASS/picture.png (accepted: {', '.join(PICTURES)})")  # fmt: skip
    rows = [{"image": str(Path(*one)), "answer": one[-2]} | ({"split": one[0]} if depth == 3 else {}) for one in parts]
    return Table(tuple(rows[0]), tuple(rows), tuple(f"picture {i + 1}" for i in range(len(rows))))
