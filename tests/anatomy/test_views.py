"""The arithmetic of tiles against the library's, on sizes that nobody would choose."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import (
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
)
from transformers.image_processing_utils import select_best_resolution

from trimtab.anatomy import tiny
from trimtab.anatomy.internvl import shuffled
from trimtab.anatomy.views import best_of, overview, pack, view
from trimtab.core.errors import BadInput

SIDE, TILE, WIDTH = 3, 12, 5
GRIDS = [[12 * rows, 12 * columns] for rows in range(1, 5) for columns in range(1, 5)]
FEW = [[12, 24], [24, 12], [24, 24], [36, 12]]


def sizes() -> list[tuple[int, int]]:
    """Seeded heights and widths, from ribbons to squares."""
    chance = random.Random(0)
    found = [(int(2 ** chance.uniform(0, 11)), int(2 ** chance.uniform(0, 11))) for _ in range(300)]
    return [*found, (1, 2000), (2000, 1), (7, 7), (1, 1), (24, 24), (12, 12), (36, 12), (12, 36), (35, 12)]


@pytest.mark.parametrize("grids", [GRIDS, FEW, FEW[::-1], [*FEW, *FEW]])
def test_the_best_grid_is_the_library_s(grids: list[list[int]]) -> None:
    for size in sizes():
        assert tuple(best_of(size, grids)) == tuple(select_best_resolution(size, grids)), size


@pytest.mark.parametrize("grids", [GRIDS, FEW])
@pytest.mark.parametrize("name", ["llava-next", "llava-onevision"])
def test_features_are_packed_as_the_library_packs_them(name: str, grids: list[list[int]]) -> None:
    model, _ = tiny.make(name)
    model.config.image_grid_pinpoints = grids
    newline, resized = torch.randn(WIDTH), 0
    for size in sizes():
        shown = view(size, grids, TILE, SIDE, tiny.tiles.MOST if name == "llava-onevision" else None)
        x = torch.randn(shown.tiles, SIDE**2, WIDTH)
        more = (
            {"vision_feature_select_strategy": "full"}
            if name == "llava-next"
            else {"vision_aspect_ratio": "anyres_max_2"}
        )
        (wanted,), _ = model.model.pack_image_features([x], torch.tensor([size]), image_newline=newline, **more)
        found = pack(x, shown, newline)
        assert torch.equal(found, wanted), size
        assert len(found) == shown.tokens
        resized += shown.size != (
            shown.grid[0] * SIDE - 2 * shown.border[0],
            shown.grid[1] * SIDE - 2 * shown.border[1],
        )
    assert bool(resized) == (name == "llava-onevision")


def test_an_overview_alone_ends_in_one_newline_as_in_the_library() -> None:
    model, _ = tiny.make("llava-onevision")
    x, newline = torch.randn(1, SIDE**2, WIDTH), torch.randn(WIDTH)
    (wanted,), _ = model.model.pack_image_features([x], torch.tensor([[7, 9]]), image_newline=newline)
    assert torch.equal(pack(x, overview(SIDE), newline), wanted)
    assert overview(SIDE).tokens == len(wanted) == SIDE**2 + 1
    assert overview(SIDE).tiles == 1


def test_as_many_tokens_as_the_library_s_processors_write() -> None:
    one = LlavaNextProcessor.__new__(LlavaNextProcessor)
    one.image_processor = LlavaNextImageProcessorPil(image_grid_pinpoints=GRIDS)
    one.patch_size, one.num_additional_image_tokens = TILE // SIDE, 0
    other = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    other.image_processor = LlavaOnevisionImageProcessorPil(image_grid_pinpoints=GRIDS)
    other.num_image_tokens, other.vision_aspect_ratio = SIDE**2, "anyres_max_4"
    for size in sizes():
        assert view(size, GRIDS, TILE, SIDE).tokens == one._get_number_of_features(*size, TILE, TILE), size
        assert view(size, GRIDS, TILE, SIDE, 4).tokens == other._get_number_of_features(*size, TILE, TILE), size


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_pixel_shuffle_is_the_library_s(factor: int) -> None:
    model, _ = tiny.make("internvl")
    x = torch.randn(2, 64, 4)
    wanted = model.model.pixel_shuffle(x.unflatten(1, (8, 8)), 1 / factor)
    assert torch.equal(shuffled(x, factor), wanted.flatten(1, 2))


def test_patches_that_cannot_be_shuffled_are_an_error() -> None:
    for patches, factor in ((36, 4), (35, 1), (25, 2)):
        with pytest.raises(BadInput, match=f"1/{factor} for {patches} patches"):
            shuffled(torch.randn(1, patches, 2), factor)
