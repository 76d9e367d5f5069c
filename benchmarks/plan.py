"""``make bench-plan``: what ``trimtab plan`` foresees of time and memory, beside what is measured.

    python benchmarks/plan.py [--only gemma-3-270m ...] [--repeats 9] [--minutes 20]

Every model is known to the planner by its config alone, this machine by ``trimtab doctor``, whose figures come from
matrices and small decoders of random numbers: none of the models here. Every prompt is timed within one state of the
machine and held against what doctor found in that (``states.py``). Prints a table and, as its last line, one JSON
object. ``search_dominates`` is of the one search of ``make bench-search``, of so many ``MINUTES``, which goes on where
that one was stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import search
from randoms import smolvlm, tiled, written
from randoms import words as word_list
from seven import seven
from states import States
from trimtab import methods
from trimtab.cli.progress import shown as progress
from trimtab.load import artifact as artifacts
from trimtab.load import gate_samples
from trimtab.load.blank import opened
from trimtab.load.sources import open_source
from trimtab.measure.ceilings import Ceilings
from trimtab.measure.latency import reading, repeats_of
from trimtab.measure.phases import words
from trimtab.measure.vlm import Parts, parts
from trimtab.run.footprint import peak_of
from trimtab.run.foresee import foresee
from trimtab.run.needs import answering
from trimtab.run.plan import bits_of
from trimtab.run.prospect import prospect
from trimtab.run.recipe import Step
from trimtab.run.walk import walk

RUNS = Path("runs/bench-plan")
LENGTHS = (32, 404, 2000)
BITS = (16, 8, 4)
TOKENS = 8

Timed = tuple[Ceilings, dict[str, float]]


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


def measured(case: Case, bits: int, repeats: int, states: States) -> tuple[dict[str, Timed], float]:
    """By prompt, with the ceilings of the state in which it was timed; and the peak of a process that loads the model
    and answers one batch."""
    loaded = open_source(case.source)
    for step in recipe(bits):
        for _ in walk(loaded.anatomy, [], methods.make(step.method, step.knobs), step.targets or ()) or ():
            pass
        loaded.lower()
    times = {}
    for name, prompt in case.prompts.items():
        found = parts(loaded.model, dict(prompt))
        times[name] = states.within(partial(timed, found, repeats))
    samples, folder = RUNS / "samples.safetensors", RUNS / "artifact"
    gate_samples.record(loaded.model, [dict(next(iter(case.prompts.values())))], samples, private=False)
    if bits < 16:
        artifacts.write(folder, loaded, {}, samples)
    del loaded
    return times, float(peak_of(case.source if bits == 16 else str(folder), samples, torch.get_num_threads()))


def foreseen(case: Case, bits: int, known: Mapping[str, Ceilings]) -> tuple[dict[str, dict[str, float]], float]:
    """The same from the config, each prompt by its ceilings."""
    blanks = opened(case.source)
    after = prospect(blanks.anatomy, recipe(bits)) if bits < 16 else None
    times = {name: {phase: one.seconds for phase, one in foresee(blanks.anatomy, prompt, known[name], after).items()}
             for name, prompt in case.prompts.items()}  # fmt: skip
    whole = 2.0 * sum(p.numel() for p in blanks.anatomy.model.parameters())
    weights = whole if after is None else bits_of(blanks.anatomy, after)[1] / 8
    name, prompt = next(iter(case.prompts.items()))
    return times, answering(blanks, known[name], prompt, after, weights)


def dominates(minutes: float) -> bool:
    """Whether a point of the search dominates the quickstart and both fixed recipes on the test split."""
    with progress(quiet=False) as told:
        found = search.search(search.wanted(0, "tpe"), search.ONE, minutes, told)
    print(*search.tested(found), sep="\n", flush=True)
    return bool(found.dominating())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--minutes", type=float, default=20, help="of the search; 0: none, search_dominates is null")
    given = parser.parse_args()
    RUNS.mkdir(parents=True, exist_ok=True)
    rows, states = [], States()
    for case in cases(given.only):
        for bits in BITS:
            times, peak = measured(case, bits, given.repeats, states)
            real = {name: found for name, (_, found) in times.items()}
            guess, memory = foreseen(case, bits, {name: known for name, (known, _) in times.items()})
            rows.append((case.name, bits, "", "memory", memory, peak, memory / peak - 1))
            print(f"{case.name:14} {bits:2} bits  {'':12} memory   {memory / 1e6:9.0f} MB foreseen {peak / 1e6:9.0f} "
                  f"measured {100 * (memory / peak - 1):+6.0f} %", flush=True)  # fmt: skip
            for prompt, phases in real.items():
                for phase, seconds in phases.items():
                    told = guess[prompt][phase]
                    error = told / seconds - 1
                    rows.append((case.name, bits, prompt, phase, told, seconds, error))
                    print(f"{case.name:14} {bits:2} bits  {prompt:12} {phase:8} {1e3 * told:9.2f} ms foreseen "
                          f"{1e3 * seconds:9.2f} measured {100 * error:+6.0f} %", flush=True)  # fmt: skip
    line: dict[str, Any] = {}
    for phase in ("decode", "prefill", "vision", "memory"):
        errors = sorted(abs(row[-1]) for row in rows if row[3] == phase)
        if errors:
            at = errors[min(len(errors) - 1, -(-9 * len(errors) // 10) - 1)]
            line["peak_memory_error" if phase == "memory" else f"{phase}_error"] = at
            middle, n = statistics.median(errors), len(errors)
            print(f"{phase}: n {n}, median {middle:.3f}, 90th percentile {at:.3f}, worst {errors[-1]:.3f}")
    line |= seven(RUNS)
    line["search_dominates"] = dominates(given.minutes) if given.minutes else None
    print(json.dumps(line))


if __name__ == "__main__":
    main()
