"""A task refuses what it does not know, and says what it is called here."""

from __future__ import annotations

import pytest

from trimtab.core.errors import BadInput
from trimtab.data.task import FOREIGN, FOREIGN_COLUMNS, Columns, Task


def test_builtin_gives_its_type_and_name() -> None:
    assert (Task(dataset="text").type, Task(dataset="easyvqa-grid").name) == ("text", "easyvqa-grid")
    assert Task(data="x.csv").name == "task"


def test_round_trip() -> None:
    task = Task.parse({"type": "classify", "data": "x.csv", "columns": {"image": "scan"}, "limit": 5, "seed": 2})
    assert Task.parse(task.model_dump(mode="json", exclude_none=True)) == task
    assert task.columns == Columns(image="scan")


@pytest.mark.parametrize("key", ["file", "path", "data_files", "image_column", "n", "num_examples"])
def test_foreign_names_are_answered(key: str) -> None:
    with pytest.raises(BadInput, match=rf"task\.{key}: unknown key \(here it is called '{FOREIGN[key]}'\)"):
        Task.parse({"data": "x.csv", key: "y"})


def test_foreign_tables_name_real_keys() -> None:
    known = set(Task.model_fields) | {f"columns.{name}" for name in Columns.model_fields}
    assert set(FOREIGN.values()) <= known
    assert not set(FOREIGN) & set(Task.model_fields)
    assert set(FOREIGN_COLUMNS.values()) <= set(Columns.model_fields)
    assert not set(FOREIGN_COLUMNS) & set(Columns.model_fields)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dataset": "easyvqa", "promt": "x"}, r"task\.promt: unknown key \(nearest: 'prompt'\)"),
        ({"data": "x.csv", "columns": {"label": "y"}}, r"task\.columns\.label: unknown key \(here .* 'answer'"),
        ({"dataset": "easyvqua"}, r"task\.dataset: got 'easyvqua' \(nearest: 'easyvqa'\).*'data:'"),
        ({"dataset": "easyvqa", "type": "vqaa"}, r"task\.type: got 'vqaa' \(nearest: 'vqa'\)"),
        ({"dataset": "easyvqa", "split": "tests"}, r"task\.split: got 'tests' \(nearest: 'test'\)"),
        ({"dataset": "easyvqa", "metric": "exac"}, r"nearest: 'exact'"),
        ({"dataset": "text", "type": "vqa"}, r"task\.type: got 'vqa'; the data set text is 'text'"),
        ({"dataset": "easyvqa", "data": "x.csv"}, "got both of 'dataset' and 'data'"),
        ({"type": "vqa"}, "got neither"),
        ({"dataset": "easyvqa", "limit": 0}, r"task\.limit: got 0"),
        ({"dataset": "easyvqa", "prompt": "{questoin}"}, r"placeholder \{questoin\}; accepted: \{question\}"),
        (["x"], "task: got list"),
    ],
)  # fmt: skip
def test_errors_name_the_key(given: object, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Task.parse(given)  # type: ignore[arg-type]
