"""Qwen-VL: places on the grid as the library counts them, windows, features of several depths, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor

from oracle import Batch, close, followed, library, make, untouched
from trimtab import anatomy as anatomies
from trimtab.anatomy import tiny
from trimtab.anatomy.decoder import DEEP, GRID
from trimtab.anatomy.grid import grid_of
from trimtab.anatomy.loop import prefill, step
from trimtab.anatomy.qwenvision import FRAMES, WINDOWS
from trimtab.anatomy.slots import Slots
from trimtab.anatomy.tiny import qwenvl
from trimtab.core.errors import BadInput
from trimtab.core.stats import IMAGE

NAMES = ("qwen2-vl", "qwen2.5-vl", "qwen3-vl")
each = pytest.mark.parametrize("name", NAMES)
either_side = pytest.mark.parametrize("padding", ["left", "right"])


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def prompts(padding: tiny.Padding, seed: int) -> Batch:
    """Rows of none to three pictures of 1 to 3 frames and up to 5 x 5 tokens, at the beginning, in the middle, at the
    end."""
    torch.manual_seed(seed)
    rows, sizes = [], []
    for count in (2, 0, 3, 1):
        row = tiny_words(int(torch.randint(0, 3, ())))
        for _ in range(count):
            size = [int(torch.randint(1, 4, ())), *(2 * torch.randint(1, 6, (2,))).tolist()]
            row += [tiny.IMAGE_TOKEN] * (prod(size) // 4) + tiny_words(int(torch.randint(1, 4, ())))
            sizes.append(size)
        rows.append(row or [5])
    rows[-1].pop()
    made = qwenvl.padded(rows, padding)
    marks = (made["input_ids"] == tiny.IMAGE_TOKEN).long()
    return made | {"mm_token_type_ids": marks, "image_grid_thw": torch.tensor(sizes)}


def tiny_words(count: int) -> list[int]:
    return torch.randint(3, 90, (count,)).tolist()


@each
@either_side
@pytest.mark.parametrize("seed", range(4))
def test_places_on_the_grid_are_the_library_s(name: str, padding: tiny.Padding, seed: int) -> None:
    model, _ = make(name)
    anatomy, batch = anatomies.of(model), prompts(padding, seed)
    wanted, past = model.model.get_rope_index(**batch)
    valid = batch["attention_mask"].bool()
    marks = batch.pop("mm_token_type_ids")
    for given in (batch, {**batch, "mm_token_type_ids": marks}):
        stream = anatomy.text(given)
        assert torch.equal(stream.side[GRID].permute(2, 0, 1)[:, valid], wanted[:, valid])
        assert stream.positions.tolist() == (valid.long().cumsum(1) - 1).masked_fill(~valid, 0).tolist()
    slots = Slots()
    sizes = batch["image_grid_thw"]
    pixels = torch.randn(int(sizes.prod(1).sum()), 24)
    prefill(anatomy, {**batch, "pixel_values": pixels}, slots=slots)
    assert torch.equal(slots.shift, past[:, 0])
    unmasked, _ = model.model.get_rope_index(batch["input_ids"], marks, sizes)
    whole = {key: value for key, value in batch.items() if key != "attention_mask"}
    assert torch.equal(anatomy.text(whole).side[GRID].permute(2, 0, 1), unmasked)


@each
def test_what_the_processor_marks_may_be_left_out(name: str) -> None:
    model, batch = make(name)
    wanted, valid = library(name, model, batch), batch["attention_mask"].bool()
    del batch["mm_token_type_ids"]
    close(prefill(anatomies.of(model), batch).logits[valid], wanted[valid])


@each
def test_positions_in_the_sequence_do_not_move_the_grid(name: str) -> None:
    model, batch = make(name)
    valid, anatomy = batch["attention_mask"].bool(), anatomies.of(model)
    wanted = library(name, model, batch)
    given = {**batch, "position_ids": 3 + (valid.long().cumsum(1) - 1).masked_fill(~valid, 0)}
    close(prefill(anatomy, given).logits[valid], wanted[valid])
    words = {key: value[1:2] for key, value in given.items() if key in ("input_ids", "attention_mask", "position_ids")}
    close(prefill(anatomy, words).logits[valid[1:2]], model(**words).logits[valid[1:2]])


@each
def test_a_conversation_goes_on_behind_the_grid(name: str) -> None:
    """The same answers from slots, several words at a time, as from the library for the whole conversation."""
    model, batch = make(name)
    oracle, anatomy, slots = untouched(model), anatomies.of(model), Slots()
    prefill(anatomy, batch, slots=slots)
    more = torch.randint(3, 90, (4, 7))
    found = [step(anatomy, more[:, :3], slots).logits, step(anatomy, more[:, 3:], slots).logits]
    close(torch.cat(found, 1), oracle(**followed(model, batch, more)).logits[:, -7:])


def test_windows_split_pictures_and_change_the_order_of_patches() -> None:
    model, batch = make("qwen2.5-vl")
    stream = anatomies.of(model).start(batch)
    frames, windows = (stream.about[name].diff().tolist() for name in (FRAMES, WINDOWS))
    assert frames == [h * w for t, h, w in qwenvl.SIZES for _ in range(t)]
    assert len(windows) > len(frames)
    assert max(windows) == 16  # 2 x 2 tokens of 2 x 2 patches
    assert sum(windows) == len(batch["pixel_values"])
    source = stream.source[0]
    assert sorted(source.tolist()) == list(range(len(source)))
    assert not torch.equal(source, torch.arange(len(source)))
    assert torch.equal(stream.x[0], batch["pixel_values"][source])


def test_what_is_added_behind_a_layer_is_nothing_for_words() -> None:
    model, batch = make("qwen3-vl")
    stream = anatomies.of(model).embed(batch)
    image = stream.kinds == IMAGE
    for index in range(2):
        added = stream.side[DEEP.format(index)]
        assert bool((added[~image] == 0).all())
        assert bool((added[image].abs().amax(1) > 0).all())
    assert DEEP.format(2) not in stream.side


def test_depths_are_taken_in_running_order_whatever_the_order_of_their_mergers() -> None:
    torch.manual_seed(1)
    model = qwenvl.qwen3_vl()
    for config in (model.config.vision_config, model.model.visual):
        config.deepstack_visual_indexes = [3, 1]
    tiny.randomize(model.eval())
    batch = qwenvl.batch(model, "left")
    wanted, valid = model(**batch).logits, batch["attention_mask"].bool()
    anatomy = anatomies.of(model)
    close(prefill(anatomy, batch).logits[valid], wanted[valid])
    names = [block.name for block in anatomy.blocks() if block.part == "projector"]
    place = "model.visual.deepstack_merger_list."
    assert names == [f"{place}1", f"{place}0", "model.visual.merger"]


@each
def test_pictures_apart(name: str) -> None:
    model, batch = make(name)
    found = anatomies.of(model).pictures(batch)
    assert len(found) == len(qwenvl.SIZES)
    first = 0
    for picture, (t, h, w) in zip(found, qwenvl.SIZES, strict=True):
        tiles = batch["pixel_values"][first : first + t * h * w]
        for channel in range(3):
            values = [float(v) for tile in tiles for v in tile.view(3, 8)[channel]]
            assert picture[channel].tolist() == pytest.approx(values)
        first += t * h * w
    assert anatomies.of(model).pictures({"input_ids": batch["input_ids"]}) == []


@each
def test_copies_of_rows_have_their_own_pictures(name: str) -> None:
    model, batch = make(name)
    anatomy = anatomies.of(model)
    shown = {key: batch[key] for key in anatomy.INPUTS}
    made = anatomy.copies(batch["input_ids"], shown, 2)
    twice = {key: batch[key].repeat_interleave(2, 0) for key in ("input_ids", "attention_mask")}
    logits = prefill(anatomy, batch).logits.repeat_interleave(2, 0)
    valid = twice["attention_mask"].bool()
    close(prefill(anatomy, twice | made).logits[valid], logits[valid])


REFUSED: list[tuple[Any, str]] = [
    ({"pixel_values_videos": torch.zeros(8, 24)}, "pixel_values_videos: got a video; accepted: pictures"),
    ({"video_grid_thw": torch.ones(1, 3).long()}, "video_grid_thw: got a video"),
    ({"image_grid_thw": None}, "image_grid_thw: got None"),
    ({"pixel_values": torch.zeros(131, 24)}, "pixel_values: got 131 patches; accepted: 132"),
    ({"image_grid_thw": torch.tensor([[1, 6, 4], [2, 2, 4], [1, 8, 4], [1, 6, 10]])}, "15 image tokens in row 2"),
    ({"position_ids": torch.zeros(3, 4, 22).long()}, r"position_ids: got shape \(3, 4, 22\); accepted: \(b, t\)"),
    ({"mm_token_type_ids": torch.full((4, 22), 2)}, "mm_token_type_ids: .*highest value 2; accepted"),
    ({"mm_token_type_ids": torch.zeros(4, 21).long()}, r"mm_token_type_ids: got shape \(4, 21\)"),
]


@each
@pytest.mark.parametrize(("change", "says"), REFUSED)
def test_what_cannot_be_done_is_refused_by_name(name: str, change: dict[str, Tensor], says: str) -> None:
    model, batch = make(name)
    with pytest.raises(BadInput, match=says):
        prefill(anatomies.of(model), {**batch, **change})


def test_a_whole_picture_less_is_noticed_and_two_in_one_run_as_well() -> None:
    model, batch = make("qwen2-vl")
    anatomy = anatomies.of(model)
    less = {**batch, "pixel_values": batch["pixel_values"][:-32], "image_grid_thw": batch["image_grid_thw"][:-1]}
    with pytest.raises(BadInput, match="8 image tokens in row 3 for a picture of 0 x 0 x 0"):
        prefill(anatomy, less)
    image = torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(BadInput, match="4 image tokens in row 0 for a picture of 1 x 2 x 1"):
        grid_of(image, image, [(1, 2, 1), (1, 2, 1)])
    assert grid_of(image, ~image, []).tolist() == [[[0, 0, 0]] * 4]
