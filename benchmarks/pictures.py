"""The part of ``make bench-decode`` about pictures: an image in, a short answer out, beside other engines; an image or
a beginning that comes again; and what a token policy saves of the decoder's prompt."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import randoms
from peers import LLAMACPP, OPENVINO, python_of
from trimtab import methods
from trimtab.data.task import Task
from trimtab.data.tasks import samples
from trimtab.evaluate.prompt import placeholder, render
from trimtab.evaluate.ratio import of_repeats
from trimtab.export.deliver import deliver
from trimtab.load.artifact import write
from trimtab.load.builtin import builtin_folder
from trimtab.load.loaded import Loaded
from trimtab.load.sources import open_source
from trimtab.run.walk import walk
from trimtab.tokens import DivPrune
from worker import Ended, Worker

Rows = list[dict[str, Any]]
TILES = 10
"""Of a picture for SmolVLM: nine and the whole once more, 640 image tokens."""
PARTS = ("embedding", "head", "language", "projector", "vision")


@dataclass(frozen=True)
class Eyes:
    """A side that sees. ``settings``: what its process is given behind the folder and the threads."""

    name: str
    python: Path
    file: str
    folder: Path
    settings: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"": ()})
    asked: Mapping[str, Any] = field(default_factory=dict)

    def worker(self, setting: str, threads: int, log: Path) -> Worker:
        return Worker(self.python, self.file, [str(self.folder), str(threads), *self.settings[setting]], log)


@dataclass(frozen=True)
class Model:
    """``next`` makes a question about a new picture of ``tokens`` tokens, written below a folder; ``words`` are said to
    it; ``keep``: its policy's."""

    name: str
    next: Callable[[Path, int], dict[str, Any]]
    words: int
    keep: float
    tokens: int


def grid(place: Path, number: int) -> dict[str, Any]:
    """A question about a picture of the built-in data, as the built-in model's processor writes it."""
    sample, loaded = samples(Task.parse({"dataset": "easyvqa-grid"}), "test", number + 1)[number], builtin()
    assert sample.open is not None
    picture, (text, special) = sample.open(), render(loaded.processor, sample.question, 1)
    made = loaded.processor(text=[text], images=[[picture]], add_special_tokens=special, return_tensors="np")
    np.save(place / f"{number}.npy", made["pixel_values"])
    picture.save(place / f"{number}.png")
    return {"prompt": made["input_ids"][0].tolist(), "pixels": str(place / f"{number}.npy"),
            "picture": str(place / f"{number}.png"), "placeholder": placeholder(loaded.processor),
            "text": text.removeprefix(loaded.tokenizer.bos_token or "")}  # fmt: skip


@cache
def builtin() -> Loaded:
    return open_source("builtin:easyvqa-llava")


def tiled(place: Path, number: int) -> dict[str, Any]:
    """Noise in tiles, and words without meaning."""
    random = np.random.default_rng(number)
    np.save(place / f"{number}.npy", random.standard_normal((1, TILES, 3, randoms.SIDE, randoms.SIDE), np.float32))
    words = random.integers(5, 40_000, 24).tolist()
    return {"prompt": randoms.tiled(TILES, words), "pixels": str(place / f"{number}.npy")}


def ours(source: str, keep: float, bits: int, out: Path) -> Path:
    """Every matrix at ``bits``, rounded to nearest, and DivPrune; written to ``out`` where it is not there."""
    if not (out / "trimtab.json").is_file():
        loaded = open_source(source, dtype="bfloat16")
        walk(loaded.anatomy, (), methods.make("rtn", {"bits": bits, "group_size": 32, "symmetric": True}), PARTS)
        loaded.policies = [DivPrune(keep)]
        write(out, loaded, {"recipe": {"benchmark": "seeing"}})
    return out


def openvino(python: Path, source: Path, form: str, out: Path) -> Path:
    """As OpenVINO's own exporter writes it."""
    if not (out / "config.json").is_file():
        command = [str(python.with_name("optimum-cli")), "export", "openvino", "-m", str(source), "--task",
                   "image-text-to-text", "--weight-format", form, *(["--group-size", "64"] if form == "int4" else []),
                   str(out)]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return out


def gguf(artifact: Path, out: Path) -> Path:
    """The artifact's matrices for llama.cpp, through the export's own gate."""
    if not out.is_dir():
        deliver(artifact, "gguf", out, without_policies=True)
    return out


def sides(model: Model, out: Path) -> list[Eyes]:
    """Ours first."""
    here, place = Path(sys.executable), out / model.name
    vino = python_of(OPENVINO, out / "openvino")
    grid = model.name == "easyvqa-llava"
    dense = builtin_folder(model.name) if grid else randoms.smolvlm(place / "dense")
    source = f"builtin:{model.name}" if grid else str(dense)
    hints = {"": (json.dumps({}),), "f32": (json.dumps({"INFERENCE_PRECISION_HINT": "f32"}),)}
    made = [
        *(Eyes(f"ours, {bits} bits", here, "see_ours.py", ours(source, model.keep, bits, place / f"{bits}-bits"))
          for bits in (4, 8)),
        Eyes("transformers", here, "see_transformers.py", dense, {"sdpa": ("sdpa",), "eager": ("eager",)}),
        *(Eyes(f"OpenVINO {form}", vino, "see_openvino.py", openvino(vino, dense, form, place / f"openvino-{form}"),
               hints) for form in ("int4", "int8")),
    ]  # fmt: skip
    if grid:
        llama = python_of(LLAMACPP, out / "llamacpp")
        made.append(Eyes("llama.cpp 8 bits", llama, "see_llamacpp.py", gguf(place / "8-bits", place / "gguf")))
    return made


