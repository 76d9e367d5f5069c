"""What each step established, re-checked after every later one.

An invariant has an address (a host's path, or a policy's place in the list) and a predicate over what is stored. A
step that removes one must declare on its card that it consumes it; otherwise the run is ANOMALOUS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from trimtab.core.keep import Keep
from trimtab.core.linear import Host
from trimtab.core.pack import unpack
from trimtab.core.weight import Quantized, bits


@dataclass(frozen=True)
class Invariant:
    """``name`` as on the card, ``address`` where, ``expect`` the numbers it promised, ``step`` who established it."""

    name: str
    address: str
    expect: dict[str, Any]
    step: str

    def row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class State:
    """What invariants look at: every host by path, and the policies in order."""

    hosts: Mapping[str, Host]
    policies: Sequence[Keep]


def _on_grid(state: State, one: Invariant) -> str | None:
    host = state.hosts.get(one.address)
    if host is None:
        return "the layer is gone"
    w = host.w
    if not isinstance(w, Quantized):
        return f"stored as {type(w).__name__}, not on a grid"
    if (w.bits, w.group_size) != (one.expect["bits"], one.expect["group_size"]):
        return f"on a grid of {w.bits} bits, group {w.group_size}"
    if bits(w) > one.expect["stored_bits"]:
        return f"takes {bits(w)} bits where {one.expect['stored_bits']} were claimed"
    if int(unpack(w.codes, w.bits).max()) >= 2**w.bits or not bool(torch.isfinite(w.scale).all()):
        return "codes or scales outside the grid"
    return None


def _tokens_kept(state: State, one: Invariant) -> str | None:
    index = int(one.address.removeprefix("policy "))
    if index >= len(state.policies):
        return "the policy is gone"
    count = state.policies[index].budget(one.expect["of"])
    return None if count == one.expect["kept"] else f"keeps {count} of {one.expect['of']}, not {one.expect['kept']}"


PREDICATES: dict[str, Callable[[State, Invariant], str | None]] = {"on_grid": _on_grid, "tokens_kept": _tokens_kept}


def on_grid(hosts: Mapping[str, Host], step: str) -> list[Invariant]:
    """The grid of every quantized host among ``hosts``, as it is now."""
    found = []
    for path, host in hosts.items():
        if isinstance(host.w, Quantized):
            expect = {"bits": host.w.bits, "group_size": host.w.group_size, "stored_bits": bits(host.w)}
            found.append(Invariant("on_grid", path, expect, step))
    return found


def check(state: State, standing: Sequence[Invariant]) -> list[dict[str, Any]]:
    """One row per kind of invariant and step: how many hold, and the first that do not, with the reason."""
    groups: dict[tuple[str, str], list[Invariant]] = {}
    for one in standing:
        groups.setdefault((one.name, one.step), []).append(one)
    rows = []
    for (name, step), members in groups.items():
        broken = [(one.address, why) for one in members if (why := PREDICATES[name](state, one)) is not None]
        detail = f"{len(members) - len(broken)} of {len(members)} hold"
        if broken:
            detail += "; " + "; ".join(f"{address}: {why}" for address, why in broken[:3])
        rows.append({"name": name, "step": step, "holds": not broken, "detail": detail})
    return rows
