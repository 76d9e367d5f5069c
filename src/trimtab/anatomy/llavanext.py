"""LLaVA-NeXT (LLaVA 1.6): LLaVA whose pictures are shown as an overview and tiles, each picture in tiles of its own."""

from __future__ import annotations

from typing import ClassVar

from trimtab.anatomy.llava import Llava
from trimtab.anatomy.tiles import Tiled


class LlavaNext(Tiled):
    """Everything is in ``tiles.py``: CLIP's tower, and as many patches as a picture has."""

    NEEDS: ClassVar[tuple[str, ...]] = (*Llava.NEEDS, "model.image_newline")
    LOAD_AS: ClassVar[str] = "LlavaNextForConditionalGeneration with a CLIP tower and a Llama-like decoder"
