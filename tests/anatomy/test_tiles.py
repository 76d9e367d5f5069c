"""What the tiled models take and refuse, and what becomes of their pictures on the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from oracle import Batch, close, make, untouched
from trimtab import anatomy as anatomies
from trimtab.anatomy import Anatomy, tiny
from trimtab.anatomy.loop import prefill
from trimtab.anatomy.trimmed import Trimmed
from trimtab.anatomy.vlm import owned
from trimtab.core.errors import BadInput
from trimtab.core.keep import Keep, share

TILED = ("llava-next", "llava-onevision", "llava-onevision-large")
ALL = (*TILED, "internvl", "internvl-layer")


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", ALL)
def test_tower_and_projector_alone_are_the_library_s_features(name: str) -> None:
    model, batch = make(name)
    shown = {key: batch[key] for key in ("pixel_values", "image_sizes", "batch_num_images") if key in batch}
    wanted = model.get_image_features(**shown, return_dict=True).pooler_output
    close(anatomies.of(model).features(batch), torch.cat([one.flatten(0, -2) for one in wanted]))


@pytest.mark.parametrize("name", TILED)
def test_tiles_that_only_fill_up_change_nothing(name: str) -> None:
    model, batch = make(name)
    anatomy = anatomies.of(model)
    wanted = prefill(anatomy, batch).logits
    real = [len(one[0]) // tiny.tiles.TILE**2 for one in anatomy.pictures(batch)]
    assert min(real) < max(real) == batch["pixel_values"].shape[1]
    for pixels, tiles in zip(batch["pixel_values"], real, strict=True):
        pixels[tiles:] = torch.nan
    assert torch.equal(prefill(anatomy, batch).logits, wanted)


@pytest.mark.parametrize("name", TILED)
def test_the_tiny_batches_are_as_awkward_as_they_say(name: str) -> None:
    model, batch = make(name)
    views = anatomies.of(model).views(batch)
    assert len({one.tokens for one in views}) >= 3 - (name == "llava-onevision")
    borders = {one.border for one in views}
    large = [
        one for one in views if one.size != (one.grid[0] * 3 - 2 * one.border[0], one.grid[1] * 3 - 2 * one.border[1])
    ]
    if name == "llava-onevision":
        assert [one.grid for one in views[:2]] == [(0, 0), (0, 0)]
        assert len(large) == 4
    else:
        assert any(top for top, _ in borders)
        assert any(left for _, left in borders)
        assert len(large) == (2 if name == "llava-onevision-large" else 0)


def copied(anatomy: Anatomy, batch: Batch, times: int) -> Batch:
    """What belongs to the pictures, as generate() expands it."""
    shown = {name: batch[name] for name in anatomy.INPUTS if name in batch}
    return anatomy.copies(batch["input_ids"], shown, times)


@pytest.mark.parametrize("name", ALL)
def test_with_every_copy_of_a_row_go_all_of_its_pictures(name: str) -> None:
    model, batch = make(name)
    anatomy = anatomies.of(model)
    words = {key: batch[key].repeat_interleave(3, 0) for key in ("input_ids", "attention_mask", "position_ids")}
    wanted = prefill(anatomy, batch).logits.repeat_interleave(3, 0)
    close(prefill(anatomy, words | copied(anatomy, batch, 3)).logits, wanted)


def test_prompts_whose_pictures_were_processed_one_by_one_are_copied_whole_too() -> None:
    """Two pictures of one row, each in tiles of its own: ``batch_num_images`` says nothing of rows then."""
    model, batch = make("llava-onevision-large")
    batch["batch_num_images"] = torch.ones(4, dtype=torch.long)
    anatomy = anatomies.of(model)
    found = copied(anatomy, batch, 2)
    assert found["batch_num_images"].tolist() == [1] * 8
    assert [found["image_sizes"][i].tolist() for i in range(4)] == batch["image_sizes"][[0, 1, 0, 1]].tolist()
    mixed, batch = make("llava-onevision")
    assert copied(anatomies.of(mixed), batch, 2)["batch_num_images"].tolist() == [4, 1, 1, 1, 1]


def test_pictures_belong_to_the_rows_that_hold_their_tokens() -> None:
    assert owned([4, 2, 3], [6, 0, 3]) == [[0, 1], [], [2]]
    assert owned([1, 1], [0, 2]) == [[], [0, 1]]
    assert owned([], [0]) == [[]]


@pytest.mark.parametrize("name", ALL)
def test_policies_drop_image_tokens_of_any_layout(name: str) -> None:
    model, batch = make(name)
    half = Keep(lambda sight: -sight.stream.source.float(), share(0.5))
    oracle, other = untouched(model), Trimmed(anatomies.of(model), [half])
    said = other.generate(**batch, max_new_tokens=3, do_sample=False)
    assert said.shape[0] == len(batch["input_ids"])
    assert not torch.equal(said, oracle.generate(**batch, max_new_tokens=3, do_sample=False))


def broken(batch: Batch, **changes: object) -> Batch:
    return {key: value for key, value in {**batch, **changes}.items() if value is not None}


@pytest.mark.parametrize("name", TILED)
def test_inputs_that_do_not_fit_one_another_are_named(name: str) -> None:
    model, batch = make(name)
    anatomy, pixels = anatomies.of(model), batch["pixel_values"]
    cases = (
        (broken(batch, image_sizes=None), "image_sizes none"),
        (broken(batch, image_sizes=batch["image_sizes"][:3]), r"image_sizes \(3, 2\)"),
        (broken(batch, pixel_values=pixels[:, 0]), r"got shape \(4, 3, 12, 12\)"),
        (broken(batch, pixel_values=pixels[:, :4]), "got 4 tiles a picture; image_sizes ask for 5"),
        (broken(batch, pixel_values=pixels[..., :8]), r"\(12, 8\); accepted: 12 x 12"),
    )
    for given, says in cases:
        with pytest.raises(BadInput, match=says):
            prefill(anatomy, given)


def test_videos_are_refused_by_name() -> None:
    for name in ALL:
        model, batch = make(name)
        anatomy = anatomies.of(model)
        with pytest.raises(BadInput, match="pixel_values_videos: got a video; accepted: pictures"):
            prefill(anatomy, {**batch, "pixel_values_videos": torch.randn(1, 2, 3, 12, 12)})
        with pytest.raises(BadInput, match="pixel_values_videos"):
            Trimmed(anatomy)(**batch, pixel_values_videos=torch.randn(1, 2, 3, 12, 12))


def test_onevision_names_what_it_does_not_know() -> None:
    model, batch = make("llava-onevision")
    anatomy = anatomies.of(model)
    with pytest.raises(BadInput, match="batch_num_images: got 3 pictures in all; pixel_values hold 4"):
        prefill(anatomy, {**batch, "batch_num_images": torch.tensor([2, 1])})
    for aspect in ("pad", "anyres", "anyres_max_", "anyres_max_0", "square"):
        model.config.vision_aspect_ratio = aspect
        with pytest.raises(BadInput, match=f"vision_aspect_ratio: got '{aspect}'"):
            prefill(anatomy, batch)


@pytest.mark.parametrize(
    ("name", "strategy"), [("llava-next", "full"), ("llava-onevision", "default"), ("internvl", "full")]
)
def test_features_that_are_no_square_of_patches_are_refused(name: str, strategy: str) -> None:
    model, batch = make(name)
    model.config.vision_feature_select_strategy = strategy
    with pytest.raises(BadInput, match=f"vision_feature_select_strategy: got '{strategy}'"):
        prefill(anatomies.of(model), batch)


@pytest.mark.parametrize("name", ALL)
def test_a_list_of_vision_layers_is_refused(name: str) -> None:
    model, _ = make(name)
    model.config.vision_feature_layer = [-2, -1]
    with pytest.raises(BadInput, match=r"vision_feature_layer: got \[-2, -1\]; accepted: one layer from -4 to 3"):
        anatomies.of(model)


def test_another_tower_than_siglip_is_refused() -> None:
    model, _ = make("llava-onevision")
    model.config.vision_config = make("llava-next")[0].config.vision_config
    with pytest.raises(BadInput, match=r"model\.vision_tower: got 'clip_vision_model'.*siglip_vision_model"):
        anatomies.of(model)
