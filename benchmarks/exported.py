"""An artifact and what was exported of it, asked the same: what ``make bench-gguf`` and ``make bench-vllm`` compare."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import trimtab
from classlast import class_last
from finished import digest, digest_of_files
from jobs import SIDES
from peers import VLLM
from trimtab.core.errors import Anomaly
from trimtab.data.sample import Sample
from trimtab.evaluate.metrics import metric
from trimtab.evaluate.prediction import graded
from trimtab.evaluate.prompt import encode, placeholder, render
from trimtab.evaluate.ratio import of_windows
from trimtab.evaluate.vqa import longest, predict
from trimtab.load.loaded import Loaded
from trimtab.measure.machine import facts, versions

BATCH, CONTEXT = 64, 2_048


@dataclass(frozen=True)
class Asked:
    """The same of every arm of a model: ``windows`` of token ids and the places in them, or ``questions`` by task."""

    windows: Sequence[Sequence[int]]
    places: Sequence[int]
    questions: Mapping[str, Sequence[Sample]]

    def longest(self, processor: Any) -> int:
        """How many tokens an answer may have."""
        return longest(processor, [one for part in self.questions.values() for one in part])


def depends(measuring: Sequence[str], pins: Sequence[str], *asked: int) -> str:
    """Of all that a row depends on but for its model and arm: our sources, those of ``measuring`` here, the engine's
    ``pins``, this machine, and how much is ``asked``."""
    files = [*Path(trimtab.__file__).parent.rglob("*.py"), *(SIDES.parent / name for name in measuring)]
    return digest(digest_of_files(files), pins, versions(), facts().processor, asked)


def question(loaded: Loaded, one: Sample) -> dict[str, str]:
    """The prompt as the processor has it, less the token that the engines put before every text, and the picture."""
    assert one.open is not None
    text, _ = render(loaded.processor, one.question, 1)
    kept = io.BytesIO()
    one.open().save(kept, "PNG")
    return {"prompt": text.removeprefix(loaded.tokenizer.bos_token or ""), "placeholder": placeholder(loaded.processor),
            "picture": base64.b64encode(kept.getvalue()).decode()}  # fmt: skip


def in_llamacpp(python: Path, loaded: Loaded, export: Path, asked: Asked, place: Path) -> dict[str, Any]:
    """What llama.cpp says to all of it. Raises CalledProcessError where that fails."""
    eyes = export / "mmproj-model.gguf"
    more = {"model": str(export / "model.gguf"), "mmproj": str(eyes) if eyes.is_file() else None}
    return _in_engine(python, "llamacpp", _job(loaded, asked) | more, place, {})


def in_vllm(python: Path, loaded: Loaded, export: Path, asked: Asked, place: Path) -> dict[str, Any]:
    """What vLLM says to all of it. Raises CalledProcessError where that fails."""
    path = os.pathsep.join([str(SIDES / "shared"), str(SIDES / "torchvision_ops")])
    environment = {**VLLM.environment, "PYTHONPATH": path}
    return _in_engine(python, "invllm", _job(loaded, asked) | {"model": str(export)}, place, environment)


def _job(loaded: Loaded, asked: Asked) -> dict[str, Any]:
    """What every engine is asked."""
    return {
        "threads": torch.get_num_threads(), "context": CONTEXT, "windows": asked.windows, "places": asked.places,
        "questions": {task: [question(loaded, one) for one in part] for task, part in asked.questions.items()},
        "longest": asked.longest(loaded.processor),
    }  # fmt: skip


def _in_engine(python: Path, side: str, job: dict[str, Any], place: Path, more: Mapping[str, str]) -> dict[str, Any]:
    """The last line of ``side`` in a process of its own, whose log stays at ``place``."""
    (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
    with (place / "log.txt").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [str(python), "-P", str(SIDES / f"{side}.py"), str(place / "job.json")], check=True, text=True,
            env=os.environ | {"PYTHONPATH": str(SIDES / "shared")} | more, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@torch.no_grad()
def windows_beside(loaded: Loaded, asked: Asked, told: Sequence[Sequence[tuple[float, int]]]) -> dict[str, Any]:
    """Perplexity on either side at the places, their ratio by pairs of windows, and how often both would take the same
    next token."""
    here, there, equal = [], [], 0
    for ids, row in zip(asked.windows, told, strict=True):
        logits = loaded.library(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        before = logits[[at - 1 for at in asked.places]].float()
        wanted = torch.tensor([ids[at] for at in asked.places])
        here.append(float(torch.nn.functional.cross_entropy(before, wanted)))
        there.append(fmean(loss for loss, _ in row))
        equal += int((before.argmax(-1) == torch.tensor([token for _, token in row])).sum())
    ratio = of_windows(here, there)
    return {"places": len(here) * len(asked.places), "equal": equal, "perplexity": exp(fmean(here)),
            "perplexity_there": exp(fmean(there)), "ratio": ratio.value, "ratio_low": ratio.low,
            "ratio_high": ratio.high}  # fmt: skip


def answers_beside(
    loaded: Loaded, asked: Sequence[Sample], most: int, told: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """How many answers of at most ``most`` tokens are the same to the letter, and how many are right on either side.

    Raises Anomaly where a prompt has another length there: then the two were not asked the same.
    """
    ours, there = lengths(loaded, asked), [length for _, length in told]
    if ours != there:
        raise Anomaly(f"the other engine's prompts are of {there[:5]} tokens and so on, ours of {ours[:5]}")
    mine = predict(loaded.model, loaded.processor, asked, batch_size=BATCH, max_new_tokens=most)
    theirs = [graded(one, text, metric("exact")) for one, (text, _) in zip(asked, told, strict=True)]
    pairs = list(zip(mine, theirs, strict=True))
    return {"places": len(pairs), "equal": sum(a.text == b.text for a, b in pairs),
            "right": sum(a.correct for a, _ in pairs), "right_there": sum(b.correct for _, b in pairs)}  # fmt: skip


def equal_in_order(loaded: Loaded, asked: Sequence[Sample], most: int, told: Sequence[tuple[str, int]]) -> int:
    """How many answers are the same where our tower joins its tokens in llama.cpp's order."""
    with class_last(loaded):
        mine = predict(loaded.model, loaded.processor, asked, batch_size=BATCH, max_new_tokens=most)
        return sum(one.text == text for one, (text, _) in zip(mine, told, strict=True))


def lengths(loaded: Loaded, questions: Sequence[Sample]) -> list[int]:
    """How many tokens each prompt takes, its picture's among them."""
    found = []
    for one in questions:
        assert one.open is not None
        text, special = render(loaded.processor, one.question, 1)
        found.append(encode(loaded.processor, [text], [one.open()], special)["input_ids"].shape[1])
    return found
