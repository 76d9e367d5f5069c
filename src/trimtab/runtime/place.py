"""What answers for a loaded model here: kernels for its linears, and a plan for its decoder where there can be one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedModel

from trimtab.anatomy import Anatomy, known
from trimtab.core.heap import give_back
from trimtab.core.linear import Host, Linear
from trimtab.core.weight import Dense
from trimtab.runtime.bidirectional import TILED, look, look_away
from trimtab.runtime.held import HOLD, held_bytes
from trimtab.runtime.level import level
from trimtab.runtime.lower import LowerReport, lower
from trimtab.runtime.mlp import fuse, part
from trimtab.runtime.plan.build import planned
from trimtab.runtime.plan.engine import Engine
from trimtab.runtime.plan.verify import verify
from trimtab.runtime.release import let_go


def place(
    library: PreTrainedModel, anatomy: Callable[[], Anatomy], release: bool, streamed: bool
) -> tuple[LowerReport, Engine | None]:
    """Kernels, then the plan, which reads the same codes; with ``release`` what either has a copy of goes.
    ``streamed``: matrices are in files, where no plan reads them.

    A model that fits dense copies (``HOLD``) and stays whole keeps them for its towers, which the plan does not run,
    where the library's products of so small matrices are faster. One with more than that in dense matrices has a plan
    only where it lets them go: they would be held twice.
    """
    made = _put(library, anatomy, release, streamed)
    settle(library)
    return made


def settle(library: nn.Module) -> None:
    """What towers have beside the kernels of their linears: MLPs in one call, and attention."""
    fuse(library)
    look(library)


def unsettle(library: nn.Module) -> None:
    """The inverse."""
    part(library)
    look_away(library)


def _put(
    library: PreTrainedModel, anatomy: Callable[[], Anatomy], release: bool, streamed: bool
) -> tuple[LowerReport, Engine | None]:
    if level() is None:
        return replace(lower(library, release=release), planless="the compiled library is not built"), None
    dense = 0 if release else stored_bytes(library)
    small = not release and keeps_copies(library)
    report = lower(library, compiled=not small)
    if streamed or not known(library):
        return replace(report, planless="its matrices are in files" if streamed else "no anatomy"), None
    if dense > HOLD:
        return replace(report, planless=f"{dense / 1e6:.0f} MB of dense matrices would be held twice"), None
    engine, why = engine_for(anatomy())
    if release:
        let_go(library, report.laid if engine is None else {**report.laid, **engine.plan.laid})
        report = replace(report, laid={})  # its keys are those of weights that are gone
        give_back()
    return replace(report, planless=why), engine


def keeps_copies(library: PreTrainedModel) -> bool:
    """Whether dense copies of all its linears' matrices, and what is dense already, are ``HOLD`` bytes at most each and
    faster: where many rows of bfloat16 are multiplied in vectors they are not (docs/log.md, 2026-11-29)."""
    if level() == TILED and library.dtype == torch.bfloat16:
        return False
    hosts = [module.w for module in library.modules() if isinstance(module, Linear)]
    return stored_bytes(library) <= HOLD and held_bytes(hosts, torch.bfloat16) <= HOLD


def stored_bytes(library: PreTrainedModel) -> int:
    """Bytes of matrices as the library has them, each once: hosts' dense ones, and those that no host has yet."""
    kinds = nn.Linear | nn.Embedding
    dense = [module.w.value for module in library.modules() if isinstance(module, Host) and isinstance(module.w, Dense)]
    plain = [module.weight for module in library.modules() if isinstance(module, kinds)]
    return sum(value.nbytes for value in {id(value): value for value in (*dense, *plain)}.values())


def engine_for(anatomy: Anatomy) -> tuple[Engine | None, str]:
    """An engine that answers as ``anatomy``'s model does, or None and why there is none."""
    widest = level()
    assert widest is not None
    plan = planned(anatomy, widest)
    if isinstance(plan, str):
        return None, plan
    engine = Engine(plan)
    wrong = verify(engine)
    return (engine, "") if wrong is None else (None, wrong)
