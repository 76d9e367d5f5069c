"""Run folders as the runner leaves them, of plausible figures: one that is ACCEPTED, and its less happy siblings."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOSTILE = '<script>alert("x")</script>'
BREAKER = '"><img src=x onerror=alert(1)>|`</title></style>&amp; [red]{{ 7*7 }}'

RECIPE = """\
model: builtin:easyvqa-llava
task: {type: vqa, dataset: easyvqa, split: test}
calibrate: {dataset: easyvqa, split: train, num_samples: 128}
steps:
- gptq: {bits: 4, group_size: 64, targets: [language, projector, vision, embedding, head]}
- divprune: {keep: 0.5}
budget:
  accuracy: {max_drop: 1pt}
  weights: {max: 0.4x}
  prefill: {max: 0.7x}
seed: 0
"""


def reading(when: str, name: str, value: float, unit: str, spread: Any = None, n: int = 1, how: str = "counted") -> Any:
    return {"when": when, "name": name, "value": value, "unit": unit, "spread": spread, "n": n, "how": how}


def share(when: str, name: str, right: int, n: int) -> dict[str, Any]:
    """An accuracy with its Wilson interval."""
    p, z = right / n, 1.959964
    middle, half = (p + z * z / 2 / n), z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return reading(when, name, p, "share", [low, high], n, "estimated")


def timed(when: str, name: str, seconds: float) -> dict[str, Any]:
    return reading(when, name, seconds, "s", [seconds * 0.96, seconds * 1.05], 9, "timed")


# What is shown, how many of 300 are right before and after, and the paired interval of the change in points.
WORSE = (
    ("missing", 196, 193, -3.6, 1.6), ("noise3", 281, 262, -9.3, -3.6), ("jpeg3", 290, 291, -1.4, 2.1),
    ("blur1", 240, 262, 4.5, 10.5), ("clean", 292, 291, -2.0, 1.1),
)  # fmt: skip


def robust() -> list[dict[str, Any]]:
    return [{"figure": f"accuracy.easyvqa.{shown}", "view": shown, "before": before / 300, "after": after / 300,
             "change": (after - before) / 300, "low": low / 100, "high": high / 100,
             "flips": {"lost": max(2, 2 + before - after), "gained": max(2, 2 + after - before), "n": 300}}
            for shown, before, after, low, high in WORSE]  # fmt: skip


def readings() -> list[dict[str, Any]]:
    rows = [
        share("before", "accuracy.easyvqa", 1946, 2000), share("after", "accuracy.easyvqa", 1941, 2000),
        share("before", "accuracy.easyvqa-grid", 456, 500), share("after", "accuracy.easyvqa-grid", 449, 500),
        share("step 1 gptq", "accuracy.easyvqa", 485, 500), share("step 2 divprune", "accuracy.easyvqa", 484, 500),
        *(share("before", f"accuracy.easyvqa.{shown}", right, 300) for shown, right, *_ in WORSE),
        *(share("after", f"accuracy.easyvqa.{shown}", right, 300) for shown, _, right, *_ in WORSE),
        share("before", "accuracy.easyvqa.blind_table", 6481, 9673),
        reading("before", "parameters", 3_912_704, "count"), reading("after", "parameters", 3_912_704, "count"),
        reading("plan", "bytes.weights", 2_250_000, "bytes", None, 1, "estimated"),
        reading("plan", "latency.prefill.b8", 0.0712, "s", None, 1, "estimated"),
    ]  # fmt: skip
    for when, stored in (("before", 7_825_408), ("step 1 gptq", 2_234_112), ("step 2 divprune", 2_234_112),
                         ("after", 2_234_368)):  # fmt: skip
        rows.append(reading(when, "bytes.weights", stored, "bytes"))
    for when in ("before", "after"):
        rows.append(reading(when, "bytes.weights16", 7_825_408, "bytes"))
        rows.append(reading(when, "flops.vision", 1_034_502_144, "flop"))
        rows.append(
            reading(when, "memory.peak", 612_368_384 if when == "before" else 655_360_000, "bytes", None, 3, "timed")
        )
    for when, flops in (
        ("before", 1.9713e9),
        ("step 1 gptq", 1.9713e9),
        ("step 2 divprune", 1.0424e9),
        ("after", 1.0424e9),
    ):
        rows.append(reading(when, "flops.prefill", flops, "flop"))
    for name, before, after in (("vision.b1", 0.0141, 0.0139), ("prefill.b1", 0.0213, 0.0162),
                                ("decode.b1", 0.00412, 0.00577), ("vision.b8", 0.0884, 0.0879),
                                ("prefill.b8", 0.1313, 0.0787), ("decode.b8", 0.0101, 0.0103)):  # fmt: skip
        for when, seconds in (("before", before), ("after", after)):
            count = int(name.rpartition(".b")[2])
            rows += [timed(when, f"latency.{name}", seconds), timed(when, f"latency.{name}.p95", seconds * 1.3),
                     reading(when, f"throughput.{name}", count / seconds, "items/s", None, 9, "timed")]  # fmt: skip
    for name, before, after in (("vision.b1", 0.51, 0.5), ("prefill.b1", 0.77, 0.58), ("answer.b1", 2.4, 2.7)):
        for when, joules in (("before", before), ("after", after)):
            rows.append(reading(when, f"energy.{name}", joules, "J", [joules * 0.9, joules * 1.2], 6, "estimated"))
            rows.append(reading(when, f"power.{name}", 36.0, "W", [35.0, 37.0], 6, "estimated"))
    for when, bytes_ in (("before", 9_437_184), ("after", 4_718_592)):
        rows.append(reading(when, "memory.activations.prefill", bytes_, "bytes"))
    return rows


def axis(
    axis: str, figure: str, status: str, budget: str | None, change: str, text: str, **more: Any
) -> dict[str, Any]:
    ends = {(row["when"], row["name"]): row["value"] for row in readings()}
    row = {"axis": axis, "figure": figure, "status": status, "budget": budget, "change": change, "text": text}
    found = {when: ends.get((when, figure)) for when in ("before", "after")}
    return row | found | {"bound": None, "more_samples": None} | more


def hosts() -> list[tuple[str, str]]:
    """(name, part) of every linear of a small LLaVA, in running order."""
    attention = [f"self_attn.{one}_proj" for one in "qkv"]
    seer = [*attention, "self_attn.out_proj", "mlp.fc1", "mlp.fc2"]
    talker = [*attention, "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    tower = "model.vision_tower.vision_model.encoder"
    found = [(f"{tower}.layers.{i}.{one}", "vision") for i in range(6) for one in seer]
    found += [(f"model.multi_modal_projector.linear_{i}", "projector") for i in (1, 2)]
    found += [(f"model.language_model.layers.{i}.{one}", "language") for i in range(6) for one in talker]
    return [*found, ("lm_head", "head")]


def result() -> dict[str, Any]:
    rng = random.Random(0)
    seen = {"language": (3712, 32768, 640), "head": (3712, 0, 0)}
    layers = [(name, part, *seen.get(part, (0, 32768, 0))) for name, part in hosts()]
    return {
        "format": 1, "name": "quickstart", "verdict": "ACCEPTED", "exit_status": 0,
        "axes": [
            axis("quality", "accuracy.easyvqa", "ACCEPTED", "max_drop 1pt", "−0.2 pt",
                 "The drop is at most 0.7 pt.", bound=0.007),
            axis("size", "bytes.weights", "ACCEPTED", "max 0.4x", "0.29x", "Counted from the artifact's tensor files."),
            axis("speed", "latency.prefill.b8", "ACCEPTED", "max 0.7x", "0.60x",
                 "Half of the visual tokens are gone.", bound=0.66),
            axis("speed", "latency.decode.b1", "worse", None, "1.4x SLOWER",
                 "Decode is slower here: reference kernel."),
            axis("memory", "memory.peak", "worse", None, "1.07x MORE", "Dense copies for large batches."),
        ],
        "steps": [
            {"index": 1, "method": "gptq", "knobs": {"bits": 4, "group_size": 64, "symmetric": False}, "seconds": 41.3,
             "note": "",
             "invariants": [{"name": "on_grid", "holds": True, "detail": "81 of 81 hold", "step": "step 1 gptq"}]},
            {"index": 2, "method": "divprune", "knobs": {"keep": 0.5}, "seconds": 2.4,
             "invariants": [{"name": "on_grid", "holds": True, "detail": "81 of 81 hold", "step": "step 1 gptq"},
                            {"name": "tokens_kept", "holds": True, "detail": "1 of 1 hold", "step": "step 2 divprune"}],
             "note": "Keeps 128 of 256 image tokens."},
        ],
        "audit": {"verdict": "passed", "samples": 128, "image_share": 0.883, "task_image_share": 0.891,
                  "layers": [{"name": n, "part": p, "text": t, "image": i, "padding": d} for n, p, t, i, d in layers]},
        "layers": [{"name": n, "part": p, "step": "1 gptq", "error": 10 ** rng.uniform(-2.3, -1.05),
                    "bits_per_weight": 4.5} for n, p in hosts()],
        "flips": {"lost": 19, "gained": 14, "n": 2000},
        "robust": robust(),
        "notes": ["Decode falls back to the reference kernel at batch 1: 192 rows do not fit the packed one."],
        "machine": {"cpu": "Two cores of something", "threads": 2, "memory_bandwidth": "18.2 GB/s", "amx": False,
                    "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "trimtab": "0.1.0"}},
        "model": {"id": "builtin:easyvqa-llava", "license": "Apache-2.0", "parameters": 3_912_704},
        "artifact": {"path": "/home/ada/runs/quickstart/artifact", "bytes": 2_234_368, "content_hash": "9f2c" * 16,
                     "gate": {"passed": True, "samples": 16, "checks": [
                         {"name": "logits", "holds": True, "detail": "bit-equal on 4 batches"}]}},
        "check": {"difference": 0.03125, "allowed": 0.58125, "samples": 2},
        "data": {"accuracy.easyvqa": "c0ffee" * 10 + "beef", "accuracy.easyvqa-grid": "5eed" * 16},
        "plan": plan(), "roofline": roofline(), "efficiency": efficiency(), "arithmetic": arithmetic(),
        "seconds": {"load": 1.2, "compare loop": 0.8, "audit": 3.1, "baseline": 48.0, "step 1 gptq": 41.3,
                    "step 2 divprune": 2.4, "write": 0.6, "gate": 7.9, "after": 58.6},
    }  # fmt: skip


def arithmetic() -> dict[str, Any]:
    """Operations of a picture and of a prompt, by part and by operator."""
    vision = {"parts": {"vision": 1_000_000_000, "projector": 34_502_144},
              "operators": {"aten.addmm": 900_000_000, "aten._scaled_dot_product": 134_502_144}}  # fmt: skip
    prefill = {
        when: {"parts": {"language": int(0.97 * whole), "head": int(0.03 * whole)}, "operators": {"aten.mm": whole}}
        for when, whole in (("before", 1.9713e9), ("after", 1.0424e9))
    }
    return {when: {"vision": vision, "prefill": prefill[when]} for when in ("before", "after")}  # fmt: skip


def efficiency() -> dict[str, Any]:
    """A trimmed model that is smaller and reads faster, and says words more slowly: neither beats the other."""
    names = ("memory", "compute", "latency", "throughput", "throughput_per_parameter", "energy", "compression")
    sides = {"before": (0.0245, 0.021, 0.068, 117.0, 3.0e-5, 2.4, 1.0),
             "after": (0.0262, 0.016, 0.076, 105.0, 2.7e-5, 2.7, 3.49)}  # fmt: skip
    six = [{"name": when, "figures": {f"efficiency.{name}": value for name, value in zip(names, values, strict=True)},
            "pareto": True, "dominated_by": None} for when, values in sides.items()]  # fmt: skip
    fits = {when: {"prompts": [272.0, 544.0], "first": [0.0354, 0.058], "per_token": word, "r2": 0.998, "n": 8}
            for when, word in (("before", 0.0041), ("after", 0.0058))}  # fmt: skip
    rows = [
        {
            "model": when,
            "queries": 3,
            "accelerators": 1,
            "seconds": seconds,
            "accelerator_seconds": seconds,
            "dollars": None,
            "joules": 36 * seconds,
        }
        for when, seconds in (("before", 0.25), ("after", 0.34))
    ]
    return {
        "energy": {
            "source": "modelled: CPU time at a share of 65 W; no counter can be read",
            "how": "estimated",
            "tokens": 8,
        },
        "idealized": {"fits": fits, "queries": [[272, 8], [272, 32], [272, 128]], "rows": rows},
        "six": six,
    }


def plan() -> list[dict[str, Any]]:
    """Two that came within their intervals, one outside, one without an interval that is far off, one not measured."""
    rows = (
        ("bytes.weights", 2_250_000, 2_234_368, "bytes", 2_230_000, 2_270_000),
        ("latency.prefill.b8", 0.0712, 0.0787, "s", 0.06, 0.085),
        ("latency.decode.b1", 0.0041, 0.00577, "s", 0.0035, 0.005),
        ("seconds.total", 71.0, 163.9, "s", None, None), ("memory.peak", 7e8, None, "bytes", 6e8, 9e8),
    )  # fmt: skip
    found = [{"figure": name, "predicted": guess, "measured": real, "unit": unit, "low": low, "high": high}
             for name, guess, real, unit, low, high in rows]  # fmt: skip
    for key in ("low", "high"):
        del found[3][key]
    return found


PEAKS = {"bfloat16": 2.4e11, "float32": 9e10, "int8": 4.8e11}
BANDWIDTH = {"1048576": 8e10, "268435456": 1.8e10}


def operators(when: str, phase: str, batch: int) -> list[dict[str, Any]]:
    """What a phase of a small LLaVA runs: a start and a copy, and in each of six layers attention and an MLP."""
    tokens = {"vision": 256, "prefill": 272 if when == "before" else 144, "decode": 1}[phase] * batch
    part = "vision" if phase == "vision" else "language"
    kept = 2.0 if when == "before" else 0.56
    rows: list[dict[str, Any]] = [{"name": "model.embed", "kind": "copy", "part": "embedding", "flops": 0.0,
                                   "bytes": 2.0 * 192 * tokens, "dtype": "bfloat16"}]  # fmt: skip
    for layer in range(6):
        for name, wide in (("self_attn.q_proj", 192), ("self_attn.o_proj", 192), ("mlp.up_proj", 768),
                           ("mlp.down_proj", 768)):  # fmt: skip
            flops = 2.0 * tokens * 192 * wide
            rows.append({"name": f"model.{part}.layers.{layer}.{name}", "kind": "linear", "part": part, "flops": flops,
                         "bytes": kept * 192 * wide + 2.0 * tokens * (192 + wide), "dtype": "bfloat16"})  # fmt: skip
        rows.append({"name": f"model.{part}.layers.{layer}.self_attn", "kind": "attention", "part": part,
                     "flops": 4.0 * tokens * 256 * 192, "bytes": 8.0 * tokens * 192, "dtype": "float32"})  # fmt: skip
    for row in rows:
        times = {"memory": row["bytes"] / 1.8e10, "compute": row["flops"] / PEAKS[row["dtype"]], "start": 4e-6}
        row["bound"] = max(times, key=lambda name: times[name])
        row["seconds"] = times[row["bound"]]
    return rows


def roofline() -> dict[str, Any]:
    sides = []
    for phase, batch in (("vision", 1), ("prefill", 1), ("prefill", 8), ("decode", 1)):
        for when in ("before", "after"):
            rows = operators(when, phase, batch)
            total = sum(row["seconds"] for row in rows)
            sides.append({"when": when, "phase": phase, "batch": batch, "length": 272, "predicted": total,
                          "measured": None if phase == "vision" else total * 1.17, "rows": rows})  # fmt: skip
    return {"machine": {"name": "Two cores of something", "peaks": PEAKS, "bandwidth": BANDWIDTH}, "sides": sides}


def predictions() -> list[dict[str, Any]]:
    said = ["circle" if i % 3 else "secret triangle" for i in range(12)]
    return [{"id": f"patient-{i}.png", "before": "circle", "after": one, "was_correct": True,
             "correct": one == "circle"} for i, one in enumerate(said)]  # fmt: skip


Change = Callable[[dict[str, Any], list[dict[str, Any]]], None]


def inconclusive(out: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    out |= {"verdict": "INCONCLUSIVE", "exit_status": 4}
    out["axes"][0] |= {
        "status": "INCONCLUSIVE",
        "more_samples": 3400,
        "bound": 0.0131,
        "text": "The drop may be 1.3 pt.",
    }


def regression(out: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    out |= {"verdict": "REGRESSION", "exit_status": 3}
    rows[:] = [row for row in rows if (row["when"], row["name"]) != ("after", "accuracy.easyvqa")]
    rows.append(share("after", "accuracy.easyvqa", 1710, 2000))
    out["axes"][0] |= {
        "status": "REGRESSION",
        "after": 0.855,
        "change": "−11.8 pt LOWER",
        "text": "At least 10.4 pt are lost.",
    }
    out["steps"][1]["invariants"][0] |= {"holds": False, "detail": "80 of 81 hold; lm_head: stored as Dense"}
    out["audit"]["verdict"] = "overridden"


def missing(out: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """A run that broke off after its first step with a figure that is not finite."""
    rows[:] = [row for row in rows if row["when"] in ("before", "step 1 gptq")][:6]
    rows.append(reading("after", "accuracy.easyvqa", math.nan, "share"))
    for key in ("flips", "artifact", "plan", "audit", "layers", "seconds", "machine", "model", "robust", "roofline",
                "data", "efficiency", "arithmetic"):  # fmt: skip
        del out[key]
    out |= {"verdict": "ANOMALOUS", "exit_status": 3, "steps": out["steps"][:1], "axes": out["axes"][:1]}
    out["axes"][0] |= {"status": "ANOMALOUS", "after": None, "change": "", "text": "Accuracy is not finite."}


def language(out: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """A language model: perplexity instead of accuracy, no images anywhere."""
    kept = [row for row in rows if not row["name"].startswith("accuracy") and ".vision" not in row["name"]]
    rows[:] = [row for row in kept if row["when"] != "step 2 divprune"]
    for when, value in (("before", 21.374), ("step 1 gptq", 22.018), ("after", 22.018)):
        rows.append(reading(when, "perplexity.text", value, "", [value * 0.985, value * 1.015], 128, "estimated"))
    out |= {"name": "gemma-270m-w4", "flips": None, "robust": [], "steps": out["steps"][:1]}
    out["axes"][0] = axis("quality", "perplexity.text", "ACCEPTED", "max 1.05x", "1.03x", "Within the budget.") | {
        "before": 21.374, "after": 22.018}  # fmt: skip
    del out["roofline"]
    out["data"] = {"perplexity.text": "7e47" * 16}
    out["plan"] = out["plan"][:1]
    for when in ("before", "after"):
        del out["arithmetic"][when]["vision"]
    out["audit"] = {"verdict": "not needed", "samples": 64, "image_share": 0.0, "task_image_share": 0.0, "layers": []}
    out["layers"] = [row for row in out["layers"] if row["part"] in ("language", "head")]
    out["model"] = {"id": "google/gemma-3-270m", "license": "gemma", "parameters": 268_098_176}


def ablation(out: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """A run that compares ways to calibrate."""
    out |= {"verdict": "ABLATION", "exit_status": 4}
    out["audit"] |= {"weigh": "balanced", "ablation": True}
    out["weighing"] = [{"block": f"model.language_model.layers.{i}", "ratio": 0.1234 * (i + 1)} for i in range(6)]
    since = {"since": "before", "value": -0.012, "low": -0.02, "high": -0.004, "n": 500}
    out["arms"] = [
        {"arm": arm, "own": arm == "balanced", "figure": "accuracy.easyvqa", "value": 0.9 + 0.01 * i, "unit": "share",
         "spread": [0.88, 0.95], "n": 500, "since_before": since,
         "since_own": None if arm == "balanced" else since | {"since": "step 2 divprune", "value": 0.001, "high": 0.01}}
        for i, arm in enumerate(("pooled", "balanced", "text", "image"))
    ]  # fmt: skip


def hostile(out: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Every name that a stranger chooses tries to be code."""
    out |= {"name": HOSTILE + BREAKER, "notes": [BREAKER, HOSTILE]}
    out["model"]["id"] = HOSTILE
    out["steps"][0] |= {"method": HOSTILE, "note": BREAKER, "knobs": {HOSTILE: BREAKER}}
    out["audit"]["layers"][0]["name"] = out["layers"][0]["name"] = BREAKER
    out["layers"][1]["step"] = out["layers"][2]["part"] = HOSTILE
    out["machine"][BREAKER] = HOSTILE
    out["seconds"][HOSTILE] = 3.0
    for row in rows:
        row["when"] = row["when"].replace("step 1 gptq", f"step 1 {BREAKER}")
    rows.append(reading("after", f"accuracy.easyvqa.{HOSTILE}", 0.5, "share", [0.4, 0.6], 10))
    out["robust"][0] |= {"view": HOSTILE, "figure": f"accuracy.easyvqa.{HOSTILE}", "low": -0.9, "high": -0.8}
    rows.append(reading("before", f"accuracy.{HOSTILE}", 0.5, "share", [0.4, 0.6], 10, BREAKER))
    out["plan"].append({"figure": HOSTILE, "predicted": 1.0, "measured": 1.1, "unit": BREAKER})
    out["roofline"]["machine"]["name"] = HOSTILE
    side = out["roofline"]["sides"][0]
    side["phase"] = BREAKER
    side["rows"][1] |= {"name": HOSTILE, "part": BREAKER}


