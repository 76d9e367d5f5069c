"""Tokenizer and image processor of a folder, always with the PIL backend: torchvision's resize gives other pixels.

The library's processors of models that also see videos cannot be made without torchvision; here they are made without
their video processor, and refuse videos by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import transformers
from transformers import AutoProcessor, AutoTokenizer, Idefics3Processor, PreTrainedTokenizerBase
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from trimtab.core.errors import BadInput, Refused
from trimtab.load.checkpoint import read_json

BACKEND = "pil"
IMAGES = ("processor_config.json", "preprocessor_config.json")
NAMED = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")  # may name the class, in turn
STILLS = {"SmolVLMProcessor": Idefics3Processor}
"""In place of a processor that wants more packages than pictures need: one that writes pictures in the same words."""
WORDS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")


class Processors(NamedTuple):
    """``processor`` is the tokenizer itself for a model of text; ``backend`` is None where there are no images."""

    processor: Any
    tokenizer: Any
    backend: str | None


def open_processors(folder: Path, trust_remote_code: bool = False) -> Processors:
    """What ``folder`` holds of them; Nones where it holds none. Raises BadInput, naming the folder, if damaged."""
    sees = any((folder / name).is_file() for name in IMAGES)
    if not sees and not any((folder / name).is_file() for name in WORDS):
        return Processors(None, None, None)
    options = {"backend": BACKEND} if sees else {}
    try:
        kind = _class_of(folder) if sees else AutoTokenizer
        found = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code, **options)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise BadInput(f"{folder}: its processor or tokenizer cannot be loaded: {error}") from error
    tokenizer = found if isinstance(found, PreTrainedTokenizerBase) else getattr(found, "tokenizer", None)
    images = getattr(found, "image_processor", None)
    if images is None and not isinstance(found, PreTrainedTokenizerBase) and hasattr(found, "image_mean"):
        images = found
    return Processors(found, tokenizer, None if images is None else backend_of(images))


def _class_of(folder: Path) -> Any:
    """What opens the processor of ``folder``: the library's automatic class, or, where the class that the files name
    (else: that belongs to the model) wants a video processor, one without it."""
    found = (read_json(folder / name).get("processor_class") for name in NAMED if (folder / name).is_file())
    name = next((name for name in found if name), "") or _of_model(folder)
    if name in STILLS:
        return STILLS[name]
    kind = getattr(transformers, name, None)
    parts: list[str] = getattr(kind, "get_attributes", list)()
    return images_only(kind) if "video_processor" in parts else AutoProcessor


def _of_model(folder: Path) -> str:
    path = folder / "config.json"
    return PROCESSOR_MAPPING_NAMES.get(read_json(path).get("model_type", ""), "") if path.is_file() else ""


def images_only(kind: Any) -> Any:
    """The library's processor class ``kind`` of an image processor and a tokenizer, saved under the library's name.

    It does all that ``kind`` does with pictures and text. A call with ``videos`` raises BadInput.
    """

    class ImagesOnly(kind):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name != "video_processor"]

        def __call__(self, images: Any = None, text: Any = None, videos: Any = None, **options: Any) -> Any:
            if videos is not None:
                raise BadInput("videos: got some; accepted: images and text (videos are not supported)")
            return super().__call__(images=images, text=text, **options)

    ImagesOnly.__name__ = ImagesOnly.__qualname__ = kind.__name__
    return ImagesOnly


def backend_of(images: Any) -> str:
    """``pil``. Raises Refused for any other: figures measured with one backend do not hold for another."""
    found = str(getattr(images, "backend", "unknown"))
    if found != BACKEND:
        raise Refused(f"image backend: got {found!r} ({type(images).__name__}); accepted: {BACKEND!r}")
    return found
