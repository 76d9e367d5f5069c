"""The sides of ``make bench-decode``: which files each reads, and with which settings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import LLAMACPP, OPENVINO, python_of
from trimtab import methods
from trimtab.load.artifact import write
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
    """``engine`` names a sweep; ``folder``: what its process reads; ``about``: what that is."""

    name: str
    engine: str
    python: Path
    folder: Path
    about: str

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


def ours(source: str, form: str, out: Path, calibration: Any) -> Path:
    """``source`` in one of our forms, written to ``out`` where it is not there."""
    if not (out / "trimtab.json").is_file():
        loaded = open_source(source, dtype="bfloat16")
        for parts, grid in OURS[form].items():
            name = "gptq" if grid["bits"] == 4 else "rtn"
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


def sides(model: str, dense: Path, gguf: Path, out: Path, calibration: Any) -> list[Side]:
    """Ours first. ``dense``: the model's folder in 16 bits, ``gguf``: the file that llama.cpp reads."""
    llama, vino = python_of(LLAMACPP, out / "llamacpp"), python_of(OPENVINO, out / "openvino")
    here, place = Path(sys.executable), out / model
    return [
        *(Side(f"ours, {form}", "ours", here, ours(f"builtin:{model}" if model == "gemma-3-270m" else str(dense), form,
                                                  place / form.replace(" ", "-"), calibration), form) for form in OURS),
        Side("transformers", "transformers", here, dense, "bfloat16"),
        Side("llama.cpp", "llama.cpp", llama, gguf, gguf.name),
        *(Side(f"OpenVINO {form}", "OpenVINO", vino, openvino(vino, dense, form, place / f"openvino-{form}"), form)
          for form in ("int4", "int8")),
    ]  # fmt: skip


def losses_of_openvino(side: Side, windows: Path) -> list[list[float]]:
    """Of an OpenVINO folder, by the engine under GenAI, which tells no logits."""
    found = subprocess.run([str(side.python), str(SIDES / "openvino_loss.py"), str(side.folder), str(windows)],
                           check=True, capture_output=True, text=True)  # fmt: skip
    made: list[list[float]] = json.loads(found.stdout.splitlines()[-1])
    return made
