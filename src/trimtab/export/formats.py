"""The formats that an artifact can leave in, by name. A format's module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from trimtab.core.errors import Refused, unknown
from trimtab.core.linear import Host
from trimtab.core.weight import Weight
from trimtab.load.loaded import Loaded

CHECKS = Path(__file__).with_name("checks")


class Writer(Protocol):
    """What the module of a format has. ``ENGINE``: the package that its check imports."""

    ENGINE: str

    def refuse(self, loaded: Loaded) -> None:
        """Raises Refused for what the format cannot express, naming the linear, its form and the nearest it can."""

    def write(self, loaded: Loaded, folder: Path) -> None:
        """Fill the empty ``folder``: weights, config, tokenizer and processor files."""

    def notes(self, loaded: Loaded) -> Sequence[str]:
        """Sentences on what is written otherwise than it stands in the artifact; none where nothing is."""


class Rounding(Writer, Protocol):
    """A writer that rounds weights once more."""

    def instead(self, loaded: Loaded) -> list[tuple[Host, Weight]]:
        """Put what is written in the place of what was rounded; returns each host with what it held."""


@dataclass(frozen=True)
class Format:
    """``module`` has what ``Writer`` says. ``extra``: of pyproject.toml, which brings the engine; "" where none is
    needed. ``check``: the script beside it. ``about``: a line for the command's help. ``exact``: the engine calculates
    in float32 with our numbers (see ``gate``). ``coarse``: the module whose ``KQuants`` writes k-quants,
    "" where there are none."""

    module: str
    extra: str
    about: str
    exact: bool = False
    coarse: str = ""

    @property
    def check(self) -> Path:
        return CHECKS / f"{self.module.rpartition('.')[2]}.py"

    def load(self) -> Writer:
        return cast(Writer, import_module(self.module))

    def k_quants(self, loaded: Loaded) -> Rounding:
        """What writes ``loaded`` with k-quants, which are made here."""
        made: Rounding = import_module(self.coarse).KQuants(loaded)
        return made


FORMATS: dict[str, Format] = {
    "awq": Format("trimtab.export.awq", "", "AWQ's GEMM layout: 4-bit codes in the decoder", exact=True),
    "compressed-tensors": Format(
        "trimtab.export.compressed_tensors",
        "compressed",
        "a Hugging Face folder of codes for transformers, vLLM and SGLang",
        exact=True,
    ),
    "dense": Format("trimtab.export.dense", "", "a Hugging Face folder of dense weights, no smaller", exact=True),
    "gguf": Format(
        "trimtab.export.gguf",
        "gguf",
        "llama.cpp: model.gguf, and mmproj-model.gguf for a LLaVA's eyes",
        exact=True,
        coarse="trimtab.export.gguf.coarse",
    ),
    "onnx": Format("trimtab.export.onnx", "onnx", "graphs for onnxruntime, codes of 4 and 8 bits as they are"),
    "openvino": Format("trimtab.export.openvino", "openvino", "graphs for openvino, codes of 4 and 8 bits as they are"),
    "gptq": Format("trimtab.export.gptq", "", "GPTQ's layout: codes on one grid in the decoder", exact=True),
}


def get(name: str, k_quants: bool = False) -> Format:
    """Raises BadInput, with the nearest name, for a format that is not there; Refused where it should have k-quants and
    has none."""
    if name not in FORMATS:
        raise unknown("--format", name, FORMATS)
    if k_quants and not FORMATS[name].coarse:
        having = ", ".join(name for name, one in FORMATS.items() if one.coarse)
        raise Refused(f"--k-quants: --format {name} has none; accepted: --format {having}")
    return FORMATS[name]
