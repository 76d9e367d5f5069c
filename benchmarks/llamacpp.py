"""``make bench-gguf``: GGUF files that Trimtab wrote, in llama.cpp itself beside the artifacts that they were made of.

    python benchmarks/llamacpp.py [--windows 24] [--length 512] [--every 32] [--questions 500] [--only NAME]
                                  [--out FOLDER]

Gemma 3 270M, and the built-in LLaVA with its tower and projector, each as it came and with its matrices rounded to 4
bits (symmetric, groups of 32; word table and head to 8), as artifacts, exported through the gate of every export. Then
llama.cpp (the package xllamacpp, in an environment of its own) and the artifact are asked the same: of the language
model the greedy next token at every 32nd place of windows of Python's language reference, of the VLM test questions
about pictures. What is as it came is the control: what llama.cpp does otherwise than we do with the same 16-bit
numbers. Writes docs/measured-gguf.md; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from jobs import SIDES
from peers import LLAMACPP, python_of
from trimtab import methods
from trimtab.data import text as texts
from trimtab.data.sample import Sample
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.metrics import metric
from trimtab.evaluate.prediction import graded
from trimtab.evaluate.prompt import placeholder, render
from trimtab.evaluate.shares import wilson
from trimtab.evaluate.vqa import longest, predict
from trimtab.export.deliver import deliver
from trimtab.load.artifact import read, write
from trimtab.load.loaded import Loaded
from trimtab.load.sources import open_source
from trimtab.measure.machine import facts
from trimtab.run.walk import walk

OUT = Path(__file__).resolve().parents[1] / "docs" / "measured-gguf.md"
BATCH, CONTEXT = 64, 2_048
MODELS = {
    "gemma-3-270m": ("builtin:gemma-3-270m", ("language",)),
    "easyvqa-llava": ("builtin:easyvqa-llava", ("vision", "projector", "language")),
}
"""By name: the source, and the parts whose matrices get 4 bits; word table and head get 8."""
ARMS = ("as it came", "4 bits")
MARKER = "<__media__>"
"""What stands for a picture in llama.cpp's prompts."""
HEAD = ("model", "arm", "MB", "equal greedy tokens", "log-probability apart, mean", "equal answers",
        "right in llama.cpp", "right here")  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """The same of every arm of a model: ``windows`` of token ids and the places in them, and ``questions``."""

    windows: list[list[int]]
    places: list[int]
    questions: list[Sample]


def asked_of(name: str, loaded: Loaded, given: argparse.Namespace) -> Asked:
    if loaded.image_backend is not None:
        return Asked([], [], samples(Task.parse({"dataset": "easyvqa"}), "test", given.questions))
    rows = texts.windows(texts.evaluation(), loaded.tokenizer, given.windows, given.length)
    return Asked(rows.tolist(), list(range(given.every, given.length, given.every)), [])


def artifact(name: str, arm: str, folder: Path) -> Loaded:
    """The model as the arm has it, written and read again."""
    source, parts = MODELS[name]
    loaded = open_source(source, dtype="bfloat16")
    if arm != ARMS[0]:
        for bits, targets in ((4, parts), (8, ("embedding", "head"))):
            walk(loaded.anatomy, (), methods.make("rtn", {"bits": bits, "group_size": 32, "symmetric": True}), targets)
    write(folder, loaded, {"recipe": {"benchmark": arm}})
    return read(folder, lowered=False)


def question(loaded: Loaded, one: Sample) -> dict[str, str]:
    """The prompt as the processor would have it but for the mark, and the picture as base64."""
    assert one.open is not None
    text, special = render(loaded.processor, one.question, 1)
    first = loaded.tokenizer.bos_token if special else ""
    kept = io.BytesIO()
    one.open().save(kept, "PNG")
    return {"prompt": (first or "") + text.replace(placeholder(loaded.processor), MARKER),
            "picture": base64.b64encode(kept.getvalue()).decode()}  # fmt: skip


