"""``make bench-plan``: what ``trimtab plan`` foresees of time and memory, beside what is measured.

    python benchmarks/plan.py [--only gemma-3-270m ...] [--repeats 9]

Every model is known to the planner by its config alone, this machine by ``trimtab doctor``, whose figures come from
matrices and small decoders of random numbers: none of the models here. It looks anew before each model, since a machine
that is shared changes (memory gave 47 or 80 GB/s, by the minute); a model that met another machine than doctor did is
measured again. Prints a table and, as its last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from randoms import smolvlm, tiled, written
from randoms import words as word_list
from trimtab import methods
from trimtab.load import artifact as artifacts
from trimtab.load import gate_samples
from trimtab.load.blank import opened
from trimtab.load.sources import open_source
from trimtab.measure.ceilings import Ceilings
from trimtab.measure.latency import reading, repeats_of
from trimtab.measure.limits import STEADY, TRIES
from trimtab.measure.phases import words
from trimtab.measure.probes import read_at, typical
from trimtab.measure.vlm import Parts, parts
from trimtab.run.footprint import peak_of
from trimtab.run.foresee import foresee
from trimtab.run.limits import examined
from trimtab.run.needs import answering
from trimtab.run.plan import bits_of
from trimtab.run.prospect import prospect
from trimtab.run.recipe import Step
from trimtab.run.walk import walk

RUNS = Path("runs/bench-plan")
LENGTHS = (32, 404, 2000)
BITS = (16, 8, 4)
TOKENS = 8


LLAVA_7B = {
    "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "image_token_id": 32000,
    "image_seq_length": 576, "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
    "text_config": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064,
                    "max_position_embeddings": 4096},
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
                      "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
                      "projection_dim": 768},
    "dtype": "bfloat16",
}  # fmt: skip
"""LLaVA 1.5's shape: nothing but a config is there."""


TIMED = """
import json, time
begun = time.monotonic()
from trimtab.cli import main
try:
    main()
except SystemExit as end:
    status = end.code
from trimtab.measure.memory import peak
print(json.dumps({"plan_7b_seconds": time.monotonic() - begun, "plan_7b_mb": peak() / 1e6, "status": status}))
"""


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


def measured(case: Case, bits: int, repeats: int) -> tuple[dict[str, dict[str, float]], float]:
    """By prompt; and the peak of a process that loads it and answers one batch."""
    loaded = open_source(case.source)
    for step in recipe(bits):
        for _ in walk(loaded.anatomy, [], methods.make(step.method, step.knobs), step.targets or ()) or ():
            pass
        loaded.lower()
    times = {name: timed(parts(loaded.model, dict(prompt)), repeats) for name, prompt in case.prompts.items()}
    samples, folder = RUNS / "samples.safetensors", RUNS / "artifact"
    gate_samples.record(loaded.model, [dict(next(iter(case.prompts.values())))], samples, private=False)
    if bits < 16:
        artifacts.write(folder, loaded, {}, samples)
    del loaded
    return times, float(peak_of(case.source if bits == 16 else str(folder), samples, torch.get_num_threads()))


def foreseen(case: Case, bits: int, known: Any) -> tuple[dict[str, dict[str, float]], float]:
    """The same from the config."""
    blanks = opened(case.source)
    after = prospect(blanks.anatomy, recipe(bits)) if bits < 16 else None
    times = {name: {phase: one.seconds for phase, one in foresee(blanks.anatomy, prompt, known, after).items()}
             for name, prompt in case.prompts.items()}  # fmt: skip
    whole = 2.0 * sum(p.numel() for p in blanks.anatomy.model.parameters())
    weights = whole if after is None else bits_of(blanks.anatomy, after)[1] / 8
    return times, answering(blanks, known, next(iter(case.prompts.values())), after, weights)


def steadily(case: Case, bits: int, repeats: int) -> tuple[Ceilings, tuple[dict[str, dict[str, float]], float]]:
    """What doctor says and what is measured right behind it, again where the machine is another one afterwards: memory
    reads at another rate then. After ``TRIES`` what there is counts."""
    for _ in range(TRIES):
        known = examined()
        found = measured(case, bits, repeats)
        size = known.reading.sizes[-2]
        now = read_at(torch.ones(int(size) // 4), 0.1, typical)
        print(f"memory {known.reading.at(size) / 1e9:.0f} GB/s, afterwards {now / 1e9:.0f}", flush=True)
        if 1 / STEADY < now / known.reading.at(size) < STEADY:
            break
    return known, found


def seven() -> dict[str, float]:
    """Seconds and megabytes that a plan takes for a LLaVA of seven billion, in a process of its own."""
    folder = RUNS / "llava-7b"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(LLAVA_7B), encoding="utf-8")
    recipe = {"model": str(folder), "task": {"type": "vqa", "dataset": "easyvqa"},
              "steps": [{"gptq": {"bits": 4, "group_size": 128, "targets": ["language", "projector"]}},
                        {"divprune": {"keep": 0.5}}]}  # fmt: skip
    file = RUNS / "llava-7b.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", TIMED, "plan", str(file)], capture_output=True, text=True, check=True)
    print(done.stdout)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("status") == 0
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    rows = []
    for case in cases(given.only):
        for bits in BITS:
            known, (real, peak) = steadily(case, bits, given.repeats)
            guess, memory = foreseen(case, bits, known)
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
    print(json.dumps(line | seven()))


if __name__ == "__main__":
    main()
