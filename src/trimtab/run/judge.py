"""From figures to the verdict: one row per axis, and ``result.json`` that the report is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from trimtab import methods
from trimtab.core.errors import Anomaly
from trimtab.core.files import write_atomic
from trimtab.evaluate.ratio import Ratio, more_repeats
from trimtab.run import allocate, figures, foretold, said, sensitivity, steps
from trimtab.run.amounts import Amount
from trimtab.run.context import Context
from trimtab.run.deliver import REFUSED
from trimtab.run.verdict import EXIT, Axis, AxisName, Figure, overall, status

# Figures that are costs: their ratio to what they were decides. (axis of the verdict, name of the figure, budget key)
COSTS: tuple[tuple[AxisName, str, str | None], ...] = (
    ("size", "bytes.weights", "weights"),
    ("speed", "latency.vision.b1", None),
    ("speed", "latency.prefill.b1", None),
    ("speed", "latency.prefill.b{b}", "prefill"),
    ("speed", "latency.decode.b1", "decode"),
    ("speed", "latency.decode.b{b}", None),
    ("memory", "memory.peak", "memory"),
    ("memory", "bytes.cache.b1", "cache"),
    ("memory", "bytes.cache.b{b}", None),
)
ONE_MEASUREMENT = 0.02  # peak memory is taken once on each side; allocators differ by about so much from run to run
SAVES = {"bytes": "weights", "prefill": "prefill", "decode": "decode", "cache": "cache"}


def judge(context: Context) -> dict[str, Any]:
    """The axes, the run's verdict and its exit status."""
    budget = context.recipe.budget.amounts()
    axes = [*_quality(context, budget), *_costs(context, budget)]
    gate = context.journal.ended["gate"]["result"]
    if gate["passed"] and sum(axis.budget is not None for axis in axes) != len(budget):
        judged = ", ".join(f"{axis.figure} ({axis.budget})" for axis in axes if axis.budget is not None)
        raise Anomaly(f"budget: {', '.join(budget)} were asked for, but only these were measured: {judged or 'none'}")
    broken = [row for step in _steps(context) for row in step["invariants"] if not row["holds"]]
    ineffective, notes = _ineffective(context, budget, axes)
    ablation = context.recipe.calibrate.ablation
    verdict = overall(axes, bool(ineffective), bool(broken) or not gate["passed"], ablation)
    if not gate["passed"]:
        notes.append(f"gate: the artifact does not reload as it was: {'; '.join(gate['reasons'])}. What was written is "
                     f"in {REFUSED}; nothing was timed.")  # fmt: skip
    notes += _kernels(context.journal.ended["timing"]["result"].get("kernels"))
    notes = ineffective + notes + [f"invariant {row['name']} of {row['step']}: {row['detail']}" for row in broken]
    notes += said.unreached(_layers(context)) + said.samples(context.journal.ended["audit"]["result"])
    if figures.streamed(context):
        notes.append(said.STREAMED)
    if context.journal.ended["before"]["result"]["reused"]:
        notes.append("Answers before were taken from an earlier run with the same model, data, versions and threads; "
                     "evaluate.reuse: false asks again.")  # fmt: skip
    return {"verdict": verdict, "exit_status": EXIT[verdict], "axes": [axis.row() for axis in axes], "notes": notes}


def _quality(context: Context, budget: dict[str, Amount]) -> list[Axis]:
    rows = []
    for name, row in context.journal.ended["after"]["result"]["quality"].items():
        amount = budget.get("perplexity" if row["unit"] == "x" else "accuracy") if row["main"] else None
        figure = Figure(row["change"], row["low"], row["high"], row["same"], None)
        state = status(figure, amount.value if amount else None)
        more = row["more_samples"] if state == "INCONCLUSIVE" else None
        change = f"{row['change']:.3f}x" if row["unit"] == "x" else _points(row["change"])
        text = _sentence(name, change, amount, row["high"], row["unit"], more)
        rows.append(Axis("quality", name, state, _budget("max" if row["unit"] == "x" else "max_drop", amount),
                         row["before"], row["after"], change, row["high"], more, text))  # fmt: skip
    return rows


def _points(drop: float) -> str:
    """A drop of accuracy as a person says its change; no minus before a zero."""
    return f"{0.0 if abs(drop) < 5e-5 else -100 * drop:+.2f} points"


