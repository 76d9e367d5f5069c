"""Tokenizer and image processor of a folder, always with the PIL backend: torchvision's resize gives other pixels.

Processors that also read videos do so with torchvision; they are opened without that half, and refuse videos by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from transformers import CONFIG_MAPPING, AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from trimtab.core.errors import BadInput, Refused
from trimtab.load.checkpoint import read_json

BACKEND, VIDEO = "pil", "video_processor"
IMAGES = ("processor_config.json", "preprocessor_config.json")
WORDS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")


class Processors(NamedTuple):
    """``processor`` is the tokenizer itself for a model of text; ``backend`` is None where there are no images."""

    processor: Any
    tokenizer: Any
    backend: str | None


def open_processors(folder: Path, trust_remote_code: bool = False) -> Processors:
    """What ``folder`` holds of them; Nones where it holds none. Raises BadInput, naming the folder, if damaged."""
    kinds: list[Any] = [AutoProcessor] if any((folder / name).is_file() for name in IMAGES) else []
    kinds += [AutoTokenizer] if not kinds and any((folder / name).is_file() for name in WORDS) else []
    if not kinds:
        return Processors(None, None, None)
    options = {"backend": BACKEND} if kinds[0] is AutoProcessor else {}
    try:
        kind = _class_of(folder) if kinds[0] is AutoProcessor else kinds[0]
        found = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code, **options)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise BadInput(f"{folder}: its processor or tokenizer cannot be loaded: {error}") from error
    tokenizer = found if isinstance(found, PreTrainedTokenizerBase) else getattr(found, "tokenizer", None)
    images = getattr(found, "image_processor", None)
    if images is None and not isinstance(found, PreTrainedTokenizerBase) and hasattr(found, "image_mean"):
        images = found
    return Processors(found, tokenizer, None if images is None else backend_of(images))


def _class_of(folder: Path) -> Any:
    """The library's own choice, or, where the model's processor also reads videos, that processor without them."""
    name = read_json(folder / "config.json").get("model_type") if (folder / "config.json").is_file() else None
    if name not in CONFIG_MAPPING:
        return AutoProcessor
    kind = PROCESSOR_MAPPING.get(CONFIG_MAPPING[name], None)
    return stills(kind) if kind is not None and VIDEO in kind.get_attributes() else AutoProcessor


def stills(kind: type[ProcessorMixin]) -> Any:
    """A processor class, under its own name, without its video processor. It raises Refused for videos."""

    class Stills(kind):
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in kind.get_attributes() if name != VIDEO]

        def __call__(self, images: Any = None, text: Any = None, videos: Any = None, **more: Any) -> Any:
            if videos is not None:
                raise Refused(f"videos: {kind.__name__} got some; accepted: pictures (images)")
            return super().__call__(images=images, text=text, **more)

    Stills.__name__ = kind.__name__
    return Stills


def backend_of(images: Any) -> str:
    """``pil``. Raises Refused for any other: figures measured with one backend do not hold for another."""
    found = str(getattr(images, "backend", "unknown"))
    if found != BACKEND:
        raise Refused(f"image backend: got {found!r} ({type(images).__name__}); accepted: {BACKEND!r}")
    return found