def in_llamacpp(python: Path, loaded: Loaded, export: Path, asked: Asked, place: Path) -> dict[str, Any]:
    """What llama.cpp says to all of it. Raises CalledProcessError where its process fails."""
    eyes = export / "mmproj-model.gguf"
    job = {
        "model": str(export / "model.gguf"), "mmproj": str(eyes) if eyes.is_file() else None,
        "threads": torch.get_num_threads(), "context": CONTEXT, "windows": asked.windows, "places": asked.places,
        "questions": [question(loaded, one) for one in asked.questions],
        "longest": longest(loaded.processor, asked.questions),
    }  # fmt: skip
    (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
    with (place / "log.txt").open("w", encoding="utf-8") as log:
        done = subprocess.run([str(python), "-P", str(SIDES / "llamacpp.py"), str(place / "job.json")], check=True,
                              stdout=subprocess.PIPE, stderr=log, text=True)  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@torch.no_grad()
def tokens_beside(loaded: Loaded, asked: Asked, told: Sequence[Sequence[tuple[int, float]]]) -> dict[str, Any]:
    """How often both choose the same next token, and how far apart the log-probabilities of llama.cpp's choice are."""
    equal, apart = 0, []
    for ids, row in zip(asked.windows, told, strict=True):
        logits = loaded.library(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        for at, (token, logp) in zip(asked.places, row, strict=True):
            mine = logits[at - 1].float().log_softmax(0)
            equal += int(int(mine.argmax()) == token)
            apart.append(abs(float(mine[token]) - logp))
    return {"places": len(apart), "equal_tokens": equal, "apart": fmean(apart)}


def answers_beside(loaded: Loaded, asked: Asked, told: Sequence[str]) -> dict[str, Any]:
    """How many answers are the same to the letter, and how many are right on either side."""
    score = metric("exact")
    mine = list(predict(loaded.model, loaded.processor, asked.questions, batch_size=BATCH))
    theirs = [graded(one, text, score) for one, text in zip(asked.questions, told, strict=True)]
    equal = sum(a.text == b.text for a, b in zip(mine, theirs, strict=True))
    return {"questions": len(mine), "equal_answers": equal, "right_there": sum(one.correct for one in theirs),
            "right_here": sum(one.correct for one in mine)}  # fmt: skip


def measured(name: str, arm: str, python: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One row: trimmed, exported, asked."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        loaded = artifact(name, arm, folder / "artifact")
        made = deliver(folder / "artifact", "gguf", folder / "gguf")
        asked = asked_of(name, loaded, given)
        told = in_llamacpp(python, loaded, folder / "gguf", asked, folder)
        size = sum(path.stat().st_size for path in made.folder.glob("*.gguf"))
        row = {"model": name, "arm": arm, "bytes": size}
        row |= tokens_beside(loaded, asked, told["next"]) if asked.windows else {}
        row |= answers_beside(loaded, asked, told["answers"]) if asked.questions else {}
    print(row, flush=True)
    return row


def cells(row: dict[str, Any]) -> list[str]:
    """A line of the table."""

    def share(key: str, of: str) -> str:
        if key not in row:
            return ""
        low, high = wilson(row[key], row[of])
        return f"{row[key]} of {row[of]}, {100 * row[key] / row[of]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"

    return [row["model"], row["arm"], f"{row['bytes'] / 1e6:.1f}", share("equal_tokens", "places"),
            f"{row['apart']:.4f}" if "apart" in row else "", share("equal_answers", "questions"),
            share("right_there", "questions"), share("right_here", "questions")]  # fmt: skip


def page(table: Sequence[Sequence[str]], given: argparse.Namespace) -> str:
    """The kept file."""
    body = [HEAD, ["---", "---", "---:", *["---"] * (len(HEAD) - 3)], *table]
    return "\n".join([
        "# Measured: GGUF files in llama.cpp", "",
        f"Written by `make bench-gguf` on {datetime.now(UTC):%Y-%m-%d} on {facts().processor}, with "
        f"{', '.join(LLAMACPP.pins)}. Each artifact beside its own export, asked the same. `4 bits`: round-to-nearest "
        "in groups of 32, symmetric (`Q4_0` in the file), word table and head in 8 bits (`Q8_0`). `as it came` is the "
        "control: the same 16-bit numbers on both sides, here multiplied in bfloat16. llama.cpp rounds what it "
        "multiplies by quantized matrices to 8 bits, and resizes pictures in its own way. Intervals: 95 %, Wilson.", "",
        *("| " + " | ".join(line) + " |" for line in body), "",
    ])  # fmt: skip


def parsed() -> tuple[argparse.Namespace, bool]:
    """What was asked for, and whether it is the whole benchmark, whose table is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("windows", texts.WINDOWS), ("length", texts.LENGTH), ("every", 32), ("questions", 500)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--out", type=Path, default=Path("runs/bench-gguf"))
    given = parser.parse_args()
    return given, vars(given) == vars(parser.parse_args([])) | {"out": given.out}


def main() -> None:
    """All rows, the table, the kept page of a whole run, one line of JSON."""
    given, whole = parsed()
    given.out.mkdir(parents=True, exist_ok=True)
    python = python_of(LLAMACPP, given.out.resolve() / "llamacpp")
    rows = [measured(name, arm, python, given) for name in given.only for arm in ARMS]
    table = Table(*HEAD)
    for line in map(cells, rows):
        table.add_row(*line)
    Console(width=150).print(table)
    if whole:
        OUT.write_text(page(list(map(cells, rows)), given), encoding="utf-8")
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
