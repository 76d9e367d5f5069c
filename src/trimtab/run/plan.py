"""``trimtab plan``: what a recipe will weigh and whether its shapes fit, from the config alone, on the meta device.

It predicts the weight file's bytes and names shape problems. It does not yet predict time or memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from trimtab import methods
from trimtab.load.blank import blank
from trimtab.run.allocate import unpaid
from trimtab.run.follow import clashes, targeted
from trimtab.run.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """``bytes16`` of the model in 16 bits, ``bytes`` as the recipe leaves it (``at_most``: where a method decides by
    the weights' values, the most that it may be), ``problems`` that would stop the run."""

    model: str
    parameters: int
    bytes16: int
    bytes: int
    problems: tuple[str, ...]
    at_most: bool = False

    def row(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.bytes / self.bytes16, "feasible": not self.problems}


def plan(recipe: Recipe) -> Plan:
    """The plan of a recipe. Raises BadInput where the model's config cannot be had."""
    anatomy = blank(recipe.model, recipe.revision)
    hosts = dict(anatomy.embeddings()) | dict(anatomy.linears())
    sizes = {name: 16 * host.w.shape[0] * host.w.shape[1] for name, host in hosts.items()}
    tied = {second for _, second in anatomy.aliases()}
    problems: list[str] = []
    masked: set[str] = set()
    bounded = False
    for index, step in enumerate(recipe.steps):
        method = methods.make(step.method, step.knobs)
        if not hasattr(method, "stored"):
            continue
        names = targeted(anatomy, step, method)
        problems += unpaid(f"steps.{index}", method, [hosts[name].w for name in names])
        for name in names:
            rows, width = hosts[name].w.shape
            try:
                method.check(width, rows)
            except ValueError as error:
                problems.append(f"steps.{index}.{step.method}: {name}: {error}")
                continue
            if name not in masked or method.CARD.family != "adapt":  # there it is merged when training ends
                sizes[name] = method.stored(rows, width, sizes[name])
            bounded = bounded or method.CARD.bounded
            masked |= {name} if "masked" in method.CARD.establishes else set()
    problems += clashes(anatomy, recipe.steps)
    inside = sum(16 * h.w.shape[0] * h.w.shape[1] for name, h in hosts.items() if name not in tied)
    whole = 16 * sum(p.numel() for p in anatomy.model.parameters())
    trimmed = whole - inside + sum(size for name, size in sizes.items() if name not in tied)
    return Plan(recipe.model, whole // 16, whole // 8, trimmed // 8, tuple(problems), bounded)


def show(found: Plan) -> str:
    """The plan in a few lines."""
    lines = [
        f"model       {found.model}",
        f"            {found.parameters / 1e6:.1f} M parameters, {found.bytes16 / 1e6:.1f} MB in 16 bits",
        f"artifact    {'at most ' if found.at_most else ''}{found.bytes / 1e6:.1f} MB of weights, "
        f"{found.bytes / found.bytes16:.2f}x",
        *(f"problem     {problem}" for problem in found.problems),
        "not planned yet: time, peak memory, the two-sample rehearsal",
    ]
    return "\n".join(lines)
