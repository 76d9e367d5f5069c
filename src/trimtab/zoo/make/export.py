"""From a training state to ``builtin:easyvqa-llava``: rounded to bf16, saved in the Hugging Face layout, measured.

The figures of the card are those of the saved, rounded weights on the published test split and on test collages, by
exact match of greedy answers (see ``batch.score``). The blind control answers each question with its commonest training
answer, without looking.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from trimtab.data import easyvqa, grid
from trimtab.zoo.make import batch, build
from trimtab.zoo.make.card import card

Scores = list[tuple[str, bool]]
Jobs = list[tuple[Any, list[batch.Asked]]]


def rounded(state: Path) -> tuple[LlavaForConditionalGeneration, LlavaProcessor, dict[str, str]]:
    """The averaged weights of a training state in bf16, the processor, and where training stood."""
    processor = build.processor()
    net = build.model(processor.tokenizer)
    with safe_open(state, "pt") as file, torch.no_grad():
        for name, value in net.named_parameters():
            value.copy_(file.get_tensor(f"mean.{name}"))
        where = file.metadata()
    return net.to(torch.bfloat16).eval(), processor, where


def evaluate(net: LlavaForConditionalGeneration, processor: LlavaProcessor, collages: int = 1000) -> dict[str, Scores]:
    """Every published test question, and 10 questions on each of ``collages`` test collages."""
    jobs: dict[str, Jobs] = {"easyvqa": [], "easyvqa-grid": []}
    by_picture: dict[int, list[batch.Asked]] = defaultdict(list)
    for question, given, number in easyvqa.questions("test"):
        kind = "yes/no" if given in ("yes", "no") else "shape" if given in easyvqa.SHAPES else "color"
        by_picture[number].append((kind, question, given))
    for number, asked in by_picture.items():
        jobs["easyvqa"].append((easyvqa.picture("test", number), asked))
    for index in range(collages):
        sheet = grid.collage("test", index)
        asked = grid.pose(sheet.seen, 10, random.Random(f"grid/questions/test/{index}"))
        jobs["easyvqa-grid"].append((sheet, asked))
    return {name: _score(net, processor, rows) for name, rows in jobs.items()}


def _score(net: LlavaForConditionalGeneration, processor: LlavaProcessor, rows: Jobs, size: int = 50) -> Scores:
    found: Scores = []
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        images = [one.open() if isinstance(one, grid.Collage) else Image.open(one) for one, _ in part]
        packed = batch.pack(images, [asked for _, asked in part], processor.tokenizer, build.CANVAS, 256)
        packed.pixels = packed.pixels.to(net.dtype)
        found += batch.score(net, packed)
    return found


def blind(split: str = "test") -> float:
    """Share of test questions answered rightly by the commonest training answer to the same question."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for question, given, _ in easyvqa.questions("train"):
        table[question][given] += 1
    rows = easyvqa.questions(split)
    return sum(table[question].most_common(1)[0][0] == given for question, given, _ in rows) / len(rows)


def data_hash() -> str:
    """SHA-256 over the questions and pictures of both splits, in order of name."""
    total = hashlib.sha256()
    for split in ("train", "test"):
        for path in [easyvqa.root(split) / "questions.json", *sorted((easyvqa.root(split) / "images").glob("*.png"))]:
            total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def save(state: Path, out: Path) -> LlavaForConditionalGeneration:
    """Write the model and its processor to ``out`` and give back the model as it was rounded."""
    net, processor, _ = rounded(state)
    net.generation_config.max_new_tokens = 32
    net.save_pretrained(out, max_shard_size="20MB")
    processor.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(_history(state), indent=1), encoding="utf-8")
    return net


def _history(state: Path) -> dict[str, Any]:
    with safe_open(state, "pt") as file:
        where = file.metadata()
    rows = [json.loads(line) for line in (state.parent / "log.jsonl").read_text().splitlines()]
    curve = [{"step": row["step"], "accuracy": row["accuracy"]} for row in rows if "accuracy" in row]
    return {
        "stage": int(where["stage"]),
        "step": int(where["step"]),
        "plan": json.loads(where["plan"]),
        "held_out_curve": [{"step": c["step"], **{k: c["accuracy"][k] for k in ("single", "grid")}} for c in curve],
    }


def main() -> None:
    """``python -m trimtab.zoo.make.export STATE OUT [HISTORY]``: save, measure on both test sets, write the card."""
    state, out = Path(sys.argv[1]), Path(sys.argv[2])
    told = Path(sys.argv[3]).read_text(encoding="utf-8") if len(sys.argv) > 3 else ""
    net = save(state, out)
    history = _history(state)
    scores = evaluate(net, build.processor())
    plan = history["plan"]
    facts = {
        "parameters": sum(p.numel() for p in net.parameters()) / 1e6, "vocabulary": build.VOCABULARY,
        "blind": blind(), "blind_n": f"{len(easyvqa.questions('test')):,}", "seed": plan["seed"],
        "vision": f"{plan['vision_steps']:,}", "steps": f"{history['step']:,}", "pictures": plan["pictures"],
        "held": plan["held_out"], "data": data_hash(), "history": told.strip(), "points": history["held_out_curve"],
    }  # fmt: skip
    (out / "README.md").write_text(card(scores, facts), encoding="utf-8")
    print((out / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
