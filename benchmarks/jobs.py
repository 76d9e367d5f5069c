"""The jobs of ``make bench-quantize``, each in a process of its own, and what its weights are worth."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from trimtab.data import text as texts
from trimtab.evaluate.perplexity import losses
from trimtab.load.sources import open_source

SIDES = Path(__file__).resolve().parent / "sides"
WORDS = ("language",)
GRID: dict[str, Any] = {"group_size": 128, "symmetric": True, "targets": WORDS}
JOBS: dict[str, dict[str, Any]] = {
    "gptq4": GRID | {"method": "gptq", "bits": 4},
    "gptq3": GRID | {"method": "gptq", "bits": 3},
    "awq4": GRID | {"method": "awq", "bits": 4, "symmetric": False},
    "wanda": {"method": "wanda", "targets": WORDS},
    "full4": GRID | {"method": "gptq", "bits": 4, "targets": WORDS, "table": {"group_size": 16, "symmetric": False}},
}
AGAINST = {name: name for name in JOBS} | {"full4": "gptq4"}
"""The peers' job that each of ours is held against: none of them puts embedding and head on a 4-bit grid. ``table``:
what is otherwise for these. They are fitted first, and the layers on what comes out of them; every error of a word's
row goes through the whole model, so their groups are small."""


class Failed(Exception):
    """A side ended without its last line; says where it ended and what it said last."""


class Stopped(Failed):
    """A side took longer than it may."""


def tokens(text: str, tokenizer: Any, seed: int, path: Path, count: int, length: int) -> Path:
    """``count`` windows of ``length`` tokens at places drawn with ``seed``."""
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    places = torch.randint(0, len(ids) - length, (count,), generator=torch.Generator().manual_seed(seed))
    save_file({"input_ids": torch.stack([ids[at : at + length] for at in places.tolist()])}, path)
    return path


def run(
    python: Path, side: str, asked: dict[str, Any], folder: Path, environment: Mapping[str, str], limit: float | None
) -> dict[str, Any]:
    """One job in a process of its own; the folder that it wrote is taken away, its dense weights stay.

    Raises Failed where it ends otherwise than with status 0, and Stopped where it takes more than ``limit`` seconds.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    said = asked | {"out": str(folder / "out"), "dense": str(folder / "model.safetensors")}
    (folder / "job.json").write_text(json.dumps(said), encoding="utf-8")
    env = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(SIDES / "shared")}
    command = [str(python), "-P", str(SIDES / f"{side}.py"), str(folder / "job.json")]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        env |= {**environment, "BENCH_BEGUN": repr(time.time())}
        # in the job's folder, since GPTQModel writes a log where it is started
        try:
            done = subprocess.run(
                command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True, check=False, timeout=limit
            )
        except subprocess.TimeoutExpired as error:
            raise Stopped(f"stopped after {limit:.0f} s") from error
    if done.returncode:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        raise Failed(f"ended with status {done.returncode}: {last[:200]} (see {folder.name}/log.txt)")
    shutil.rmtree(folder / "out")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def scored(model: Path, weights: Path | None, text: str, folder: Path, count: int, length: int) -> list[float]:
    """Losses by window of ``model`` with the dense ``weights``, in bfloat16; the file is taken away."""
    place = model
    if weights is not None:
        place = folder / "scored"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(model, place, ignore=shutil.ignore_patterns("*.safetensors"))
        weights.rename(place / "model.safetensors")
    loaded = open_source(str(place), dtype="bfloat16")
    found = list(losses(loaded.library, texts.windows(text, loaded.tokenizer, count, length)))
    if weights is not None:
        shutil.rmtree(place)
    return found


def forward(model: Path, path: Path) -> float:
    """Seconds of one forward of the library itself over the calibration tokens, in batches of 8."""
    library, rows = open_source(str(model), dtype="bfloat16").library, load_file(path)["input_ids"]
    with torch.no_grad():
        library(rows[:8])
        begun = time.monotonic()
        for part in rows.split(8):
            library(part)
    return time.monotonic() - begun