def chosen(side: Eyes, asked: Sequence[dict[str, Any]], words: int, threads: int, out: Path) -> str | None:
    """The setting with the least seconds for an answer; None where none runs."""
    found: dict[str, float] = {}
    for setting in side.settings:
        try:
            with side.worker(setting, threads, out / f"{side.name}-{setting}.log") as worker:
                each = [worker.ask(question(side, one, words)) for one in asked]
        except Ended as error:
            print(f"{side.name} {setting}: {error}", flush=True)
            continue
        found[setting] = median(one["first"] + one["after"] for one in each[1:])
    print(side.name, found, flush=True)
    return min(found, key=found.__getitem__) if found else None


def question(side: Eyes, asked: dict[str, Any], words: int, **more: Any) -> dict[str, Any]:
    policy = {"policy": "none", "memory": False} if side.file == "see_ours.py" else {}
    return asked | {"tokens": words} | policy | more


def timed(model: Model, rounds: int, threads: int, out: Path) -> Rows:
    """One row for each answer: every side on each new picture, ours also with its policy; then the same picture with
    another question, and the decoder's part alone by how much is kept."""
    place = out / model.name / "pictures"
    place.mkdir(parents=True, exist_ok=True)
    each = [model.next(place, number) for number in range(2 * rounds + 4)]
    every = [(side, chosen(side, each[:3], model.words, threads, out / "logs")) for side in sides(model, out)]
    rows: Rows = []
    with ExitStack() as stack:
        workers = [(side, stack.enter_context(side.worker(setting, threads, out / "logs" / f"{side.name}.log")))
                   for side, setting in every if setting is not None]  # fmt: skip
        for number, asked in enumerate(each[3 : 4 + rounds]):
            turn = number % len(workers)
            for side, worker in workers[turn:] + workers[:turn]:
                worker.ask(question(side, each[0], 1))  # a core that has waited is slow at first
                made = [("", {})] if side.file != "see_ours.py" else [("", {}), ("policy", {"policy": "stored"})]
                for name, more in made:
                    told = worker.ask(question(side, asked, model.words, **more))
                    rows.append({"side": side.name, "what": name, "number": number, "first": told["first"],
                                 "whole": told["first"] + told["after"], "resident": told["VmRSS"]})  # fmt: skip
        ours = [(side, worker) for side, worker in workers if side.file == "see_ours.py"]
        for number, asked in enumerate(each[4 + rounds :], 1):
            for side, worker in ours:
                rows += [{"side": side.name, "number": number, **row} for row in again(side, worker, asked, each[0])]
    return [row for row in rows if row["number"]]  # the first warms up


def again(side: Eyes, worker: Worker, asked: dict[str, Any], before: dict[str, Any]) -> Rows:
    """A picture that comes again with another question at its end, and the decoder's part alone."""
    other = asked | {"prompt": [*asked["prompt"][:-4], *reversed(asked["prompt"][-4:])]}
    worker.ask(question(side, before, 1))
    rows = [
        {"what": name, "first": worker.ask(question(side, given, 1, memory=memory))["first"]}
        for name, given, memory in (("new", asked, False), ("unknown", asked, True), ("again", other, True))
    ]
    for name, policy in (
        ("decoder", "none"),
        ("keep 1.0", 1.0),
        ("keep 0.25", 0.25),
        ("keep 1.0", 1.0),
        ("decoder", "none"),
    ):
        rows.append({"what": name, "first": worker.ask(question(side, asked, 1, policy=policy, prefill=True))["first"]})
    return rows


def compared(rows: Rows) -> dict[str, Any]:
    """Ratios of seconds, each with its lower 95 % bound, of our two forms beside the fastest other engine."""

    def of(side: str, what: str, key: str = "first") -> list[float]:
        return [row[key] for row in rows if row["side"] == side and row["what"] == what]

    mine = sorted({row["side"] for row in rows if row["side"].startswith("ours")})
    peers = sorted({row["side"] for row in rows} - set(mine))
    best = min(peers, key=lambda name: median(of(name, "", "whole")))
    made: dict[str, Any] = {"best_peer": best, "whole": {
        f"{name}{what and ', ' + what}": median(of(name, what, "whole")) for name in (*mine, *peers)
        for what in ("", "policy") if of(name, what, "whole")}}  # fmt: skip
    for name in mine:
        pairs = {
            "policy": (of(name, "policy", "whole"), of(best, "", "whole")),
            "equal": (of(name, "", "whole"), of(best, "", "whole")),
            "repeat": (of(name, "again"), of(name, "new")),
            "keep25": (of(name, "keep 0.25"), of(name, "decoder")),
            "keep100": (of(name, "decoder"), of(name, "keep 1.0")),
        }
        made[name] = {key: {"value": (found := of_repeats(*pair)).value, "low": found.low, "high": found.high}
                      for key, pair in pairs.items()}  # fmt: skip
    return made


MODELS = (Model("easyvqa-llava", grid, 4, 0.5, 256), Model("smolvlm-256m", tiled, 8, 0.25, TILES * randoms.TOKENS))


def main(rounds: int, threads: int, out: Path) -> dict[str, Any]:
    """By model what ``compared`` says."""
    found = {}
    for model in MODELS:
        rows = timed(model, rounds, threads, out)
        (out / model.name / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        found[model.name] = compared(rows)
        print(model.name, json.dumps(found[model.name]), flush=True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(main(6, 2, Path("runs/bench-decode").resolve())))
