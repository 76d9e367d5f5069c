"""``make bench-gguf``: GGUF files that Trimtab wrote, in llama.cpp itself beside the artifacts that they were made of.

    python benchmarks/llamacpp.py [--windows 24] [--length 512] [--every 8] [--questions 200] [--only NAME ...]
                                  [--arms NAME ...] [--out FOLDER]

Gemma 3 270M, and the built-in LLaVA with its tower and projector, each as it came and with its matrices rounded to 4
bits, the LLaVA also to 8 (symmetric, groups of 32; word table and head to 8), as artifacts, exported through the gate
of every export. Then llama.cpp (the package xllamacpp, in an environment of its own) and the artifact are asked the
same: the language model for the loss and the likeliest token at every 8th place of windows of Python's language
reference, the VLM test questions about pictures. What is as it came is the control: what llama.cpp does otherwise than
we do with the same 16-bit numbers. Writes docs/measured-gguf.md; the last line is one JSON object, with llama.cpp's
tokens a second. It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from exported import Asked, answers_beside, depends, equal_in_order, in_llamacpp, windows_beside
from finished import Finished, digest
from ggufpage import HEAD, NAMES, cells, page, said
from peers import LLAMACPP, python_of
from trimtab import methods
from trimtab.data import text as texts
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.export.deliver import deliver
from trimtab.load.artifact import read, write
from trimtab.load.loaded import Loaded
from trimtab.load.sources import open_source
from trimtab.run.walk import walk

MODELS = {"easyvqa-llava": ("vision", "projector", "language"), "gemma-3-270m": ("language",)}
"""By the built-in source's name: the parts whose matrices get an arm's bits. Word table and head get 8."""
ARMS = {"as it came": None, "8 bits": 8, "4 bits": 4}
TABLES = ("embedding", "head")
PLAN = {"easyvqa-llava": tuple(ARMS), "gemma-3-270m": ("as it came", "4 bits")}
"""By model: its arms. 8 bits say nothing of the larger one that the control and 4 bits do not."""
HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "docs" / "measured-gguf.md"
MEASURING = ("exported.py", "classlast.py", "llamacpp.py", "sides/llamacpp.py", "sides/shared/completion.py")


def artifact(name: str, bits: int | None, folder: Path) -> Loaded:
    """The model as the arm has it, written and read again."""
    loaded = open_source(f"builtin:{name}", dtype="bfloat16")
    if bits is not None:
        for width, targets in ((bits, MODELS[name]), (8, TABLES)):
            method = methods.make("rtn", {"bits": width, "group_size": 32, "symmetric": True})
            walk(loaded.anatomy, (), method, targets)
    write(folder, loaded, {"recipe": {"benchmark": bits}})
    return read(folder, lowered=False)


def asked_of(loaded: Loaded, given: argparse.Namespace) -> Asked:
    """Questions for a model with eyes, windows of text for one without."""
    if loaded.image_backend is not None:
        tasks = [name for name in NAMES if name != "text"]
        return Asked([], [], {name: samples(Task.parse({"dataset": name}), "test", given.questions) for name in tasks})
    rows = texts.windows(texts.evaluation(), loaded.tokenizer, given.windows, given.length)
    return Asked(rows.tolist(), list(range(given.every, given.length, given.every)), {})


def measured(name: str, arm: str, python: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Rounded, exported, asked: a row for each thing that is asked."""
    logs = given.out / f"{name}-{arm.replace(' ', '-')}"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        loaded = artifact(name, ARMS[arm], folder / "artifact")
        made = deliver(folder / "artifact", "gguf", folder / "gguf")
        asked = asked_of(loaded, given)
        told = in_llamacpp(python, loaded, made.folder, asked, logs)
        size = sum(path.stat().st_size for path in made.folder.glob("*.gguf"))
        row, most = {"model": name, "arm": arm, "bits": ARMS[arm], "bytes": size}, asked.longest(loaded.processor)
        rows = [row | {"asked": task} | answers_beside(loaded, part, most, told["answers"][task])
                | {"equal_in_order": equal_in_order(loaded, part, most, told["answers"][task])}
                for task, part in asked.questions.items()]  # fmt: skip
        if asked.windows:
            speed = {"tokens_per_second": told["tokens_per_second"]}
            rows.append(row | {"asked": "text"} | windows_beside(loaded, asked, told["windows"]) | speed)
    print(rows, flush=True)
    return rows


def parsed() -> tuple[argparse.Namespace, bool]:
    """What was asked for, and whether it is the whole benchmark, whose table is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("windows", texts.WINDOWS), ("length", texts.LENGTH), ("every", 8), ("questions", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--out", type=Path, default=Path("runs/bench-gguf"))
    given = parser.parse_args()
    return given, vars(given) == vars(parser.parse_args([])) | {"out": given.out}


def main() -> None:
    """All rows, the table, the kept page of a whole run, one line of JSON."""
    given, whole = parsed()
    python = python_of(LLAMACPP, given.out.resolve() / "llamacpp")
    kept, on, rows = (
        Finished(given.out / "found.json"),
        depends(MEASURING, LLAMACPP.pins, given.windows, given.length, given.every, given.questions),
        [],
    )
    for name in given.only:
        for arm in (arm for arm in PLAN[name] if arm in given.arms):
            key = digest(on, name, arm)
            rows += kept.get(key) or kept.put(key, measured(name, arm, python, given))
    table = Table(*HEAD)
    for line in map(cells, rows):
        table.add_row(*line)
    Console(width=200).print(table)
    if whole:
        OUT.write_text(page(list(map(cells, rows)), given, LLAMACPP.packages[0]), encoding="utf-8")
    print(json.dumps({"engine": LLAMACPP.packages[0], **said(rows), "rows": rows}))


if __name__ == "__main__":
    main()
