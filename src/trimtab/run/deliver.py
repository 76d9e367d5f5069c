"""The artifact, its gate in a fresh process, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trimtab.load import artifact as artifacts
from trimtab.load import gate_samples
from trimtab.measure.machine import facts
from trimtab.run import calibration, steps
from trimtab.run.context import Context
from trimtab.run.invariants import Invariant
from trimtab.run.journal import whole_lines

GATE_BATCHES, GATE_ROWS = 4, 4
REFUSED = "artifact.refused"
"""The folder of an artifact that did not pass its gate."""


def redacted(context: Context) -> dict[str, Any]:
    """The recipe without paths, names of the user's files and prompts, as it may stand in an artifact."""
    plain = context.recipe.model_dump(mode="json", exclude_none=True)
    plain["model"] = context.loaded.source.id  # of a local model the last part of its path
    plain.pop("stream", None)  # how the weights were read changes no bit of what comes out
    for task in (plain["task"], *plain.get("also", ())):
        for key in ("data", "image_root", "prompt"):
            if key in task:
                task[key] = "(the user's own)"
    for step in plain["steps"]:
        for knobs in step.values():
            if "path" in knobs:
                knobs["path"] = "(the user's own)"
    return plain


def artifact(context: Context, standing: Sequence[Invariant]) -> dict[str, Any]:
    """Record the gate's samples, then write the artifact as a whole."""
    loaded = context.loaded
    loaded.lower()
    private, given = context.recipe.task.data is not None, context.recipe.calibrate
    samples = context.folder.state / "gate.safetensors"
    split = context.recipe.task.split
    found = (calibration.sample_batch(context, GATE_ROWS, split, GATE_ROWS * at) for at in range(GATE_BATCHES))
    batches = [batch for batch in found if batch]
    gate_samples.record(loaded.model, batches, samples, private=private)
    ended = context.journal.ended
    about = {
        "recipe": redacted(context),
        "calibration": {key: value for key, value in ended["audit"]["result"].items() if key != "layers"},
        "invariants": tuple(one.row() for one in standing),
        "modified": tuple(f"{step.method}: {methods_line(step)}" for step in context.recipe.steps),
        "notes": ("ablation: made to compare ways to calibrate; never accepted",) if given.ablation else (),
        "timings": {},
    }
    info = artifacts.write(context.folder.artifact, loaded, about, samples)
    rows = sum(len(batch["input_ids"]) for batch in batches)
    return {"path": "artifact", "bytes": info.bytes, "content_hash": info.content_hash, "gate_samples": rows}


def methods_line(step: Any) -> str:
    """A step as the model card says it."""
    card = steps.card(step)
    shown = ", ".join(f"{key}={value}" for key, value in step.knobs.items() if key != "path")
    where = f" on {', '.join(step.targets)}" if step.targets else ""
    return f"{card.title} ({card.year}); {shown or 'default knobs'}{where}"


def gate(context: Context) -> dict[str, Any]:
    """Reload in a fresh process and compare. Where it differs the run has no artifact to offer: what was written is
    set aside as ``artifact.refused``, and the run goes on to a report that says why."""
    from trimtab.gate import run_gate

    folder, aside = context.folder.artifact, context.folder.artifact.with_name(REFUSED)
    context.progress("gate", 0, 1)
    found = run_gate(folder if folder.exists() else aside, context.folder.state / "gate.safetensors")
    context.progress("gate", 1, 1)
    if found.passed != folder.exists():  # set aside, or back where a run that was killed in between set it aside
        (aside if found.passed else folder).rename(folder if found.passed else aside)
    samples = context.journal.ended["artifact"]["result"]["gate_samples"]
    return found.row() | {"samples": samples, "reasons": found.reasons}


def untimed(context: Context) -> dict[str, Any]:
    """In place of timing, where nothing passed the gate, or the untouched model was never in memory as a whole."""
    return {"ratios": {}, "machine": facts().row()}


def reload(context: Context) -> None:
    """From here on the run works with the artifact as it reloads, not with the model that made it."""
    context.loaded = artifacts.read(context.folder.artifact)


def seal(context: Context) -> dict[str, Any]:
    """Add the quality that was measured on the reloaded artifact to its manifest and card."""
    names = ("accuracy.", "perplexity.", "bytes.")
    rows = [row for row in whole_lines(context.folder.readings) if row["name"].startswith(names)]
    quality = [row | {"name": f"{row['when']}/{row['name']}"} for row in rows if row["when"] in ("before", "after")]
    for row in quality:
        del row["when"]
    info = artifacts.seal(context.folder.artifact, quality)
    return {"path": "artifact", "bytes": info.bytes, "content_hash": info.content_hash}


def report(context: Context) -> dict[str, Any]:
    """``result.json``, the public predictions file and the reports; then calibration state is removed."""
    from trimtab.report import render
    from trimtab.run import judge

    judge.write(context)
    render(context.folder.root)
    context.folder.forget()
    return {"report": "report.html"}
