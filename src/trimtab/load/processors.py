"""Tokenizer and image processor of a folder, always with the PIL backend: torchvision's resize gives other pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoProcessor, AutoTokenizer, Idefics3Processor, PreTrainedTokenizerBase

from trimtab.core.errors import BadInput, Refused
from trimtab.load.checkpoint import read_json

BACKEND = "pil"
IMAGES = ("processor_config.json", "preprocessor_config.json")
STILLS = {"SmolVLMProcessor": Idefics3Processor}
"""In place of processors whose half for video needs torchvision: one that writes pictures in the same words."""
WORDS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")


class Processors(NamedTuple):
    """``processor`` is the tokenizer itself for a model of text; ``backend`` is None where there are no images."""

    processor: Any
    tokenizer: Any
    backend: str | None


def open_processors(folder: Path, trust_remote_code: bool = False) -> Processors:
    """What ``folder`` holds of them; Nones where it holds none. Raises BadInput, naming the folder, if damaged."""
    kinds: list[Any] = [_kind(folder)] if any((folder / name).is_file() for name in IMAGES) else []
    kinds += [AutoTokenizer] if not kinds and any((folder / name).is_file() for name in WORDS) else []
    if not kinds:
        return Processors(None, None, None)
    options = {} if kinds[0] is AutoTokenizer else {"backend": BACKEND}
    try:
        found = kinds[0].from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code, **options
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise BadInput(f"{folder}: its processor or tokenizer cannot be loaded: {error}") from error
    tokenizer = found if isinstance(found, PreTrainedTokenizerBase) else getattr(found, "tokenizer", None)
    images = getattr(found, "image_processor", None)
    if images is None and not isinstance(found, PreTrainedTokenizerBase) and hasattr(found, "image_mean"):
        images = found
    return Processors(found, tokenizer, None if images is None else backend_of(images))


def _kind(folder: Path) -> Any:
    """What opens the processor that the folder names."""
    for name in IMAGES:
        if (folder / name).is_file() and (found := read_json(folder / name).get("processor_class")):
            return STILLS.get(found, AutoProcessor)
    return AutoProcessor


def backend_of(images: Any) -> str:
    """``pil``. Raises Refused for any other: figures measured with one backend do not hold for another."""
    found = str(getattr(images, "backend", "unknown"))
    if found != BACKEND:
        raise Refused(f"image backend: got {found!r} ({type(images).__name__}); accepted: {BACKEND!r}")
    return found
