"""Files that are no tables are refused with the row that shows it, and without its content."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trimtab.core.errors import BadInput
from trimtab.data import tables


def _write(tmp_path: Path, data: bytes | str, name: str = "t.csv") -> Path:
    (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return tmp_path / name


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_with_quotes_newlines_and_marks(tmp_path: Path, mark: str) -> None:
    path = _write(tmp_path, f'\ufeffa{mark}b\r\n"x\ny{mark}z"{mark}1\r\n\r\né{mark}2\r\n')
    table = tables.read(path)
    assert table.columns == ("a", "b")
    assert table.rows == ({"a": f"x\ny{mark}z", "b": "1"}, {"a": "é", "b": "2"})
    assert table.where == ("row 1 (line 2)", "row 2 (line 5)")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a,b\n1,2\ncaf\xe9,3\n", r"row 2 \(line 3\): byte 0xe9 is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\n1,2\n1\n", r"row 2 \(line 3\): 1 cells under 2 column names"),
        ("a,b\n1,2,3\n", r"row 1 \(line 2\): 3 cells under 2"),
        ('a,b\n1,2\n"open,3\n', r"row 2 \(line 3\): .*quotation mark"),
        ("a,a\n1,2\n", "'a' stands twice"),
        ("a,b\n", "has no rows"),
        ("", "is empty"),
        (b"a,b\n1,\x00\n", "line 2: a zero byte"),
    ],
)
def test_csv_errors_name_the_row(tmp_path: Path, data: bytes | str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        tables.read(_write(tmp_path, data))


def test_jsonl(tmp_path: Path) -> None:
    path = _write(tmp_path, '{"a": 1}\n\n{"b": ["x", "y"], "a": null}\n', "t.jsonl")
    table = tables.read(path)
    assert table.columns == ("a", "b")
    assert table.rows[1] == {"b": ["x", "y"], "a": None}
    assert table.where == ("row 1 (line 1)", "row 2 (line 3)")


@pytest.mark.parametrize(
    ("line", "said"),
    [("{", r"row 2 \(line 2\): not JSON"), ("[1]", r"row 2 \(line 2\): got a JSON list"), ("[" * 100_000, "not JSON")],
)
def test_jsonl_errors_name_the_row(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        tables.read(_write(tmp_path, json.dumps({"a": 1}) + "\n" + line, "t.jsonl"))


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.table({"q": ["x", "y"], "a": [["1", "2"], ["3"]]}), tmp_path / "t.parquet")
    table = tables.read(tmp_path / "t.parquet")
    assert table.rows == ({"q": "x", "a": ["1", "2"]}, {"q": "y", "a": ["3"]})
    with pytest.raises(BadInput, match="no readable Parquet file"):
        tables.read(_write(tmp_path, b"PAR1 no", "bad.parquet"))


def test_parquet_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"pip install 'trimtab\[parquet\]'"):
        tables.read(_write(tmp_path, b"", "t.parquet"))


def test_unknown_kinds_and_missing_files(tmp_path: Path) -> None:
    path = _write(tmp_path, "a\n1\n", "answers.csv")
    with pytest.raises(BadInput, match=r"got '\.xlsx'.*accepted: \.csv"):
        tables.read(_write(tmp_path, "", "t.xlsx"))
    with pytest.raises(BadInput, match=r"no file or folder .*nearest: 'answers\.csv'"):
        tables.read(path.with_name("answer.csv"))


def test_image_folder(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.JPG", "dog/1.png", "dog/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    table = tables.read(tmp_path)
    assert [row["answer"] for row in table.rows] == ["cat", "cat", "dog"]
    assert table.columns == ("image", "answer")
    (tmp_path / "stray.png").write_bytes(b"")
    with pytest.raises(BadInput, match="1 of 4 pictures lie elsewhere"):
        tables.read(tmp_path)


def test_image_folder_with_splits(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "test/dog/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    assert [(row["split"], row["answer"]) for row in tables.read(tmp_path).rows] == [("test", "dog"), ("train", "cat")]
    with pytest.raises(BadInput, match="no pictures"):
        tables.read(tmp_path / "train" / "cat" / "..") if not (tmp_path / "train/cat/1.png").unlink() else None
