"""``make bench-plan``: what ``trimtab plan`` foresees of time and memory, beside what is measured.

    python benchmarks/plan.py [--only gemma-3-270m ...] [--repeats 9]

Every model is known to the planner by its config alone, this machine by ``trimtab doctor``, whose figures come from
matrices and small decoders of random numbers: none of the models here. It looks anew before each model, since a machine
that is shared changes: here memory gives 47 or 80 GB/s, by the minute. Prints a table and, as its last line, one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from randoms import smolvlm, tiled, written
from randoms import words as word_list
from trimtab import methods
from trimtab.load.blank import blank
from trimtab.load.sources import open_source
from trimtab.measure.latency import reading, repeats_of
from trimtab.measure.phases import words
from trimtab.measure.vlm import Parts, parts
from trimtab.run.foresee import foresee
from trimtab.run.limits import examined
from trimtab.run.prospect import prospect
from trimtab.run.recipe import Step
from trimtab.run.walk import walk

RUNS = Path("runs/bench-plan")
LENGTHS = (32, 404, 2000)
BITS = (16, 8, 4)
TOKENS = 8


@dataclass(frozen=True)
class Case:
    """A model by a name that the loader takes, and prompts by what they are called."""

    name: str
    source: str
    prompts: dict[str, dict[str, torch.Tensor]]


def llama(folder: Path) -> Path:
    """230 million random weights: wider and less deep than the others."""
    if (folder / "model.safetensors").is_file():
        return folder
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000, hidden_size=1024, intermediate_size=4096, num_hidden_layers=12, num_attention_heads=16,
        num_key_value_heads=4, head_dim=64, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=1,
        eos_token_id=2, pad_token_id=0, dtype="bfloat16",
    )  # fmt: skip
    word_list(config.vocab_size).save_pretrained(folder)
    return written(LlamaForCausalLM(config), folder)


def shown(tiles: int) -> dict[str, torch.Tensor]:
    """A prompt for SmolVLM's shape: ``tiles`` of noise and some words."""
    ids = torch.tensor([tiled(tiles, list(range(100, 120)))])
    pixels = torch.rand(1, tiles, 3, 512, 512).bfloat16()
    mask = torch.ones(1, tiles, 512, 512, dtype=torch.bool)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels,
            "pixel_attention_mask": mask}  # fmt: skip


def grid() -> dict[str, dict[str, torch.Tensor]]:
    """Prompts of the built-in model: one and eight pictures with their questions."""
    from trimtab.run.verbs import _prompts

    loaded = open_source("builtin:easyvqa-llava")
    return {f"picture b{size}": _prompts(loaded, size) for size in (1, 8)}


def cases(only: Sequence[str]) -> Iterator[Case]:
    lengths = {f"{length} tokens": words(length) for length in LENGTHS}
    made = {
        "gemma-3-270m": lambda: Case("gemma-3-270m", "builtin:gemma-3-270m", lengths),
        "llama-230m": lambda: Case("llama-230m", str(llama(RUNS / "llama-230m")), lengths),
        "easyvqa-llava": lambda: Case("easyvqa-llava", "builtin:easyvqa-llava", grid()),
        "smolvlm-256m": lambda: Case("smolvlm-256m", str(smolvlm(RUNS / "smolvlm-256m")),
                                     {"4 tiles": shown(4), **lengths}),
    }  # fmt: skip
    for name, make in made.items():
        if not only or name in only:
            yield make()


def recipe(bits: int) -> tuple[Step, ...]:
    """To nearest: what time depends on is the form, not the values."""
    given = {"bits": bits, "group_size": 64}
    return () if bits == 16 else (Step(method="rtn", knobs=given, targets=("embedding", "head", "all-linear")),)


def timed(found: Parts, repeats: int) -> dict[str, float]:
    """Medians of each part."""

    def several() -> None:
        for _ in range(TOKENS):
            found.decode()

    made = {} if found.vision is None else {"vision": reading("", repeats_of(found.vision, max(3, repeats // 3))).value}
    made["prefill"] = reading("", repeats_of(found.prefill, repeats)).value
    made["decode"] = reading("", repeats_of(several, repeats, 1, setup=found.prefill)).value / TOKENS
    return made


def measured(case: Case, bits: int, repeats: int) -> dict[str, dict[str, float]]:
    """By prompt."""
    loaded = open_source(case.source)
    for step in recipe(bits):
        for _ in walk(loaded.anatomy, [], methods.make(step.method, step.knobs), step.targets or ()) or ():
            pass
        loaded.lower()
    return {name: timed(parts(loaded.model, dict(prompt)), repeats) for name, prompt in case.prompts.items()}


def foreseen(case: Case, bits: int, known: Any) -> dict[str, dict[str, float]]:
    """By prompt, from the config."""
    anatomy = blank(case.source)
    after = prospect(anatomy, recipe(bits)) if bits < 16 else None
    return {name: {phase: one.seconds for phase, one in foresee(anatomy, prompt, known, after).items()}
            for name, prompt in case.prompts.items()}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    rows = []
    for case in cases(given.only):
        for bits in BITS:
            known = examined()
            print(f"doctor: memory {known.reading.values[-1] / 1e9:.0f} GB/s, a layer {1e6 * known.plan_layer:.1f} us",
                  flush=True)  # fmt: skip
            guess = foreseen(case, bits, known)
            real = measured(case, bits, given.repeats)
            for prompt, phases in real.items():
                for phase, seconds in phases.items():
                    told = guess[prompt][phase]
                    error = told / seconds - 1
                    rows.append((case.name, bits, prompt, phase, told, seconds, error))
                    print(f"{case.name:14} {bits:2} bits  {prompt:12} {phase:8} {1e3 * told:9.2f} ms foreseen "
                          f"{1e3 * seconds:9.2f} measured {100 * error:+6.0f} %", flush=True)  # fmt: skip
    line: dict[str, Any] = {}
    for phase in ("decode", "prefill", "vision"):
        errors = sorted(abs(row[-1]) for row in rows if row[3] == phase)
        if errors:
            at = errors[min(len(errors) - 1, -(-9 * len(errors) // 10) - 1)]
            line[f"{phase}_error"] = at
            middle, n = statistics.median(errors), len(errors)
            print(f"{phase}: n {n}, median {middle:.3f}, 90th percentile {at:.3f}, worst {errors[-1]:.3f}")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
