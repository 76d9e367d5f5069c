"""Samples of built-in data sets and of a user's table."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trimtab.core.errors import BadInput, Refused
from trimtab.data import easyvqa, hashes
from trimtab.data.builtin import BUILTIN
from trimtab.data.inspect import inspect
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples

Row = dict[str, str]
Write = Callable[..., Path]
COLUMNS = {"image": "scan", "question": "ask", "answer": "said", "group": "patient"}


def _task(path: Path, **more: object) -> Task:
    return Task.parse({"type": "vqa", "data": str(path), "columns": COLUMNS, **more})


def test_easyvqa_is_the_published_test_split() -> None:
    found = samples(Task(dataset="easyvqa"))
    assert [(one.question, one.answer) for one in found] == [row[:2] for row in easyvqa.questions("test")]
    assert len(found) == BUILTIN["easyvqa"].splits["test"] == 9673
    chosen = [one.id for one in samples(Task(dataset="easyvqa", limit=2000))]
    inside = set(chosen)
    assert chosen == [one.id for one in found if one.id in inside]
    assert len(inside) == 2000
    assert {one.id for one in samples(Task(dataset="easyvqa", limit=500))} < inside
    assert found[0].open is not None
    assert found[0].open().size == (64, 64)


def test_grid_has_four_questions_a_collage_from_its_own_split() -> None:
    found = samples(Task(dataset="easyvqa-grid"))
    assert len(found) == BUILTIN["easyvqa-grid"].splits["test"] == 4000
    assert len({one.picture for one in found}) == 1000
    assert len({one.id for one in found}) == 4000
    assert found == samples(Task(dataset="easyvqa-grid"))
    assert found[5].open is not None
    assert found[5].open().size == (192, 192)
    sheet = found[5].open.__self__  # type: ignore[union-attr]
    assert sheet.split == "test"
    with pytest.raises(BadInput, match="easyvqa-grid: got 'validation'"):
        samples(Task(dataset="easyvqa-grid"), "validation")


def test_own_table_is_split_by_patient_whatever_the_order(table: Write, rows: list[Row]) -> None:
    task = _task(table(rows))
    train, test = samples(task, "train"), samples(task, "test")
    assert len(train) + len(test) == 24
    assert {one.group for one in train}.isdisjoint(one.group for one in test)
    assert len(test) == 16
    random.Random(0).shuffle(rows)
    again = samples(_task(table(rows)), "test")
    assert {one.id for one in again} == {one.id for one in test}
    few = {one.id for one in samples(task, "test", 5)}
    assert few == {one.id for one in samples(_task(table(rows)), "test", 5)}
    assert len(few) == 5
    assert test[0].open is not None
    assert test[0].open().size == (8, 8)


def test_without_groups_a_picture_is_not_divided(table: Write, rows: list[Row]) -> None:
    task = _task(table(rows), columns={key: COLUMNS[key] for key in ("image", "question", "answer")})
    sides = [{one.picture for one in samples(task, part)} for part in ("train", "test")]
    assert sides[0].isdisjoint(sides[1])


def test_split_column(table: Write, rows: list[Row]) -> None:
    for i, row in enumerate(rows):
        row["split"] = "train" if i < 12 else "test"
    assert len(samples(_task(table(rows)), "train")) == 12
    with pytest.raises(BadInput, match="got 'validation'; the data has 24 rows in: test, train"):
        samples(_task(table(rows)), "validation")
    rows[13]["patient"] = "patient 0"
    with pytest.raises(Refused, match=r"1 groups are in both .*row 1 \(line 2\) and row 14 \(line 15\)"):
        samples(_task(table(rows)))


@pytest.mark.parametrize(
    ("row", "column", "value", "said"),
    [
        (3, "scan", "secret.png", r"^row 4 \(line 5\): the file named in column 'scan' is not there"),
        (3, "scan", "", r"^row 4 \(line 5\): the column 'scan' is empty"),
        (3, "scan", "https://x.org/a.png", "web address"),
        (5, "said", " ", r"^row 6 \(line 7\): the column 'said' is empty; every row needs an answer"),
        (5, "ask", "", r"^row 6 \(line 7\): the column 'ask' is empty"),
        (5, "patient", "", r"^row 6 \(line 7\): the column 'patient' is empty"),
    ],
)
def test_bad_cells_are_named_by_row_and_not_shown(
    table: Write, rows: list[Row], row: int, column: str, value: str, said: str
) -> None:
    rows[row][column] = value
    with pytest.raises(BadInput, match=said) as error:
        samples(_task(table(rows)))
    assert "secret" not in str(error.value)


def test_twice_the_same_id(table: Write, rows: list[Row]) -> None:
    for i, row in enumerate(rows):
        row["number"] = str(i % 20)
    with pytest.raises(BadInput, match=r"row 21 \(line 22\): the same 'number' as row 1 \(line 2\)"):
        samples(_task(table(rows), columns=COLUMNS | {"id": "number"}))


def test_missing_columns_get_the_nearest(table: Write, rows: list[Row]) -> None:
    with pytest.raises(BadInput, match=r"task\.columns\.answer: the data has no column 'sayd' \(nearest: 'said'\)"):
        samples(_task(table(rows), columns=COLUMNS | {"answer": "sayd"}))
    with pytest.raises(BadInput, match=r"task\.columns\.image: the data has no column 'image'; it has: scan, ask"):
        samples(_task(table(rows), columns={}))
    with pytest.raises(BadInput, match="image_root: no folder"):
        samples(_task(table(rows), image_root="nowhere"))


def test_equal_rows_have_ids_of_their_own(table: Write, rows: list[Row]) -> None:
    rows += [dict(rows[0]), dict(rows[0])]
    ids = [one.id for part in ("train", "test") for one in samples(_task(table(rows)), part)]
    assert len(set(ids)) == 26


def test_image_folder_asks_by_prompt(folder: Path) -> None:
    for i in range(12):
        target = folder / "set" / ("cat" if i % 2 else "dog")
        target.mkdir(parents=True, exist_ok=True)
        (folder / f"p{i}.png").rename(target / f"{i}.png")
    asked = Task(type="vqa", data=str(folder / "set"), prompt="which animal?")
    assert {one.answer for one in samples(asked)} == {"cat", "dog"}
    assert len(samples(Task(type="classify", data=str(folder / "set")))) == 8
    with pytest.raises(BadInput, match=r"task\.prompt: missing; a folder of pictures asks no questions"):
        samples(Task(type="vqa", data=str(folder / "set")))


def test_several_answers(folder: Path) -> None:
    lines = [f'{{"image": "p{i}.png", "question": "q{i}?", "answer": ["a", "b", "b"]}}' for i in range(12)]
    (folder / "t.jsonl").write_text("\n".join(lines))
    one = samples(Task(data=str(folder / "t.jsonl")))[0]
    assert (one.answer, one.answers) == ("b", ("a", "b", "b"))


def test_inspect_guesses_columns_and_says_why(table: Write, rows: list[Row]) -> None:
    guess = inspect(table(rows))
    assert guess.columns == COLUMNS
    assert guess.type == "vqa"
    assert "one patient stay on one side" in guess.why["group"]
    assert guess.image_root is None
    task = Task.parse({"type": guess.type, "data": str(table(rows)), "columns": guess.columns})
    assert len(samples(task)) == 16


def test_inspect_finds_the_pictures_beside_the_file(table: Write, rows: list[Row], folder: Path) -> None:
    (folder / "scans").mkdir()
    for path in folder.glob("*.png"):
        path.rename(folder / "scans" / path.name)
    guess = inspect(table(rows))
    assert guess.image_root == str(folder / "scans")
    with pytest.raises(BadInput, match="none of the columns looks like answers"):
        inspect(table([{"scan": row["scan"]} for row in rows], "other.csv"))


def test_hashes_are_keyed_and_see_every_part(folder: Path) -> None:
    def one(question: str = "q", answer: str = "a", picture: int = 0) -> Sample:
        return Sample("x", question, answer, lambda: Image.open(folder / f"p{picture}.png"))

    key, other = hashes.new_key(), hashes.new_key()
    made = hashes.sample_hashes(key, [one(), one("q2"), one(answer="b"), one(picture=1), one("qa", "")])
    assert len(set(made)) == 5
    assert made[0] == hashes.sample_hash(key, one()) != hashes.sample_hash(other, one())
