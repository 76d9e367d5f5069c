"""The same questions on worse pictures: equal on both sides, compared answer by answer, kept under their names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small import SMALL

from trimtab.core.errors import BadInput
from trimtab.evaluate import vqa
from trimtab.evaluate.paired import drop
from trimtab.evaluate.prediction import Prediction
from trimtab.load.cache import entries
from trimtab.load.sources import open_source
from trimtab.run import baseline, quality, robustness
from trimtab.run.context import Context
from trimtab.run.folder import Folder
from trimtab.run.journal import Journal, append
from trimtab.run.recipe import Evaluate
from trimtab.run.start import resolve
from trimtab.run.views import View, corrupted, views


def context(model: Path, folder: Path, *settings: str) -> Context:
    _, recipe = resolve("quickstart", [*SMALL, f"model={model}", *settings])
    made = Folder(folder)
    made.create()
    return Context(recipe, "test", made, Journal(folder), loaded=open_source(str(model)))


def test_the_views_are_those_of_the_recipe_once_each(model_folder: Path, tmp_path: Path) -> None:
    at = context(model_folder, tmp_path, "evaluate.robust.corruptions=[blur, noise, blur]",
                 "evaluate.robust.severities=[1, 5, 1]")  # fmt: skip
    assert [view.name for view in views(at)] == ["missing", "blur1", "blur5", "noise1", "noise5"]
    at = context(model_folder, tmp_path / "none", "evaluate.robust={missing_image: false, corruptions: []}")
    assert views(at) == ()
    assert robustness.asked(at) == []
    assert robustness.measure(at, "before") == []
    assert robustness.compared(at) == []


def test_a_view_is_the_same_for_the_same_picture_and_seed_and_no_other() -> None:
    image = Image.effect_noise((80, 64), 60).convert("RGB")
    seen = corrupted("noise", 3, 0).show(image)
    assert corrupted("noise", 3, 0).show(image.copy()).tobytes() == seen.tobytes()
    assert corrupted("noise", 3, 1).show(image).tobytes() != seen.tobytes()
    grey = Image.new("RGB", (80, 64), (120, 120, 120))
    signs = [[one > 120 for one in corrupted("noise", severity, 0).show(grey).tobytes()] for severity in (2, 3)]
    assert 0.45 < sum(a == b for a, b in zip(*signs, strict=True)) / len(signs[0]) < 0.55, "drawn anew, not scaled"
    nearly = grey.copy()
    nearly.putpixel((0, 0), (120, 120, 121))
    one, other = (corrupted("noise", 3, 0).show(picture).tobytes() for picture in (grey, nearly))
    assert sum(a != b for a, b in zip(one, other, strict=True)) > 10_000, "each picture has noise of its own"
    occluded = {corrupted("occlusion", severity, 0).show(grey).tobytes() for severity in (3, 4)}
    assert len(occluded) == 2
    with pytest.raises(BadInput, match=r"noise\.severity: got 9"):
        corrupted("noise", 9, 0)


def test_both_sides_and_a_resumed_run_are_shown_the_same(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model is shown before, after, and by a run that was killed and goes on, pixel by pixel."""
    seen: dict[str, list[bytes]] = {}
    now = [""]
    original = vqa._images

    def spy(samples: Any, show: Any) -> list[Image.Image]:
        images = original(samples, show)
        seen.setdefault(now[0], []).extend(image.tobytes() for image in images)
        return images

    monkeypatch.setattr(vqa, "_images", spy)
    for name, when, folder in (("before", "before", "a"), ("after", "after", "a"), ("again", "before", "b")):
        now[0] = name
        robustness.measure(context(model_folder, tmp_path / folder, "evaluate.reuse=false"), when)
    assert seen["before"] == seen["after"] == seen["again"]
    assert len(seen["before"]) == 3 * 8
    by_view = [seen["before"][8 * at : 8 * at + 8] for at in range(3)]
    assert len({tuple(one) for one in by_view}) == 3
    broken = context(model_folder, tmp_path / "a")
    path = tmp_path / "a" / "state" / "answers" / "before-easyvqa.noise3.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:9])
    now[0] = "resumed"
    robustness.measure(broken, "before")
    assert seen["resumed"] == by_view[1]
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [json.loads(line) for line in lines]


def test_the_questions_are_a_part_of_those_asked_anyway(model_folder: Path, tmp_path: Path) -> None:
    at = context(model_folder, tmp_path, "evaluate.robust.limit=1000")
    assert [one.id for one in robustness.asked(at)] == [one.id for one in quality.asked(at, at.recipe.task)]
    few = context(model_folder, tmp_path / "few", "evaluate.robust.limit=5")
    assert len(robustness.asked(few)) == 5
    assert {one.id for one in robustness.asked(few)} < {one.id for one in robustness.asked(at)}
    text = context(model_folder, tmp_path / "text", "task={dataset: text, split: test}", "calibrate={dataset: text}",
                   "budget={}")  # fmt: skip
    assert robustness.asked(text) == []


def said(at: Context, when: str, view: View | None, right: list[int], names: list[str]) -> None:
    """Put answers into the journal, as if the model had given them."""
    path = at.folder.state / "answers" / f"{quality.label(when, at.recipe.task, view).replace(' ', '-')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    append(path, [{"id": name, "text": "x", "correct": bool(one), "score": float(one)}
                  for name, one in zip(names, right, strict=True)])  # fmt: skip


