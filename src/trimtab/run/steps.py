"""One step of a recipe applied to the model: a layer-wise method walks the blocks, others add a policy to the loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from trimtab import methods
from trimtab.anatomy import Anatomy
from trimtab.core.acts import Rounding
from trimtab.core.card import Card
from trimtab.core.linear import Host
from trimtab.quantize.mixed import Mixed
from trimtab.run import adapt, allocate, invariants, sensitivity
from trimtab.run.context import Context
from trimtab.run.invariants import Invariant, State
from trimtab.run.layers import Layers
from trimtab.run.originals import Originals
from trimtab.run.recipe import Step
from trimtab.run.walk import LayerReport, walk
from trimtab.run.weigh import maker

Rows = list[dict[str, Any]]


def key(index: int, step: Step) -> str:
    """How figures and the journal name a step: ``step 1 gptq``."""
    return f"step {index} {step.method}"


def hosts(context: Context) -> dict[str, Host]:
    """Every host of the model by path, embeddings included."""
    anatomy = context.loaded.anatomy
    return dict(anatomy.linears()) | dict(anatomy.embeddings())


def fit(context: Context, index: int, step: Step, batches: Sequence[Any]) -> tuple[Rows, list[Invariant]]:
    """A layer-wise method over the blocks, each stored as it ends; a stored block is put in place, not fitted again.

    In another arm of an ablation everything before the decoder's blocks is what the run's own way has made.
    """
    method, anatomy, label = methods.make(step.method, step.knobs), context.loaded.anatomy, key(index, step)
    if isinstance(method, Mixed):
        method = allocate.allotted(context, label, step, method, batches)
    own = Layers(context.folder.state / f"step-{index}")
    stored = own if context.arm is None else Layers(context.folder.state / f"arm-{context.arm}" / f"step-{index}")
    total = len(anatomy.blocks()) + 1
    rows: Rows = []

    def ended(at: int, reports: Sequence[LayerReport], changed: dict[str, Host]) -> None:
        made = [_row(report, label) for report in reports]
        if not stored.has(at):
            stored.put(at, {path: host.w for path, host in changed.items()}, made, rounded(anatomy, changed))
        rows.extend(made if made else (stored.get(at) or ({}, []))[1])
        context.progress(label, min(at + 1, total), total)

    def place(at: int) -> Layers:
        return own if at <= anatomy.layers().start else stored

    def done(at: int) -> Any:
        found = place(at).get(at)
        return None if found is None else found[0]

    given, known = context.recipe.calibrate, sensitivity.take(context)
    targets = step.targets if step.targets is not None else ("all-linear",)
    source = Originals(context.recipe, context.loaded.streamed) if method.CARD.wants_source else None
    walk(anatomy, batches, method, targets, ignore=step.ignore, on_layer=ended, done=done,
         inputs=lambda at: place(at).acts(at), source=source,
         unseen=given.unreached, sensitivity=known,
         make=maker(anatomy, method, context.arm or given.weigh, known))  # fmt: skip
    touched = {row["name"] for row in rows}
    changed = {path: host for path, host in hosts(context).items() if path in touched}
    return rows, [one for name in method.CARD.establishes for one in invariants.LAYERS[name](changed, label)]


def rounded(anatomy: Anatomy, changed: Mapping[str, Host]) -> dict[str, Rounding]:
    """How those of ``changed`` round their input that do; of a word table, the head that is tied to it."""
    how = {id(host.w): host.acts for _, host in anatomy.linears() if host.acts is not None}
    return {path: how[id(host.w)] for path, host in changed.items() if id(host.w) in how}


def _row(report: LayerReport, label: str) -> dict[str, Any]:
    return {"name": report.name, "part": report.part, "step": label, "error": report.error,
            "bits_per_weight": report.bits, "seen": dict(report.seen), "damp": report.damp,
            "unreached": report.unreached}  # fmt: skip


def join(context: Context, index: int, step: Step, batches: Sequence[Any]) -> tuple[Rows, list[Invariant]]:
    """A token or cache method: its policy joins the loop."""
    method = methods.make(step.method, step.knobs)
    place = f"policy {len(context.loaded.policies)}"
    context.loaded.policies = (*context.loaded.policies, method)
    return [], [invariants.kept(method.policy(), place, key(index, step))]


def adapted(context: Context, index: int, step: Step, batches: Sequence[Any]) -> tuple[Rows, list[Invariant]]:
    """A step that trains, loads or merges adapters."""
    rows = adapt.apply(context, index, key(index, step), step.method, step.knobs)
    changed = {path: host for path, host in hosts(context).items() if path in adapt.touched(rows)}
    label = key(index, step)
    made = [*invariants.on_grid(changed, label), *invariants.masked(changed, label)]
    return rows, [*made, *invariants.adapters(changed, label)]


APPLY: dict[str, Callable[[Context, int, Step, Sequence[Any]], tuple[Rows, list[Invariant]]]] = {
    "quantize": fit,
    "prune": fit,
    "factorize": fit,
    "adapt": adapted,
    "tokens": join,
    "cache": join,
}


def card(step: Step) -> Card:
    """The card of a step's method."""
    return methods.get(step.method).CARD


def state(context: Context) -> State:
    """What invariants are checked on."""
    return State(hosts(context), [method.policy() for method in context.loaded.policies])


def standing(old: Sequence[Invariant], new: Sequence[Invariant], by: Card, where: Collection[str]) -> list[Invariant]:
    """The invariants that hold from now on: the old ones but those that ``by`` consumed ``where`` it worked, and the
    new ones."""
    return [one for one in old if one.name not in by.consumes or one.address not in where] + list(new)