VARIANTS: dict[str, Change] = {
    "accepted": lambda out, rows: None, "inconclusive": inconclusive, "regression": regression, "missing": missing,
    "language": language, "hostile": hostile, "ablation": ablation,
}  # fmt: skip


def make(folder: Path, variant: str = "accepted", recipe: str = RECIPE) -> Path:
    """Write the run folder of a variant and return it."""
    out, rows = copy.deepcopy(result()), readings()
    VARIANTS[variant](out, rows)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(out))
    (folder / "readings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in predictions()))
    (folder / "recipe.resolved.yaml").write_text(recipe)
    return folder


OBJECTIVES = [
    {"name": "bytes.weights", "unit": "bytes", "goal": "min"},
    {"name": "latency.prefill.b1", "unit": "s", "goal": "min"},
    {"name": "accuracy.easyvqa", "unit": "share", "goal": "max"},
]  # fmt: skip


def trial(number: int, rng: random.Random, **more: Any) -> dict[str, Any]:
    bits, keep = rng.choice((2, 3, 4, 8)), rng.choice((0.25, 0.5, 0.75, 1.0))
    right = 0.99 - 0.4 / bits**2 - 0.08 * (1 - keep) ** 2 + rng.uniform(-0.01, 0.01)
    size, seconds = 5e5 * bits + 3e5, 0.004 + 0.016 * keep + 0.0004 * bits
    values = {"bytes.weights": {"value": size, "low": size, "high": size},
              "latency.prefill.b1": {"value": seconds, "low": seconds * 0.97, "high": seconds * 1.04},
              "accuracy.easyvqa": {"value": right, "low": right - 0.012, "high": right + 0.01}}  # fmt: skip
    found = {"number": number, "state": "complete", "pareto": False, "why": "", "knobs": {"bits": bits, "keep": keep},
             "steps": [{"gptq": {"bits": bits, "targets": ["language"]}}, {"divprune": {"keep": keep}}],
             "values": values, "recipe": f"recipes/{number:03}.yaml", "seconds": 40.0, "reference": None}  # fmt: skip
    return found | more


def beats(one: dict[str, Any], other: dict[str, Any], names: list[str] | None = None) -> bool:
    """Whether ``one`` is as good as ``other`` in every objective and better in one."""
    signs = {row["name"]: 1 if row["goal"] == "min" else -1 for row in OBJECTIVES}
    pairs = [(signs[n] * one["values"][n]["value"], signs[n] * other["values"][n]["value"]) for n in names or signs]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def search() -> dict[str, Any]:
    """A search of 40 trials: some stopped, some failed, two fixed recipes, the front measured on the test split."""
    rng = random.Random(3)
    points = [trial(number, rng) for number in range(40)]
    points[0] |= {"reference": "quickstart", "recipe": None}
    points[1] |= {"reference": "gemma-270m-w4", "recipe": None}
    for number in range(30, 37):
        points[number] |= {"state": "stopped", "why": "sure to be under the front after 200 samples"}
    for number in range(37, 40):
        points[number] |= {"state": "failed", "why": "group_size 64 does not divide 96", "values": {}}
    done = [point for point in points if point["state"] == "complete"]
    for point in done:
        point["pareto"] = not any(beats(other, point) for other in done)
    test = [copy.deepcopy(point) for point in done if point["pareto"]]
    for point in test:
        point["values"]["accuracy.easyvqa"]["value"] -= 0.004
    return {"format": 1, "name": "fit", "model": "builtin:easyvqa-llava", "seconds": 1710.0, "budget_seconds": 1800.0,
            "objectives": OBJECTIVES, "points": points, "test": test,
            "binding": "weights: at 0.3x of 16 bits, accuracy falls by 2 points."}  # fmt: skip


def make_search(folder: Path, **more: Any) -> Path:
    """Write the folder of a search and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search.json").write_text(json.dumps(search() | more))
    return folder
