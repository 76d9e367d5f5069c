"""``make bench-vllm``: folders that Trimtab exported, in vLLM itself beside the artifacts that they were made of.

    python benchmarks/invllm.py [--windows 24] [--length 128] [--questions 200] [--only NAME ...] [--arms TEXT ...]
                                [--out FOLDER]

Gemma 3 270M and the built-in LLaVA, each in every format that vLLM reads, exported through the gate of every export.
Then vLLM (a build for CPUs, in an environment of its own) and the artifact are asked the same: the language model for
the loss and the likeliest token at every place of windows of Python's language reference, the VLM test questions about
pictures. What is dense is the control: what vLLM does otherwise than we do with the same 16-bit numbers. Writes
docs/measured-vllm.md; the last line is one JSON object. It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from exported import Asked, answers_beside, depends, in_vllm, windows_beside
from finished import Finished, digest
from peers import VLLM, python_of
from trimtab import methods
from trimtab.core.errors import Anomaly
from trimtab.data import text as texts
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.export.deliver import deliver
from trimtab.load.artifact import read, write
from trimtab.load.loaded import Loaded
from trimtab.load.sources import open_source
from trimtab.run.walk import walk
from vllmpage import HEAD, cells, page

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "docs" / "measured-vllm.md"
MEASURING = ("exported.py", "invllm.py", "sides/invllm.py")
TASK = "easyvqa-grid"
EVERY, DECODER = ("vision", "projector", "language", "head"), ("language",)
Arm = tuple[str, dict[str, Any] | None, tuple[str, ...], str]
ZEROS, EVEN = {"bits": 4, "group_size": 64}, {"bits": 4, "group_size": 64, "symmetric": True}
ARMS: dict[str, Arm] = {
    "dense": ("rtn", None, (), "dense"),
    "compressed-tensors, 4 bits with zeros, everywhere": ("rtn", ZEROS, EVERY, "compressed-tensors"),
    "compressed-tensors, 4 bits symmetric, everywhere": ("rtn", EVEN, EVERY, "compressed-tensors"),
    "compressed-tensors, w8a8, decoder": ("w8a8", {}, DECODER, "compressed-tensors"),
    "gptq, 4 bits symmetric, decoder": ("rtn", EVEN, DECODER, "gptq"),
    "awq, 4 bits with zeros, decoder": ("rtn", ZEROS, DECODER, "awq"),
}
"""By what the row is called: a method with its knobs on parts of the model, and the format. vLLM's kernels for CPUs
take no codes of 8 bits whose inputs stay as they are, no zeros in GPTQ's layout, and w8a8 in decoders only."""
LENGTH = 128
"""Of a window: vLLM ranks every word at every place, of which Gemma has 262,144."""
MODELS = ("easyvqa-llava", "gemma-3-270m")


def artifact(name: str, arm: Arm, folder: Path) -> Loaded:
    """The model as the arm has it, written and read again."""
    method, knobs, parts, _ = arm
    loaded = open_source(f"builtin:{name}", dtype="bfloat16")
    if knobs is not None:
        there = [part for part in parts if name == "easyvqa-llava" or part in DECODER]  # Gemma's head is its word table
        walk(loaded.anatomy, (), methods.make(method, knobs), there)
    write(folder, loaded, {"recipe": {"benchmark": [method, knobs]}})
    return read(folder, lowered=False)


def asked_of(loaded: Loaded, given: argparse.Namespace) -> Asked:
    """Questions for a model with eyes, windows of text for one without."""
    if loaded.image_backend is not None:
        return Asked([], [], {TASK: samples(Task.parse({"dataset": TASK}), "test", given.questions)})
    rows = texts.windows(texts.evaluation(), loaded.tokenizer, given.windows, given.length)
    return Asked(rows.tolist(), list(range(1, given.length)), {})


def measured(name: str, arm: str, python: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Rounded, exported, asked."""
    logs = given.out.resolve() / f"{name}-{arm.replace(', ', '-').replace(' ', '-')}"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        loaded = artifact(name, ARMS[arm], folder / "artifact")
        made = deliver(folder / "artifact", ARMS[arm][-1], folder / "exported")
        asked = asked_of(loaded, given)
        told = in_vllm(python, loaded, made.folder, asked, logs)
        row: dict[str, Any] = {"model": name, "arm": arm, "bytes": (made.folder / "model.safetensors").stat().st_size}
        if asked.windows:
            row |= {"asked": "text"} | windows_beside(loaded, asked, told["windows"])
        else:
            found = answers_beside(
                loaded, asked.questions[TASK], asked.longest(loaded.processor), told["answers"][TASK]
            )
            row |= {"asked": TASK} | found
    print(row, flush=True)
    return row


def main() -> None:
    """All rows, the table, the kept page of a whole run, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("windows", texts.WINDOWS), ("length", LENGTH), ("questions", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--arms", nargs="+", default=[""])
    parser.add_argument("--out", type=Path, default=Path("runs/bench-vllm"))
    given = parser.parse_args()
    whole = vars(given) == vars(parser.parse_args([])) | {"out": given.out}
    python = python_of(VLLM, given.out.resolve() / "vllm")
    kept, rows = Finished(given.out / "found.json"), []
    pins = (*VLLM.pins, str(VLLM.environment))
    on = depends(MEASURING, pins, given.windows, given.length, given.questions)
    for name in given.only:
        for arm in (arm for arm in ARMS if any(text in arm for text in given.arms)):
            key = digest(on, name, arm)
            try:
                rows.append(kept.get(key) or kept.put(key, measured(name, arm, python, given)))
            except Anomaly as error:  # the gate has taken the folder away again
                print(f"{name}, {arm}: {error}", flush=True)
                rows.append({"model": name, "arm": arm, "asked": None, "why": str(error)})
    table = Table(*HEAD)
    for line in map(cells, rows):
        table.add_row(*line)
    Console(width=160).print(table)
    if whole:
        OUT.write_text(page(list(map(cells, rows)), given, VLLM.packages[0]), encoding="utf-8")
    print(json.dumps({"engine": VLLM.packages[0], "rows": rows}))


if __name__ == "__main__":
    main()