def _sentence(name: str, change: str, amount: Amount | None, bound: float, unit: str, more: int | None) -> str:
    if amount is None:
        return f"{name} changed by {change}."
    shown = f"{bound:.3f}x" if unit == "x" else f"{100 * bound:.2f} points"
    text = f"{name} changed by {change}; with 95 % confidence it lost at most {shown}, allowed {amount.text}."
    return text if more is None else f"{text} About {more} more samples would decide."


def _budget(key: str, amount: Amount | None) -> str | None:
    return None if amount is None else f"{key} {amount.text}"


def _costs(context: Context, budget: dict[str, Amount]) -> list[Axis]:
    rows: list[Axis] = []
    for name, (axis, key) in _named(context.recipe.measure.batch_size).items():
        base_name = "bytes.weights16" if name == "bytes.weights" else name
        before, after = context.figure("before", base_name), context.figure("after", name)
        if before is None or after is None:
            continue
        amount = budget.get(key) if key else None
        low, high = _ratio_bounds(context, name, before, after)
        ratio = after["value"] / before["value"]
        base = 1.0 if amount is None or amount.unit == "x" else before["value"]
        figure = Figure(ratio * base, low * base, high * base, base)
        state = status(figure, amount.value if amount else None)
        change = f"{ratio:.2f}x{_worse(axis) if ratio > 1 and state not in ('same', 'ACCEPTED') else ''}"
        text = f"{name}: {change} of what it was{_times(axis, ratio)}."
        more = None
        if amount is not None and state == "INCONCLUSIVE":
            more = more_repeats(Ratio(ratio, low, high), amount.value / base, before["n"])
        rows.append(Axis(axis, name, state, _budget("max", amount), before["value"], after["value"], change,
                         figure.high, more, text))  # fmt: skip
    return rows


def _worse(axis: str) -> str:
    return " SLOWER" if axis == "speed" else " larger"


def _times(axis: str, ratio: float) -> str:
    """The other way round, where it got better."""
    if ratio >= 1:
        return ""
    return f" ({1 / ratio:.2f}x {'faster' if axis == 'speed' else 'smaller'})"


def _named(batch_size: int) -> dict[str, tuple[AxisName, str | None]]:
    """Figure -> (axis, budget key); at batch 1 two rows of ``COSTS`` are one figure, which has the key of either."""
    found: dict[str, tuple[AxisName, str | None]] = {}
    for axis, pattern, key in COSTS:
        name = pattern.format(b=batch_size)
        found[name] = axis, key or found.get(name, (axis, None))[1]
    return found


def _ratio_bounds(context: Context, name: str, before: Any, after: Any) -> tuple[float, float]:
    """One-sided 95 % bounds of after / before: measured in pairs where it was timed, exact where it was counted."""
    pairs = context.journal.ended["timing"]["result"]["ratios"].get(name)
    if pairs is None:
        ratio = after["value"] / before["value"]
        reach = ONE_MEASUREMENT if name == "memory.peak" else 0.0
        return ratio * (1 - reach), ratio * (1 + reach)
    return pairs["low"], pairs["high"]


def _ineffective(context: Context, budget: dict[str, Amount], axes: list[Axis]) -> tuple[list[str], list[str]]:
    """Steps that claim a saving which was not measured: those whose saving the budget names, and the others, for whom
    it is a note."""
    found: list[str] = []
    notes: list[str] = []
    for index, step in enumerate(context.recipe.steps, 1):
        key = SAVES.get(steps.card(step).saves)
        if key is None:
            continue
        names = [pattern.format(b=context.recipe.measure.batch_size) for _, pattern, k in COSTS if k == key]
        rows = [axis for axis in axes if axis.figure in names]
        if rows and all(row.before is not None and row.after is not None and row.after >= row.before for row in rows):
            said = f"{steps.key(index, step)} claims to save {key}, and nothing was saved there: INEFFECTIVE"
            (found if key in budget else notes).append(said)
    return found, notes


def _layers(context: Context) -> list[dict[str, Any]]:
    """What was said of every layer of every step, in order."""
    ended = context.journal.ended
    return [row for index, step in enumerate(context.recipe.steps, 1)
            for row in ended[steps.key(index, step)]["result"]["layers"]]  # fmt: skip


