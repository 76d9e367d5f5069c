"""The calibration audit, counted by hand on tiny models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.core.errors import Refused
from trimtab.quantize import GPTQ
from trimtab.run import audit as audits
from trimtab.run.audit import Counts, audit, count, expected, measured
from trimtab.run.targets import select
from trimtab.run.walk import walk

PARTS = ("language", "vision", "projector", "head")


def llava() -> tuple[Any, dict[str, Tensor]]:
    model, batch = tiny.make("llava")
    return anatomies.of(model), batch


def test_tokens_and_pictures_are_counted() -> None:
    anatomy, batch = llava()
    counts = count(anatomy, [batch, batch])
    image = 2 * int((batch["input_ids"] == tiny.IMAGE_TOKEN).sum())
    valid = 2 * int(batch["attention_mask"].sum())
    assert counts == Counts(
        8, valid - image, image, 2 * int((batch["attention_mask"] == 0).sum()), 8, 0, 8 * tiny.PATCHES
    )
    assert counts.image_share == pytest.approx(image / valid)
    assert counts.pictures_per_sample == 1.0


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
def test_pictures_that_fill_a_row_and_patches_that_fill_a_picture_count_as_none(name: str) -> None:
    model, batch = tiny.make(name)
    counts = count(anatomies.of(model), [batch])
    assert (counts.samples, counts.pictures, counts.blank) == (4, 4, 0)
    assert counts.image == 4 * 4
    assert counts.patches == 4 * 4 + 3 * 4 + 2 * 4 + 4 * 1  # whole, 10 x 16, 8 x 13, 16 x 3 pixels of 16 x 16


def test_blank_pictures_count_as_none() -> None:
    anatomy, batch = llava()
    pixels = batch["pixel_values"].clone()
    pixels[1] = torch.tensor([0.3, -1.2, 2.0])[:, None, None]
    pixels[2] = 0.5
    pixels[2, 0, 3, 3] = 0.6
    counts = count(anatomy, [{**batch, "pixel_values": pixels}])
    whole = count(anatomy, [batch])
    assert (counts.pictures, counts.blank) == (4, 1)
    assert counts.image_share == pytest.approx(whole.image_share * 3 / 4)
    assert counts.pictures_per_sample == pytest.approx(3 / 4)


def test_pictures_that_the_processor_dropped_are_refused() -> None:
    anatomy, batch = llava()
    words = torch.where(batch["input_ids"] == tiny.IMAGE_TOKEN, 7, batch["input_ids"])
    without = {key: value for key, value in batch.items() if key != "pixel_values"}
    cut = {**batch, "input_ids": batch["input_ids"].clone()}
    cut["input_ids"][cut["input_ids"] == tiny.IMAGE_TOKEN] = torch.tensor([tiny.IMAGE_TOKEN] * 35 + [7])
    cases = (
        (without, "36 image tokens for 0 p"),
        ({**batch, "input_ids": words}, "0 image tokens for 4 p"),
        (cut, "35"),
    )
    for broken, says in cases:
        with pytest.raises(Refused, match=f"batch 1: .*{says}"):
            count(anatomy, [batch, broken])


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("llava", PARTS),
        ("clip", PARTS),
        ("bert", ("language", "head")),
        ("qwen2-vl", PARTS[:3]),  # its head is the embedding
        ("qwen2.5-vl", PARTS),
        ("qwen3-vl", PARTS),
        ("siglip", PARTS),
        ("siglip-vision", ("vision", "projector")),
        ("idefics3", PARTS),
        *((name, PARTS[:3]) for name in ("gemma3-vision", "paligemma", "paligemma2", "smolvlm")),  # the head is tied
        *((name, PARTS) for name in ("llava-next", "llava-onevision", "llava-onevision-large", "internvl-layer")),
        ("dinov2", ("vision",)),
    ],
)
def test_what_is_expected_is_what_the_walk_sees(name: str, parts: tuple[str, ...]) -> None:
    """Pooled linears (projections of CLIP, heads of SigLIP, the pooler of BERT) see one row for each picture or
    text."""
    model, batch = tiny.make(name)
    anatomy = anatomies.of(model)
    names = select(anatomy, parts)
    pixels = batch.get("pixel_values")
    tiles = len(pixels.flatten(0, -4)) if pixels is not None and pixels.ndim > 3 else 0
    guess = {row["name"]: row for row in expected(anatomy, count(anatomy, [batch]), names)}
    seen = measured(anatomy, walk(anatomy, [batch], GPTQ(4, 8), parts))
    assert {row["name"] for row in seen} == set(guess)
    for row in seen:
        other = guess[row["name"]]
        assert (row["part"], row["width"], row["text"]) == (other["part"], other["width"], other["text"])
        slack = tiles if row["part"] == "vision" else 0  # the class token of each
        assert 0 <= row["image"] - other["image"] <= slack


def test_calibration_like_the_task_passes() -> None:
    anatomy, batch = llava()
    counts = count(anatomy, [batch] * 3)
    done = audit(counts, counts, expected(anatomy, counts, select(anatomy, PARTS)))
    assert (done.verdict, done.samples, done.shortfalls) == ("passed", 12, ())
    assert done.image_share == done.task_image_share > 0.4


@pytest.mark.parametrize("share", [0.51, 0.49])
def test_less_than_half_of_the_tasks_pictures_is_refused(share: float) -> None:
    task = Counts(100, 1000, 1000, 0, 100, 0, 1000)
    few = round(100 * share)
    tokens = round(2000 * share / 2)
    counts = Counts(100, 2000 - tokens, tokens, 0, few, 0, tokens)
    if share > 0.5:
        assert audit(counts, task, []).verdict == "passed"
        return
    with pytest.raises(Refused, match=r"24\.5% of calibration and 50\.0% of the task(.|\n)*0\.49 pictures per sample"):
        audit(counts, task, [])
    assert audit(counts, task, [], allow="text_only").verdict == "overridden"


def test_one_picture_in_128_samples_and_blank_ones_are_refused() -> None:
    task = Counts(128, 1280, 1280, 0, 128, 0, 1280)
    with pytest.raises(Refused, match=r"0\.01 pictures per sample"):
        audit(Counts(128, 2550, 10, 0, 1, 0, 10), task, [])
    with pytest.raises(Refused, match=r"128 of 128 pictures are blank"):
        audit(Counts(128, 1280, 1280, 0, 128, 128, 1280), task, [])


def test_a_linear_that_sees_fewer_rows_than_its_width_is_named() -> None:
    counts = Counts(4, 40, 20, 0, 4, 0, 20)
    rows = {"text": 40, "image": 20, "video": 0, "padding": 9}
    language = {"name": "layers.0.down", "part": "language", "width": 64, **rows}
    vision = {"name": "tower.fc", "part": "vision", "width": 64, "text": 0, "image": 20, "video": 0, "padding": 0}
    assert audit(counts, counts, [{**language, "width": 60}]).verdict == "passed"
    with pytest.raises(Refused, match=r"layers\.0\.down sees 60 rows, 4 fewer"):
        audit(counts, counts, [language])
    with pytest.raises(Refused, match=r"layers\.0\.down"):
        audit(counts, counts, [language], allow="text_only")
    with pytest.raises(Refused, match=r"tower\.fc sees 20 rows, 44 fewer(.|\n)*text_only"):
        audit(counts, counts, [vision])
    assert audit(counts, counts, [vision], allow="text_only").shortfalls[0].startswith("tower.fc")


def test_a_text_model_needs_no_pictures() -> None:
    model, batch = tiny.make("llama")
    anatomy = anatomies.of(model)
    counts = count(anatomy, [batch] * 2)
    assert (counts.image, counts.pictures, counts.image_share) == (0, 0, 0.0)
    assert audit(counts, counts, expected(anatomy, counts, select(anatomy, ["language"]))).verdict == "passed"
    assert audits.NOT_NEEDED.verdict == "not needed"


def test_pictures_are_counted_where_no_words_stand_for_them() -> None:
    model, batch = tiny.make("clip")
    counts = count(anatomies.of(model), [batch])
    assert (counts.samples, counts.pictures, counts.image) == (3, 3, 3 * tiny.PATCHES)


def test_tiles_that_only_fill_up_are_no_part_of_a_picture() -> None:
    model, batch = tiny.make("llava-next")
    anatomy = anatomies.of(model)
    sizes = [one.shape for one in anatomy.pictures(batch)]
    assert sizes == [(3, tiles * 12 * 12) for tiles in (3, 4, 5, 5)]
    batch["pixel_values"][0, :3] = 0.5
    batch["pixel_values"][1, :4] = -1.0
    batch["pixel_values"][1, 3, 2, 5, 5] = 1.0
    counts = count(anatomy, [batch])
    assert (counts.pictures, counts.blank, counts.patches) == (4, 1, (3 + 4 + 5 + 5) * tiny.PATCHES)
    assert counts.image == int((batch["input_ids"] == tiny.IMAGE_TOKEN).sum())


def test_a_tower_by_itself_is_counted_by_its_pictures() -> None:
    model, batch = tiny.make("dinov2")
    counts = count(anatomies.of(model), [batch, batch])
    assert counts == Counts(6, 0, 6 * tiny.PATCHES, 0, 6, 0, 6 * tiny.PATCHES)
