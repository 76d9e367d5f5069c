"""A CLIP tower run on our side in the order in which llama.cpp's LLaVA graph takes a picture's tokens.

That graph puts the class token behind the patches, while its positions and the rows that it shows still count it as the
first: each patch gets its neighbour's position, the first patch is not shown, and the class token is, as the last
(ggml-org/llama.cpp, issue 25814, pull request 25844). What is left of a difference between the two sides when ours does
the same is not the graph's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from trimtab.anatomy.vision import VisionEmbeddings
from trimtab.load.loaded import Loaded


@contextmanager
def class_last(loaded: Loaded) -> Iterator[None]:
    """Until it ends the tower joins its tokens in llama.cpp's order. Raises ValueError without a class token."""
    towers = [module for module in loaded.anatomy.model.modules() if isinstance(module, VisionEmbeddings)]
    if not towers or any(tower.class_embedding is None for tower in towers):
        raise ValueError(f"{loaded.source.id}: its tower has no class token, so llama.cpp's order is ours")
    for tower in towers:
        vars(tower)["join"] = partial(joined, tower)
    try:
        yield
    finally:
        for tower in towers:
            del vars(tower)["join"]


def joined(tower: VisionEmbeddings, tiles: Tensor) -> Tensor:
    """[patches, class] + positions, where the tower itself has [class, patches]."""
    assert tower.class_embedding is not None
    found = tower.patch_embedding.linear(tiles)
    found = torch.cat([found, tower.class_embedding.expand(len(found), 1, -1)], 1)
    shifted: Tensor = found + tower.position_embedding.weight
    return shifted
