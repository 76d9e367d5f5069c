"""The sides of ``make bench-decode``: which files each reads, and with which settings."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finished import digest
from peers import LLAMACPP, OPENVINO, python_of
from trimtab import methods
from trimtab.export import gguf
from trimtab.load.artifact import read, write
from trimtab.load.cache import new_folder
from trimtab.load.sources import open_source
from trimtab.run.walk import walk
from worker import SIDES, Worker

THREADS = 2
LLAMA: dict[str, Any] = {"threads": THREADS, "context": 2304, "ubatch": 512, "flash": "AUTO", "swa_full": False}
GENAI = {"INFERENCE_NUM_THREADS": THREADS}
SWEEP: Mapping[str, Mapping[str, Any]] = {
    "transformers": {"sdpa": "sdpa", "eager": "eager"},
    "llama.cpp": {"as it is": LLAMA, "flash attention": LLAMA | {"flash": "ENABLED"},
                  "no flash attention": LLAMA | {"flash": "DISABLED"}, "2,048 at once": LLAMA | {"ubatch": 2048}},
    "OpenVINO": {"as it is": GENAI, "bf16": GENAI | {"INFERENCE_PRECISION_HINT": "bf16"},
                 "f32": GENAI | {"INFERENCE_PRECISION_HINT": "f32"},
                 "inputs by 32": GENAI | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"},
                 "inputs as they are": GENAI | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"},
                 "cache in bf16": GENAI | {"KV_CACHE_PRECISION": "bf16"}},
}  # fmt: skip
"""By engine and what a setting is called. All run on as many threads."""
OURS: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "near-lossless": {"embedding head": {"bits": 8, "group_size": 128}, "language": {"bits": 8, "group_size": 128}},
    "4 bits": {"embedding head": {"bits": 4, "group_size": 16}, "language": {"bits": 4, "group_size": 32}},
}
"""Our two forms: the grid of each part. 8 bits to nearest, 4 bits by GPTQ as the tier ``best`` has it."""


@dataclass(frozen=True)
class Side:
    """``engine`` names a sweep; ``folder``: what its process reads; ``about``: what that is; ``bits`` of its
    weights."""

    name: str
    engine: str
    python: Path
    folder: Path
    about: str
    bits: int = 16

    def worker(self, setting: Any, log: Path) -> Worker:
        """A process that has loaded it."""
        if self.engine == "ours":
            return Worker(self.python, "decode_ours.py", [str(self.folder), str(THREADS)], log)
        if self.engine == "transformers":
            return Worker(self.python, "decode_transformers.py", [str(self.folder), str(THREADS), setting], log)
        file = {"llama.cpp": "decode_llamacpp.py", "OpenVINO": "decode_openvino.py"}[self.engine]
        return Worker(self.python, file, [str(self.folder), json.dumps(setting)], log)

    @property
    def settings(self) -> Mapping[str, Any]:
        return SWEEP.get(self.engine, {"": None})


def ours(source: str, form: str, out: Path, calibration: Any = None) -> Path:
    """``source`` in one of our forms, written to ``out`` where it is not there; without ``calibration`` to nearest."""
    if not (out / "trimtab.json").is_file():
        loaded = open_source(source, dtype="bfloat16")
        for parts, grid in OURS[form].items():
            name = "gptq" if grid["bits"] == 4 and calibration is not None else "rtn"
            walk(loaded.anatomy, calibration(loaded) if name == "gptq" else (), methods.make(name, grid), parts.split())
        write(out, loaded, {"recipe": {"benchmark": form}})
    return out


def openvino(python: Path, source: Path, form: str, out: Path) -> Path:
    """``source`` as OpenVINO's own exporter writes it, in its own environment."""
    if not (out / "openvino_model.bin").is_file():
        command = [str(python.with_name("optimum-cli")), "export", "openvino", "-m", str(source),
                   "--task", "text-generation-with-past", "--weight-format", form, str(out)]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return out


def sides(source: str, dense: Path, files: Mapping[str, Path], out: Path, calibration: Any = None) -> list[Side]:
    """Ours first. ``dense``: the model's folder in 16 bits, ``files``: what llama.cpp reads, by what it is called."""
    llama, vino = python_of(LLAMACPP, out.parent / "llamacpp"), python_of(OPENVINO, out.parent / "openvino")
    here = Path(sys.executable)
    return [
        *(Side(f"ours, {form}", "ours", here, ours(source, form, out / digest(OURS[form]), calibration), form,
               OURS[form]["language"]["bits"]) for form in OURS),
        Side("transformers", "transformers", here, dense, "bfloat16"),
        *(Side(f"llama.cpp {name}".strip(), "llama.cpp", llama, file, file.name, 8 if "8" in name else 4)
          for name, file in files.items()),
        *(Side(f"OpenVINO {form}", "OpenVINO", vino, openvino(vino, dense, form, out / f"openvino-{form}"), form,
               int(form[3:])) for form in ("int4", "int8")),
    ]  # fmt: skip


def files_of(dense: Path, out: Path) -> dict[str, Path]:
    """``dense`` rounded to nearest, for llama.cpp: Q8_0 and Q4_0."""
    made = {"Q8_0": out / "gguf-8" / "model.gguf", "Q4_0": out / "gguf-4" / "model.gguf"}
    for bits, file in zip((8, 4), made.values(), strict=True):
        if not file.is_file():
            loaded = open_source(dense, dtype="bfloat16")
            grid = {"bits": bits, "group_size": 32, "symmetric": True}
            walk(loaded.anatomy, (), methods.make("rtn", grid), ["embedding", "head", "language"])
            with tempfile.TemporaryDirectory() as place, new_folder(file.parent) as fresh:
                write(Path(place) / "artifact", loaded, {"recipe": {"benchmark": bits}})
                gguf.write(read(Path(place) / "artifact", lowered=False), fresh)
    return made


def losses_of_openvino(side: Side, windows: Path) -> list[list[float]]:
    """Of an OpenVINO folder, by the engine under GenAI, which tells no logits."""
    found = subprocess.run([str(side.python), str(SIDES / "openvino_loss.py"), str(side.folder), str(windows)],
                           check=True, capture_output=True, text=True)  # fmt: skip
    made: list[list[float]] = json.loads(found.stdout.splitlines()[-1])
    return made