def _steps(context: Context) -> list[dict[str, Any]]:
    rows = []
    for index, step in enumerate(context.recipe.steps, 1):
        key = steps.key(index, step)
        ended = context.journal.ended[key]
        gain = _gain(context.journal.ended[f"{key} figures"]["result"].get("gain"))
        asked = getattr(methods.make(step.method, step.knobs), "damp_percent", None)
        given = context.journal.ended.get(f"{key} allocation")
        bits = allocate.said(given["result"] if given else None)
        note = " ".join(part for part in (bits, gain, said.damping(ended["result"]["layers"], asked)) if part)
        rows.append({"index": index, "method": step.method, "knobs": step.model_dump()[step.method], "note": note,
                     "seconds": ended["result"]["seconds"], "invariants": ended["result"]["invariants"]})  # fmt: skip
    return rows


def _kernels(found: dict[str, Any] | None) -> list[str]:
    """What the linears of the artifact ran on, where any ran on a kernel."""
    if not found:
        return []
    count = found.get("simulated", 0)
    notes = [f"Simulated: {count} linears are stored as 4-bit floats, for which this CPU has no arithmetic. They are "
             "looked up and multiplied as floats, so bytes and quality are real, and times say nothing of hardware "
             "that has it."] if count else []  # fmt: skip
    if found.get("planless") == "":
        notes.append("The decoder runs by a plan: from token to logits in one call of the compiled library.")
    if not found["linears"]:
        return notes
    parts = [f"{count} linears on {name}" for name, count in found["linears"].items()]
    parts += [f"{found['reference']} on the reference"] if found["reference"] else []
    held = f" Beside the codes, dense copies of {found['held'] / 1e6:.1f} MB are held in memory, for many rows."
    return [*notes, f"Kernels: {', '.join(parts)}.{held if found['held'] else ''}"]


def _gain(found: dict[str, Any] | None) -> str:
    """What a step did to accuracy, as a sentence."""
    if found is None:
        return ""
    low, high = (f"{100 * found[end]:+.2f}" for end in ("low", "high"))
    since = "the untouched model" if found["since"] == "before" else found["since"]
    return (f"Accuracy against {since}, by pairs on {found['n']:,} samples: {100 * found['value']:+.2f} points "
            f"(95 %: {low} to {high}).")  # fmt: skip


def result(context: Context, name: str) -> dict[str, Any]:
    """Everything the report shows beside the readings."""
    ended: Callable[[str], Any] = lambda key: context.journal.ended[key]["result"]  # noqa: E731
    return {
        "format": 1, "name": name, **ended("verdict"),
        "steps": _steps(context), "audit": ended("audit"), "layers": _layers(context), "flips": ended("after")["flips"],
        "robust": ended("after")["robust"],
        "machine": ended("begin")["conditions"] | ended("timing")["machine"], "model": ended("before")["model"],
        "data": ended("before").get("data", {}),
        "artifact": ended("seal") | ({} if ended("gate")["passed"] else {"path": REFUSED}) | {"gate": ended("gate")},
        "arms": ended("arms")["arms"] if "arms" in context.journal.ended else [], "weighing": _weighing(context),
        "plan": foretold.scored(context), "unforeseen": ended("plan")["unforeseen"],
        "roofline": foretold.placed(context), "efficiency": ended("timing").get("efficiency"),
        "arithmetic": {when: ended(when).get("arithmetic") for when in ("before", "after")},
        "rehearsal": ended("rehearsal") if "rehearsal" in context.journal.ended else None,
        "seconds": context.journal.seconds(), "check": ended("check"),
    }  # fmt: skip


def _weighing(context: Context) -> list[dict[str, Any]]:
    """What an image token counted in each decoder block beside one of text, where some arm was balanced."""
    given = context.recipe.calibrate
    found = sensitivity.take(context) if given.ablation or given.weigh == "balanced" else None
    if found is None:
        return []
    return [{"block": path, "ratio": found.ratio(path)} for path in found.blocks]


def write(context: Context) -> None:
    """Write ``result.json``."""
    write_atomic(context.folder.result, json.dumps(result(context, context.name), allow_nan=False, indent=1))