def test_rows_compare_the_same_questions_on_both_sides(model_folder: Path, tmp_path: Path) -> None:
    """Of 24 asked plainly in one order, the 8 of the views in theirs; after, noise was cut off after 6 of them."""
    at = context(model_folder, tmp_path)
    names = [one.id for one in robustness.asked(at)]
    whole = [one.id for one in quality.asked(at, at.recipe.task)][::-1]
    missing, noise, jpeg = views(at)
    said(at, "before", None, [1] * 24, whole)
    said(at, "after", None, [int(name != names[2]) for name in whole], whole)
    said(at, "before", missing, [1, 0, 1, 0, 1, 0, 1, 0], names)
    said(at, "after", missing, [1, 0, 1, 0, 1, 0, 1, 0], names)
    said(at, "before", noise, [1, 1, 1, 1, 1, 0, 1, 1], names)
    said(at, "after", noise, [0, 0, 0, 0, 1, 1], names[:6])
    said(at, "before", jpeg, [0, 0, 0, 1, 1, 1, 1, 1], names)
    said(at, "after", jpeg, [1, 1, 1, 1, 1, 1, 1, 1], names)
    rows = {row["view"]: row for row in robustness.compared(at)}
    assert list(rows) == ["clean", "missing", "noise3", "jpeg3"]
    assert [(row["before"], row["after"], row["change"]) for row in rows.values()] == [
        (1.0, 0.875, -0.125), (0.5, 0.5, 0.0), (pytest.approx(5 / 6), pytest.approx(2 / 6), pytest.approx(-0.5)),
        (0.625, 1.0, 0.375)]  # fmt: skip
    assert [row["flips"] for row in rows.values()] == [
        {"lost": 1, "gained": 0, "n": 8}, {"lost": 0, "gained": 0, "n": 8}, {"lost": 4, "gained": 1, "n": 6},
        {"lost": 0, "gained": 3, "n": 8}]  # fmt: skip
    old = [Prediction(str(i), "x", bool(one), float(one)) for i, one in enumerate([1, 1, 1, 1, 1, 0])]
    new = [Prediction(str(i), "x", bool(one), float(one)) for i, one in enumerate([0, 0, 0, 0, 1, 1])]
    found = drop(old, new, 0.025)
    assert (rows["noise3"]["low"], rows["noise3"]["high"]) == (-found.high, -found.low)
    assert rows["noise3"]["low"] < -0.5 < rows["noise3"]["high"]
    assert rows["jpeg3"]["low"] < 0.375 < rows["jpeg3"]["high"]
    for view, row in rows.items():
        for when in ("before", "after"):
            figure = at.figure(when, f"accuracy.easyvqa.{view}")
            assert figure is not None
            assert (figure["value"], figure["n"]) == (row[when], row["flips"]["n"])


def test_a_side_that_the_clock_ended_is_compared_as_far_as_it_went(model_folder: Path, tmp_path: Path) -> None:
    at = context(model_folder, tmp_path, "evaluate.batch_size=4", "evaluate.max_minutes=1e-9", "evaluate.reuse=false")
    quality.measure(at, "before", at.recipe.task)
    assert {one.n for one in robustness.measure(at, "before")} == {4}
    slow = replace(at, recipe=at.recipe.model_copy(update={"evaluate": Evaluate(robust=at.recipe.evaluate.robust,
                                                                               batch_size=4, limit=24)}))  # fmt: skip
    quality.measure(slow, "after", at.recipe.task)
    assert {one.n for one in robustness.measure(slow, "after")} == {4}
    assert {row["flips"]["n"] for row in robustness.compared(slow)} <= {1, 2, 3, 4}


def test_answers_of_the_untouched_model_are_kept_by_what_was_shown(model_folder: Path, tmp_path: Path) -> None:
    first_run = context(model_folder, tmp_path / "first")
    wanted = robustness.measure(first_run, "before")
    assert len(entries()) == 3
    second = context(model_folder, tmp_path / "second")

    def boom(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was asked")

    second.loaded.library.generate = second.loaded.library.forward = boom
    assert robustness.measure(second, "before") == wanted
    assert second.reused == ["before easyvqa.missing", "before easyvqa.noise3", "before easyvqa.jpeg3"]
    with pytest.raises(AssertionError, match="was asked"):
        robustness.measure(second, "after")
    other = context(model_folder, tmp_path / "other", "evaluate.robust.severities=[4]",
                    "evaluate.robust.missing_image=false")  # fmt: skip
    other.loaded.library.generate = other.loaded.library.forward = boom
    with pytest.raises(AssertionError, match="was asked"):
        robustness.measure(other, "before")


def test_what_is_shown_is_part_of_the_name_of_what_is_kept(model_folder: Path, tmp_path: Path) -> None:
    at = context(model_folder, tmp_path)
    chosen = robustness.asked(at)[:2]
    shown = [None, *views(at), corrupted("noise", 2, 0), corrupted("noise", 3, 1)]
    places = {baseline.of_samples(at, at.recipe.task, chosen, 3, view) for view in shown}
    assert len(places) == len(shown) == 6


def test_another_task_of_such_a_name_has_a_journal_of_its_own(model_folder: Path, tmp_path: Path) -> None:
    """``easyvqa-noise3`` may be a task beside; a view's journal has a dot, which no task's name can have."""
    at = context(model_folder, tmp_path)
    task = at.recipe.task.model_copy(update={"figure": "easyvqa-noise3"})
    names = [quality.label("before", task), quality.label("before", at.recipe.task, views(at)[1])]
    assert [name.replace(" ", "-") for name in names] == ["before-easyvqa-noise3", "before-easyvqa.noise3"]
